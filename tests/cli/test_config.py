"""Bad configurations: each error names file, line and key, and says what would do."""

import ast
from pathlib import Path
from typing import get_args

import pytest
from cli_factory import CONFIG, call, line_of, replaced

import jaxprof
from jaxprof.cli import messages
from jaxprof.cli.document import ConfigError, parse_document
from jaxprof.cli.messages import in_options
from jaxprof.estimators.precision import PRECISIONS
from jaxprof.inference.named_intervals import KINDS

BAD = {
    # what is wrong: (part of the configuration, what is there instead, line that has it, key, hint)
    "unknown key": ("name: tiny\n", "naem: tiny\n", "naem", "outputs.naem", "did you mean 'name'?"),
    "unknown section": ("estimator:", "estimators:", "estimators:", "estimators", "'estimator'?"),
    "unknown key, deep": ("nbin: 4", "nbins: 4", "nbins", "regions.annuli.nbins", "'nbin'?"),
    "missing key": ("    radius_max: 1.5 deg\n", "", "annuli", "regions.annuli.radius_max", "need"),
    "missing section": ("regions:", "region:", "region:", "region", "did you mean 'regions'?"),
    "wrong type": ("nbin: 4", "nbin: four", "four", "regions.annuli.nbin", "integer, got 'four'"),
    "a boolean": ("nbin: 4", "nbin: true", "true", "regions.annuli.nbin", "integer, got True"),
    "not a list": (
        *("[ul]", "ul", "selection_optional", "estimator.selection_optional"),
        "list, got 'ul'; write [ul]",
    ),
    "not a mapping": ("  folder: out\n  name: tiny\n", " 3\n", "outputs", "outputs", "keys with"),
    "bad choice": (
        *("[ul]", "[ul, scans]", "scans", "estimator.selection_optional[1]"),
        "did you mean 'scan'?",
    ),
    "bad unit": ("1.5 deg", "1.5 parsec", "parsec", "regions.annuli.radius_max", "1.5 deg"),
    "no unit": ("1.5 deg", "1.5", "1.5", "regions.annuli.radius_max", "a number with its unit"),
    "no energy": ("500 GeV", "500 deg", "500", "energy_edges[2]", "as 10 GeV"),
    "edges that fall": ("[10 GeV, 70", "[100 GeV, 70", "energy_edges", "energy_edges", "increas"),
    "one edge": ("[10 GeV, 70.710678 GeV, 500 GeV]", "[1 TeV]", "[1 TeV]", "energy_edges", "2 it"),
    "two makers": (
        *("regions:\n", "regions:\n  file: x.reg\n", "regions:", "regions", "got annuli and file"),
    ),
    "no datasets": (
        *(
            "  - path: gc.fits.gz\n    name: tiny <b>\n",
            "  []\n",
            "datasets",
            "datasets",
            "1 items",
        ),
    ),
    "missing file": ("gc.fits.gz", "other.fits", "other.fits", "datasets[0]", "no such file"),
    "folder": ("gc.fits.gz", ".", "path: .", "datasets[0]", "is a folder"),
    "unknown model": (
        *("type: PowerLaw", "type: Power", "type: Power", "spectral_model.type"),
        "did you mean 'PowerLawSpectralModel'",
    ),
    "unknown parameter": ("index", "indx", "spectral_model", "spectral_model", "no parameter"),
    "bad unit of a parameter": (
        *("cm-2 s-1 TeV-1", "cm-2", "spectral_model", "spectral_model", "amplitude"),
    ),
    "option of the other estimator": (
        *("  selection_opt", "  guard_bins: 1\n  selection_opt", "estimator", "estimator"),
        "type: forward-folded",
    ),
    "bad number": (
        *("  selection_opt", "  n_sigma: -1.0\n  selection_opt", "n_sigma", "estimator.n_sigma"),
        "positive",
    ),
    "two levels": (
        *("  selection_opt", "  cl: 0.9\n  n_sigma_ul: 3.0\n  selection_opt"),
        *("cl: 0.9", "estimator.cl", "give cl or n_sigma_ul, not both"),
    ),
    "unknown kind of limits": (
        *("  selection_opt", "  interval: feldman\n  selection_opt", "feldman"),
        *("estimator.interval", "'feldman-cousins'"),
    ),
    "limits of per-region fits": (
        "  selection_opt",
        "  type: forward-folded\n  interval: feldman-cousins\n  selection_opt",
        *("interval: feld", "estimator.interval", "bounded"),
    ),
    "bad radii": ("1.5 deg", "1e-6 deg", "1e-6", "regions.annuli.radius_max", "not above"),
    "bad name": ("name: tiny\n", "name: a/b\n", "a/b", "outputs.name", "without a folder"),
    "output folder is a file": (
        "folder: out",
        "folder: gc.fits.gz",
        "folder",
        "outputs.folder",
        "",
    ),
    "key twice": ("  name: tiny\n", "  name: tiny\n  folder: x\n", "folder: x", "folder", "before"),
}


@pytest.mark.parametrize("what", BAD)
def test_errors_name_line_and_key(folder, what):
    old, new, at, key, hint = BAD[what]
    text = replaced(old, new)
    (folder / "config.yaml").write_text(text)
    result = call("profile", "config.yaml")
    assert result.exit_code == 1, result.output
    assert result.stdout == "" and not (folder / "out").exists()
    first = text.splitlines()
    line = next(n for n, content in enumerate(first, 1) if at in content)
    found = [
        said for said in result.stderr.splitlines() if f": config.yaml:{line}: {key}: " in said
    ]
    assert found, result.stderr
    assert hint in found[0], found[0]


