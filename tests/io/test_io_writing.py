"""How files are written: in one step, by one of many, without leftovers; names and permissions."""

import contextlib
import errno
import gzip
import os
import runpy
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from profile_factory import make_profile

from jaxprof.datasets import MapDataset
from jaxprof.io import transaction as module
from jaxprof.io.paths import atomic_write
from jaxprof.profile import FluxProfile
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap

AXIS = MapAxis.from_edges([1.0, 3.0, 10.0], name="energy", unit="TeV", interp="log")
GEOM = WcsGeom.create(skydir=(83.63, 22.01), npix=(5, 4), binsz=0.1, axes=[AXIS])

# A writer in a process of its own, without the package, which takes seconds to import.
WRITER = f"""
import pathlib, runpy, sys
transaction = runpy.run_path({module.__file__!r})["transaction"]
def write(name, text, overwrite):
    with transaction(pathlib.Path(name), overwrite=overwrite) as folder:
        (folder / "file").write_text(text[:3])
        print("half", flush=True)
        sys.stdin.readline()
        (folder / "file").write_text(text)
"""


def writer(commands, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER + commands, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def dataset(value=1):
    return MapDataset(counts=WcsNDMap(GEOM, np.full((2, 4, 5), value)), name=f"number {value}")


def no_links(*args, **kwargs):
    raise OSError(errno.EPERM, "Operation not permitted")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path, text="new", **kwargs):
    with atomic_write(path, **kwargs) as temporary:
        temporary.write_text(text)


# One of many


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("kind", ["dataset", "profile", "text"])
def test_one_of_many_threads_writes(tmp_path, monkeypatch, kind, links):
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "a.fits"
    barrier = threading.Barrier(8)
    profile = make_profile(scan=False)

    def attempt(number):
        barrier.wait()
        try:
            if kind == "dataset":
                dataset(number).write(path)
            elif kind == "profile":
                FluxProfile.write(profile, path)
            else:
                write(path, f"number {number}")
        except FileExistsError as error:
            assert "exists already" in str(error)
            return None
        return f"number {number}"

    with ThreadPoolExecutor(8) as pool:
        (winner,) = [name for name in pool.map(attempt, range(8)) if name is not None]
    if kind == "dataset":
        assert MapDataset.read(path).name == winner
    elif kind == "text":
        assert path.read_text() == winner
    assert names(tmp_path) == ["a.fits"]


def test_writers_of_other_names_do_not_disturb(tmp_path):
    """Nobody takes the folder of a living writer for a leftover, new as it may be."""
    barrier = threading.Barrier(8)

    def attempt(number):
        barrier.wait()
        for turn in range(40):
            write(tmp_path / f"{number}-{turn}", f"{number} {turn}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, range(8)))
    assert len(names(tmp_path)) == 320
    assert (tmp_path / "7-39").read_text() == "7 39"


def test_one_of_many_processes_writes(tmp_path):
    """All hold a complete file when the first takes the name."""
    commands = """
name, text = sys.argv[1:]
try:
    write(name, text, False)
    print("written")
except FileExistsError:
    print("exists")
"""
    texts = [f"process {number}" for number in range(6)]
    processes = [writer(commands, tmp_path / "a.fits", text) for text in texts]
    for process in processes:
        assert process.stdout.readline() == "half\n"
    assert len(names(tmp_path)) == 6 and not (tmp_path / "a.fits").exists()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].strip() for process in processes]
    assert sorted(said) == ["exists"] * 5 + ["written"]
    assert (tmp_path / "a.fits").read_text() == texts[said.index("written")]
    assert names(tmp_path) == ["a.fits"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_stays(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "a.fits"
    with (
        pytest.raises(FileExistsError, match=r"a\.fits exists already, written meanwhile"),
        atomic_write(path) as temporary,
    ):
        temporary.write_text("late")
        path.write_text("early")
    assert path.read_text() == "early" and names(tmp_path) == ["a.fits"]


def test_a_name_that_was_taken_in_vain_is_free_again(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "replace", no_links)
    with pytest.raises(OSError, match="not permitted"):
        write(tmp_path / "a.fits")
    assert names(tmp_path) == []


def test_nobody_sees_half_a_file(tmp_path):
    path = tmp_path / "a.fits"
    contents = {letter * 300_000 for letter in "ab"}
    write(path, "a" * 300_000)
    seen, done = set(), threading.Event()

    def look():
        while not done.is_set():
            seen.add(path.read_text())

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        for number in range(60):
            with atomic_write(path, overwrite=True) as temporary, open(temporary, "w") as stream:
                for _ in range(3):
                    stream.write("ab"[number % 2] * 100_000)
                    stream.flush()
        done.set()
        looking.result()
    assert seen and seen <= contents


# Killed writers


def test_leftovers_of_a_killed_writer_go_with_the_next_write(tmp_path):
    path = tmp_path / "a.fits"
    path.write_text("old")
    process = writer("write(sys.argv[1], 'never', True)", path)
    process.stdout.readline()
    (leftover,) = set(names(tmp_path)) - {"a.fits"}
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert path.read_text() == "old" and names(tmp_path) == [leftover, "a.fits"]
    assert (tmp_path / leftover / "file").read_text() == "nev"
    dataset().write(path, overwrite=True)
    assert names(tmp_path) == ["a.fits"]


def test_a_living_writer_is_left_alone(tmp_path):
    path = tmp_path / "a.fits"
    process = writer("write(sys.argv[1], 'at last', True)", path)
    process.stdout.readline()
    (folder,) = tmp_path.iterdir()
    os.utime(folder, (0, 0))  # However long it takes.
    for text in ("one", "two"):
        write(path, text, overwrite=True)
        assert path.read_text() == text and names(tmp_path) == [folder.name, "a.fits"]
    process.communicate("go\n")
    assert path.read_text() == "at last" and names(tmp_path) == ["a.fits"]


@pytest.mark.parametrize("locks", [True, False])
def test_other_hosts_and_other_folders(tmp_path, monkeypatch, locks):
    """Locks may not be seen across hosts, so age decides; what is not ours is not touched."""
    host = runpy.run_path(module.__file__)["_HOST"]
    here, other = f".jaxprof-{host}-abcd_123.tmp", ".jaxprof-00000000-abcd_123.tmp"
    own = (".jaxprof-settings", ".jaxprof-00000000.tmp", f"a.jaxprof-{host}-abcd_123.tmp")
    if not locks:
        monkeypatch.setattr(module, "fcntl", None)

    def make(age, *folders):
        for name in folders:
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "file").write_text("half")
            os.utime(tmp_path / name, (time.time() - age,) * 2)

    make(3600, here, other)
    make(1e7, *own)
    write(tmp_path / "a")
    assert set(names(tmp_path)) == {"a", other, *own, *([] if locks else [here])}
    make(90_000, here, other)
    write(tmp_path / "a", overwrite=True)
    assert set(names(tmp_path)) == {"a", *own}


def test_a_link_with_the_name_of_a_leftover_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    name = f".jaxprof-{module._HOST}-abcd_123.tmp"
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).symlink_to(precious)
    write(folder / "a")
    assert (precious / "file").read_text() == "precious" and names(folder) == [name, "a"]


