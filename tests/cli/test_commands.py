"""What the commands do with good input, and with bad files."""

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_factory import CONFIG, call, replaced

import jaxprof
from jaxprof.io.kinds import read_file
from jaxprof.profile import FluxProfile

ROOT = str(Path(jaxprof.__file__).parent.parent)
DOCS = Path(__file__).parent.parent.parent / "docs" / "command_line.md"


def process(*arguments, **variables):
    """Run Python in a process that finds this jaxprof from any folder."""
    environment = os.environ | {"PYTHONPATH": ROOT} | variables
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def test_init_proposes_what_can_be_loaded(folder):
    from jaxprof.cli.build import make_estimator, make_regions, read_datasets
    from jaxprof.cli.config import load_config

    result = call("init", "gc.fits.gz", "-o", "config.yaml")
    assert result.exit_code == 0 and result.stdout == "config.yaml\n", result.stderr
    assert call("init", "gc.fits.gz", "-o", "config.yaml").exit_code == 1
    assert call("init", "gc.fits.gz").stdout == Path("config.yaml").read_text()
    loaded = load_config("config.yaml")
    datasets = read_datasets(loaded)
    regions = make_regions(loaded, datasets)
    estimator = make_estimator(loaded, datasets, regions)
    inside = [
        datasets[0].geom.holds(*datasets[0].geom.pixel_coordinates(r.center)) for r in regions
    ]
    assert len(regions) >= 2 and np.all(inside)
    edges = datasets[0].energy_axis.edges.to_value("TeV")
    distance = np.abs(np.log(estimator.energy_edges.to_value("TeV")[:, None] / edges))
    assert distance.min(axis=1).max() < 1e-3  # four digits
    assert all(f"\n{key}:" in Path("config.yaml").read_text() for key in loaded.resolved())


def test_an_on_off_dataset_is_known_as_one(folder):
    from jaxprof.cli.initial import initial_config

    dataset = read_file("gc.fits.gz")
    background = dataset.background
    parts = {"counts": dataset.counts, "exposure": dataset.exposure, "edisp": dataset.edisp}
    parts |= {"counts_off": background.copy(data=np.full(background.data.shape, 5.0))}
    parts |= {"acceptance": background.copy(data=np.ones(background.data.shape))}
    parts |= {"acceptance_off": background.copy(data=np.full(background.data.shape, 4.0))}
    jaxprof.MapDatasetOnOff(**parts).write("on_off.fits")
    found = read_file("on_off.fits", name="mine")
    assert type(found) is jaxprof.MapDatasetOnOff and found.name == "mine"
    assert "likelihood is then per region" in initial_config(found, "on_off.fits")


