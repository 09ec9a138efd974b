"""The wheel and the sdist in $JAXPROF_DIST have what they should, and nothing else."""

import os
import re
import subprocess
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DIST = os.environ.get("JAXPROF_DIST")

pytestmark = pytest.mark.skipif(not DIST, reason="$JAXPROF_DIST is not set")


def tracked(*folders):
    """Files of the checkout but those that git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders]
    options = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
    return set(subprocess.run(command, **options).stdout.split())


def test_wheel():
    (path,) = Path(DIST).glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        (info,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
        metadata = message_from_string(wheel.read(f"{info}/METADATA").decode())
        scripts = wheel.read(f"{info}/entry_points.txt").decode()
    package = {name for name in names if not name.startswith(info)}
    assert package == tracked("jaxprof")
    assert {"jaxprof/py.typed", "jaxprof/selftest.json"} < package
    assert f"{info}/licenses/LICENSE" in names
    extras = "all bench cli dev docs gammapy healpix samplers test toys"
    assert set(metadata.get_all("Provides-Extra")) == set(extras.split())
    assert "jaxprof = jaxprof.cli:main" in scripts
    source = (ROOT / "jaxprof" / "__init__.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(.*)"$', source, flags=re.M)
    assert metadata["Version"] == version and info == f"jaxprof-{version}.dist-info"


def test_sdist():
    (path,) = Path(DIST).glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        sizes = {own.name.partition("/")[2]: own.size for own in sdist.getmembers() if own.isfile()}
    folders = ("jaxprof", "tests", "benchmarks", "docs", "examples", "constraints")
    expected = {name for name in tracked() if "/" not in name or name.startswith(folders)}
    assert set(sizes) == expected | {"PKG-INFO"}
    # Neither data nor what a build left.
    kinds = {".py", ".md", ".rst", ".json", ".txt", ".css", ".toml", ".cff", ".png", ".typed", ""}
    assert {Path(name).suffix for name in sizes} <= kinds
    assert max(sizes.values()) < 400_000