# Links, permissions


def test_symbolic_links_are_followed(tmp_path):
    store, links = tmp_path / "store", tmp_path / "links"
    store.mkdir()
    links.mkdir()
    (links / "a.fits").symlink_to("b.fits")
    (links / "b.fits").symlink_to("../store/c.fits")
    # The first write creates the file that the links promise.
    for value, overwrite in ((1, False), (2, True)):
        dataset(value).write(links / "a.fits", overwrite=overwrite)
        assert (links / "a.fits").is_symlink() and (links / "b.fits").is_symlink()
        assert not (store / "c.fits").is_symlink()
        assert MapDataset.read(store / "c.fits").name == f"number {value}"
    with pytest.raises(FileExistsError, match=r"a\.fits exists already; overwrite=True"):
        dataset(3).write(links / "a.fits")
    assert MapDataset.read(links / "a.fits").name == "number 2"
    assert names(store) == ["c.fits"] and names(links) == ["a.fits", "b.fits"]


def test_links_that_lead_nowhere(tmp_path):
    (tmp_path / "loop.fits").symlink_to("loop.fits")
    (tmp_path / "lost.fits").symlink_to("none/a.fits")
    (tmp_path / "folder.fits").symlink_to(".")
    for overwrite in (True, False):
        with pytest.raises(OSError, match=r"loop\.fits is a symbolic link that leads to itself"):
            dataset().write(tmp_path / "loop.fits", overwrite=overwrite)
        with pytest.raises(FileNotFoundError, match=r"no such folder: .*none \(.*lost\.fits is a"):
            dataset().write(tmp_path / "lost.fits", overwrite=overwrite)
        with pytest.raises(IsADirectoryError, match=r"folder\.fits is a folder"):
            dataset().write(tmp_path / "folder.fits", overwrite=overwrite)
    assert all(path.is_symlink() for path in tmp_path.iterdir()) and len(names(tmp_path)) == 3


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("kept", [0o640, 0o600, 0o664, 0o444])
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions(tmp_path, kept, umask):
    before = os.umask(umask)
    try:
        dataset().write(tmp_path / "a.fits")
        make_profile().write(tmp_path / "p.ecsv")
        for name in ("a.fits", "p.ecsv"):
            assert mode(tmp_path / name) == 0o666 & ~umask
            os.chmod(tmp_path / name, kept)
        dataset().write(tmp_path / "a.fits", overwrite=True)
        make_profile().write(tmp_path / "p.ecsv", overwrite=True)
    finally:
        os.umask(before)
    assert mode(tmp_path / "a.fits") == mode(tmp_path / "p.ecsv") == kept


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root gives files away")
def test_owner_and_group(tmp_path, monkeypatch):
    path = tmp_path / "a.fits"
    path.write_text("old")
    os.chown(path, 1234, 5678)
    os.chmod(path, 0o4640)
    write(path, overwrite=True)
    found = os.stat(path)
    assert (found.st_uid, found.st_gid, mode(path)) == (1234, 5678, 0o4640)
    # Without the right to do so the permissions are kept all the same.
    monkeypatch.setattr(os, "chown", no_links)
    write(path, "newer", overwrite=True)
    assert path.read_text() == "newer" and mode(path) == 0o4640 and os.stat(path).st_uid == 0