def test_a_key_is_named_once():
    document = parse_document("energy_edges: [1 TeV]\n", "c.yaml")
    with pytest.raises(ConfigError) as error, document.at():
        raise ValueError("energy_edges: no energy bin of the data lies between")
    assert str(error.value) == "c.yaml:1: energy_edges: no energy bin of the data lies between"


@pytest.mark.parametrize(
    "text, message",
    [
        ("datasets: [a, b\nregions: {", "config.yaml:2: not valid YAML"),
        ("a: b: c", "config.yaml:1: not valid YAML"),
        ("", "config.yaml:1: a configuration is keys with values, and this is nothing"),
        ("- 1\n- 2\n", "and this is a list"),
        ("a: !!python/object:os.system {}\n", "config.yaml:1: not valid YAML"),
        ("a: &x [*x]\n", "config.yaml:1: an alias within its own anchor"),
        ("a: \x00\n", "config.yaml:1: not valid YAML"),
        ("? [1, 2]\n: 3\n", "config.yaml:1"),
    ],
)
def test_what_is_no_yaml(folder, text, message):
    (folder / "config.yaml").write_text(text)
    result = call("profile", "config.yaml")
    assert result.exit_code == 1 and message in result.stderr, result.stderr


def test_choices_are_those_of_the_estimators():
    from jaxprof.cli.sections import Estimator

    def choices(name):
        return get_args(Estimator.model_fields[name].annotation)

    assert choices("interval") == KINDS and choices("precision") == PRECISIONS


def test_all_errors_are_said_at_once(folder):
    text = replaced("nbin: 4", "nbin: four").replace("500 GeV", "500 deg")
    (folder / "config.yaml").write_text(text)
    said = call("profile", "config.yaml").stderr.splitlines()
    assert len(said) == 2
    assert f":{line_of(text, 'four')}: " in said[0] and f":{line_of(text, '500')}: " in said[1]


def test_files_that_cannot_be_a_configuration(folder, dataset_file):
    for path, message in {
        "nothing.yaml": "no such file: nothing.yaml",
        ".": "is a folder",
        str(dataset_file): "a file of data, no configuration; `jaxprof init",
    }.items():
        result = call("profile", path)
        assert result.exit_code == 1 and message in result.stderr


def test_wrong_usage_is_exit_code_2(folder):
    for arguments in (["profile"], ["nothing"], ["plot", "x.fits", "--sed-type", "norms"], ["-x"]):
        assert call(*arguments).exit_code == 2


def test_outputs_are_not_written_over(folder):
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "out").mkdir()
    (folder / "out" / "tiny_flux.png").write_text("mine")
    result = call("profile", "config.yaml")
    assert result.exit_code == 1 and "--overwrite" in result.stderr
    assert [path.name for path in (folder / "out").iterdir()] == ["tiny_flux.png"]
    # An input is not written over even then.
    (folder / "out" / "tiny_flux.png").unlink()
    (folder / "out" / "tiny.fits").symlink_to(folder / "gc.fits.gz")
    (folder / "config.yaml").write_text(CONFIG)
    result = call("profile", "config.yaml", "--overwrite")
    assert result.exit_code == 1 and "is an input" in result.stderr
    # Nor the configuration itself.
    (folder / "tiny_config.yaml").write_text(CONFIG.replace("folder: out", "folder: ."))
    result = call("profile", "tiny_config.yaml", "--overwrite")
    assert result.exit_code == 1 and "is an input" in result.stderr


@pytest.mark.slow
def test_a_profile_is_no_dataset(folder):
    from profile_factory import make_profile

    make_profile().write("gc.fits")
    (folder / "config.yaml").write_text(CONFIG.replace("gc.fits.gz", "gc.fits"))
    result = call("profile", "config.yaml")
    assert result.exit_code == 1
    assert "config.yaml:2: datasets[0]: " in result.stderr and "a flux profile" in result.stderr


@pytest.mark.parametrize(
    ("python", "words"),
    [
        (
            'interval="bounded", "cls" or norm={"min": 0}',
            'interval: bounded, "cls" or norm: {min: 0}',
        ),
        ("use mask_policy='coverage'", "use mask_policy: coverage"),
        ("sum_over_energy_groups=True leaves", "sum_over_energy_groups: true leaves"),
        (
            "smoothness=30 leaves, likelihood='region'.",
            "smoothness: 30 leaves, likelihood: region.",
        ),
        ("selection_optional=['scan'] is", "selection_optional: [scan] is"),
        ("(sources=[SkyModel(..., free=True)], guard_bins)", "(sources, guard_bins)"),
        ("as sources=", "as sources"),
        ("ForwardFoldingProfileEstimator can", "type: forward-folded can"),
        ("p.fits exists; overwrite=True replaces it", "p.fits exists; --overwrite replaces it"),
        ("alpha=2 at b == 3", "alpha=2 at b == 3"),
        ("n_sigma=-1, cl=1e-3, background=None", "n_sigma: -1, cl: 1e-3, background: null"),
        *((own, own) for own in ("a/norm=2/x.fits", "norm=2.fits is", "column 'norm=0'")),
        *((own, own) for own in ("background=fixed", "FluxProfileEstimator.yaml: no", "norm=2x")),
    ],
)
def test_messages_are_in_the_words_of_configurations(python, words):
    assert in_options(python) == words


def test_the_sentences_that_are_put_otherwise_are_said_somewhere():
    """A sentence of the library that changes would fall out of the table without a word."""
    root = Path(jaxprof.__file__).parent
    files = [path for path in root.rglob("*.py") if path.name != "messages.py"]
    sources = [path.read_text(encoding="utf-8") for path in files]
    for sentence in messages._PHRASES:
        word = max(sentence.split(), key=len)
        texts = [
            part.value
            for source in sources
            if word in source
            for part in ast.walk(ast.parse(source))
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
        ]
        assert any(sentence in text for text in texts), sentence