@pytest.mark.parametrize("command", ["info", "plot", "init"])
def test_files_that_are_damaged(folder, command):
    content = Path("gc.fits.gz").read_bytes()
    Path("cut.fits.gz").write_bytes(content[: len(content) // 2])
    Path("text.fits").write_text("no FITS")
    Path("other.txt").write_text("nothing")
    for path in ("cut.fits.gz", "text.fits", "other.txt", "none.fits"):
        result = call(command, path)
        assert result.exit_code == 1 and path in result.stderr, result.stderr
        assert result.stderr.startswith("jaxprof: error: ") and result.stdout == ""


@pytest.mark.parametrize("command", ["info", "plot", "init"])
def test_a_configuration_is_no_file_of_data(folder, command):
    Path("config.yaml").write_text("datasets: []")
    result = call(command, "config.yaml")
    assert result.exit_code == 1 and "`jaxprof profile config.yaml` makes" in result.stderr


def test_info_of_a_dataset(folder):
    result = call("info", "gc.fits.gz")
    assert result.exit_code == 0 and "30 x 24 pixels, 6 x 4.8 deg" in result.stdout
    assert re.search(r"Map centre +: (0|360), 0 deg", result.stdout)
    assert call("plot", "gc.fits.gz").exit_code == 1


def test_without_the_extra(monkeypatch, capsys):
    import jaxprof.cli

    monkeypatch.setitem(sys.modules, "click", None)
    monkeypatch.delitem(sys.modules, "jaxprof.cli.app", raising=False)
    monkeypatch.delattr(jaxprof.cli, "app", raising=False)
    with pytest.raises(SystemExit) as error:
        jaxprof.cli.main()
    assert error.value.code == 1 and 'pip install "jaxprof[cli]"' in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_and_what_it_writes(folder):
    Path("config.yaml").write_text(replaced("[ul]", "[ul, scan]"))
    result = call("profile", "config.yaml", "--progress")
    assert result.exit_code == 0, result.stderr
    assert "[3/5] fit 3 bins: " in result.stderr and "[3/5]" not in result.stdout
    written = [Path(line) for line in result.stdout.splitlines()]
    assert sorted(written) == sorted(Path("out").iterdir())
    names = {path.name.removeprefix("tiny") for path in written}
    figures = {"_flux.png", "_counts.png", "_map.png", "_scan_0.png", "_scan_1.png"}
    reports = {"_report.html", "_config.yaml", "_provenance.json"}
    assert names == {".fits", ".ecsv", ".csv"} | figures | reports
    profile = read_file("out/tiny.fits")
    # Scans follow the errors, so that none misses its best norm.
    scan = profile.norm_scan
    assert np.all((scan[..., 0] < profile.norm) & (profile.norm < scan[..., -1]))
    with open("out/tiny.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6 and rows[1]["group"] == "1" and rows[1]["bin"] == "0"
    column = next(name for name in rows[0] if name.startswith("flux ["))
    flux = [float(row[column]) for row in rows]
    np.testing.assert_allclose(flux, profile.flux.value.ravel(), rtol=1e-12)
    record = json.loads(Path("out/tiny_provenance.json").read_text())
    (source,) = record["inputs"]
    assert source["sha256"] == hashlib.sha256(Path("gc.fits.gz").read_bytes()).hexdigest()
    assert record["bins"] == {"ok": 6} and "jax" in record["versions"]
    assert record["config_as_given"] == Path("config.yaml").read_text()
    # The same once more is refused; the configuration that was written gives the same.
    assert call("profile", "config.yaml").exit_code == 1
    again = call("profile", "out/tiny_config.yaml", "-o", "again", "-q")
    assert again.exit_code == 0 and again.stderr == ""
    np.testing.assert_array_equal(read_file("again/tiny.fits").norm, profile.norm)


@pytest.mark.slow
def test_a_forward_folded_run(folder):
    text = replaced(
        "  selection_optional: [ul]\n",
        "  type: forward-folded\n  guard_bins: 1\n  background: 0.03\n  sources:\n"
        "    - name: far\n      position: {lon: 359 deg, lat: 1 deg}\n"
        "      spectral_model: {type: pl}\n",
    ).replace("[10 GeV, 70.710678 GeV, 500 GeV]", "[10 GeV, 500 GeV]")
    Path("config.yaml").write_text(text)
    result = call("profile", "config.yaml")
    assert result.exit_code == 0, result.stderr
    profile = read_file("out/tiny.fits")
    assert profile.correlation.shape == (1, 3, 3) and "tiny_correlation.png" in result.stdout
    assert "norm of far" in list(profile.nuisance["parameter"])


@pytest.mark.slow
def test_some_bins_fail(folder):
    """A circle off the map: all is written, exit code 3, and the report says what it means."""
    regions = "galactic\n" + "".join(f"circle({lon},0,0.5)\n" for lon in (0, 1, 10))
    Path("three.reg").write_text(regions)
    head, _, rest = CONFIG.partition("  annuli:")
    Path("config.yaml").write_text(
        head + "  file: three.reg\n" + rest[rest.index("energy_edges") :]
    )
    result = call("profile", "config.yaml")
    assert result.exit_code == 3, result.stderr
    assert "warning: " in result.stderr and "some bins have no estimate" in result.stderr
    profile = read_file("out/tiny.fits")
    assert profile.success[:, 0].tolist() == [True, True, False]
    page = Path("out/tiny_report.html").read_text()
    assert "fully masked (2)" in page and "No unmasked pixel lies in this bin" in page
    quiet = call("profile", "config.yaml", "--overwrite", "--quiet")
    assert quiet.exit_code == 3 and quiet.stderr == ""


@pytest.mark.slow
def test_plot_and_convert(folder):
    from profile_factory import make_profile

    profile = make_profile()
    profile.write("a.fits")
    result = call("plot", "a.fits", "--sed-type", "eflux")
    assert result.exit_code == 0 and result.stdout == "a_eflux.png\n", result.stderr
    assert Path("a_eflux.png").read_bytes().startswith(b"\x89PNG")
    assert call("plot", "a.fits", "--sed-type", "eflux").exit_code == 1
    assert call("plot", "a.fits", "-o", "a.bmp").exit_code == 1
    for axis in ("energy", "region-index"):
        assert call("plot", "a.fits", "-o", f"{axis}.pdf", "--axis", axis).exit_code == 0
    assert "--overwrite replaces it" in call("plot", "a.fits", "-o", "energy.pdf").stderr
    assert call("plot", "a.fits", "--group", "0", "-o", "one.png").exit_code == 0
    assert "--group 2: there are 2, counted from 0" in call("plot", "a.fits", "--group", "2").stderr
    assert "choose a --group" in call("plot", "a.fits", "--scan", "-o", "scan.png").stderr
    for name in ("b.ecsv", "b.csv", "b.fits.gz", "b.tex", "b.txt"):
        result = call("convert", "a.fits", name, "--sed-type", "eflux")
        assert result.exit_code == 0 and result.stdout == f"{name}\n", result.stderr
        assert call("convert", "a.fits", name).exit_code == 1
    profile.write("c.csv", sed_type="eflux")
    assert Path("c.csv").read_bytes() == Path("b.csv").read_bytes()  # one layout
    for name in ("b.ecsv", "b.fits.gz"):
        found = read_file(name)
        assert isinstance(found, FluxProfile)
        np.testing.assert_array_equal(found.norm, profile.norm)
    assert "flux" in call("info", "a.fits").stdout


# What is wrong: (arguments, exit code, what is said); test_config has many more of each kind.
AS_A_PROCESS = {
    "unknown key": (["profile", "key.yaml"], 1, r"key\.yaml:\d+: regions\.annuli\.nbni: .* 'nbin'"),
    "missing key": (
        ["profile", "missing.yaml"],
        1,
        r"missing\.yaml:\d+: regions\.annuli\.radius_max: ",
    ),
    "wrong type": (["profile", "type.yaml"], 1, r"type\.yaml:\d+: .*nbin: .*integer, got 'four'"),
    "wrong unit": (["profile", "unit.yaml"], 1, r"unit\.yaml:\d+: energy_edges\[2\]: "),
    "no YAML": (["profile", "gc.fits.gz"], 1, "a file of data, no configuration"),
    "no configuration": (["profile", "none.yaml"], 1, r"no such file: none\.yaml"),
    "no dataset": (["profile", "file.yaml"], 1, r"file\.yaml:\d+: datasets\[0\]: .*no such file"),
    "damaged dataset": (["profile", "damaged.yaml"], 1, r"datasets\[0\]: .*cut\.fits\.gz"),
    "damaged file": (["info", "cut.fits.gz"], 1, r"cut\.fits\.gz: "),
    "no profile": (["plot", "gc.fits.gz"], 1, "a dataset, not a flux profile"),
    "a file that exists": (["init", "gc.fits.gz", "-o", "key.yaml"], 1, r"key\.yaml"),
    "no argument": (["profile"], 2, "Missing argument 'CONFIG'"),
    "unknown choice": (["plot", "x.fits", "--sed-type", "norms"], 2, "'norms' is not one of"),
}


@pytest.mark.slow
def test_what_is_wrong_as_a_process(folder):
    content = Path("gc.fits.gz").read_bytes()
    Path("cut.fits.gz").write_bytes(content[: len(content) // 2])
    for name, (old, new) in {
        "key": ("nbin: 4", "nbni: 4"),
        "missing": ("    radius_max: 1.5 deg\n", ""),
        "type": ("nbin: 4", "nbin: four"),
        "unit": ("500 GeV", "500 deg"),
        "file": ("gc.fits.gz", "other.fits"),
        "damaged": ("gc.fits.gz", "cut.fits.gz"),
    }.items():
        Path(f"{name}.yaml").write_text(replaced(old, new))
    before = sorted(Path().iterdir())
    for what, (arguments, code, message) in AS_A_PROCESS.items():
        result = process("-m", "jaxprof", *arguments)
        assert result.returncode == code and result.stdout == "", (what, result)
        assert re.search(message, result.stderr), (what, result.stderr)
        assert "Traceback" not in result.stderr, what
        lines = result.stderr.splitlines()
        assert code == 2 or all(line.startswith("jaxprof: error: ") for line in lines), what
    assert sorted(Path().iterdir()) == before


@pytest.mark.slow
def test_a_run_as_a_process(folder):
    """Paths on stdout, progress on stderr; with --quiet no word but the paths."""
    assert process("-m", "jaxprof", "--version").stdout.startswith("jaxprof, version ")
    Path("config.yaml").write_text(CONFIG)
    result = process("-m", "jaxprof", "profile", "config.yaml", "--progress")
    assert result.returncode == 0, result.stderr
    assert all(Path(line).is_file() for line in result.stdout.splitlines())
    assert re.findall(r"\[(\d)/5\]", result.stderr)[0] == "1" and "[5/5]" in result.stderr
    # A reader that has enough, such as `head`, is no error to speak of.
    command = [sys.executable, "-m", "jaxprof", "info", "out/tiny.fits"]
    environment = os.environ | {"PYTHONPATH": ROOT}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as info:
        info.stdout.close()
        assert info.stderr.read() == b""
    quiet = process("-m", "jaxprof", "profile", "config.yaml", "-q", "--overwrite")
    assert quiet.returncode == 0 and quiet.stderr == "" and quiet.stdout == result.stdout


@pytest.mark.slow
def test_completion(folder):
    ready = {"_JAXPROF_COMPLETE": "bash_complete", "COMP_WORDS": "jaxprof pr", "COMP_CWORD": "1"}
    result = process("-c", "from jaxprof.cli import main; main()", **ready)
    assert result.stdout.split() == ["plain,profile"]


@pytest.mark.slow
@pytest.mark.skipif(not DOCS.is_file(), reason="no docs beside the tests")
def test_the_page(folder):
    """The commands of the page run, in the order of the page, and write what it says."""
    text = DOCS.read_text(encoding="utf-8")
    commands = [
        line.split()[1:]
        for part in re.findall(r"```console\n(.*?)```", text, flags=re.S)
        for line in part.splitlines()
    ]
    assert len(commands) == 6
    for command in commands:
        result = call(*command)
        assert result.exit_code == 0, (command, result.stderr)
    for name in re.findall(r"`(out/\S+?)`", text):
        assert Path(name).is_file(), name
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.S)
    Path("page.yaml").write_text(block)
    result = call("profile", "page.yaml")
    assert result.exit_code == 0 and Path("folded/profile_report.html").is_file(), result.stderr