# Names


@pytest.mark.parametrize("name", ["a.fits.gz", "A.FITS.GZ", "a.Fits.gZ", "a.fits", "A.FITS"])
def test_gzip_when_the_name_says_so(tmp_path, name):
    path = tmp_path / name
    compressed = name.lower().endswith("gz")
    dataset(7).write(path)
    assert path.read_bytes().startswith(b"\x1f\x8b" if compressed else b"SIMPLE")
    assert MapDataset.read(path).name == "number 7"
    if compressed:
        assert gzip.decompress(path.read_bytes()).startswith(b"SIMPLE")
    profile = make_profile(scan=False)
    profile.write(path, overwrite=True)
    assert path.read_bytes().startswith(b"\x1f\x8b" if compressed else b"SIMPLE")
    np.testing.assert_array_equal(FluxProfile.read(path).norm, profile.norm)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize(
    "name", ["a.fits.bz2", "a.fits.zip", "a.fits.xz", "a.hdf5", "a.gz", "a", "fits", "a.fits.GZ.x"]
)
def test_other_endings_are_refused(tmp_path, name):
    for value, valid in (
        (dataset(), ".fits, .fits.gz"),
        (make_profile(), ".fits, .fits.gz, .ecsv"),
    ):
        with pytest.raises(
            ValueError, match=f"{name}' has an unknown extension; valid are {valid}"
        ):
            value.write(tmp_path / name)
    assert names(tmp_path) == []


def test_clear_errors_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "folder.fits").mkdir()
    (tmp_path / "there.fits").write_text("precious")
    (tmp_path / "file").write_text("")

    def work(*args, **kwargs):
        raise AssertionError("too late")

    monkeypatch.setattr("jaxprof.io.mapdataset.map_to_hdus", work)
    monkeypatch.setattr("jaxprof.io.fluxprofile.profile_to_table", work)
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    for name, error, message in (
        ("folder.fits", IsADirectoryError, r"folder\.fits is a folder, not a file"),
        ("there.fits", FileExistsError, r"there\.fits exists already; overwrite=True"),
        ("none/a.fits", FileNotFoundError, r"no such folder: .*none"),
        ("$NO_SUCH_VARIABLE/a.fits", FileNotFoundError, r"variable \$NO_SUCH_VARIABLE is not set"),
        ("file/a.fits", OSError, "file"),
        ("a\0b.fits", ValueError, r"path .*a\\x00b\.fits' has a NUL character"),
        ("", ValueError, "must not be empty"),
        ("x" * 300 + ".fits", OSError, "too long"),
    ):
        path = f"{tmp_path}/{name}" if name else ""
        for value in (dataset(), make_profile()):
            with pytest.raises(error, match=message):
                value.write(path)
    assert names(tmp_path) == ["file", "folder.fits", "there.fits"]
    assert (tmp_path / "there.fits").read_text() == "precious"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFO here")
@pytest.mark.parametrize("overwrite", [True, False])
def test_pipes_are_neither_written_nor_replaced(tmp_path, overwrite):
    os.mkfifo(tmp_path / "a.fits")
    with pytest.raises(OSError, match=r"a\.fits is not a regular file"):
        dataset().write(tmp_path / "a.fits", overwrite=overwrite)
    assert stat.S_ISFIFO(os.stat(tmp_path / "a.fits").st_mode)


def test_folders_that_may_not_be_written_to(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(PermissionError, match="cannot write into the folder .*: Permission denied"):
        dataset().write(tmp_path / "a.fits")


def test_the_longest_name(tmp_path):
    name = "x" * 250 + ".fits"
    with contextlib.suppress(OSError):
        (tmp_path / name).write_text("")  # Some file systems take less.
        dataset().write(tmp_path / name, overwrite=True)
        assert MapDataset.read(tmp_path / name).name == "number 1"
    dataset().write(tmp_path / f"{249 * 'd'}.fits", overwrite=True)
    assert len(names(tmp_path)) == 2


def test_writing_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset().write("a.fits")
    with pytest.raises(FileExistsError):
        dataset().write(b"a.fits")
    assert names(tmp_path) == ["a.fits"]
