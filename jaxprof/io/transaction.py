"""Files that appear in one step: whoever looks sees the old file or the whole new one.

A file is written into a temporary folder beside it, on the same file system, and gets its name
when it is complete and on the disk:

- one that may replace another by a rename, which is one step. It takes over the permissions of
  the other and, as far as the system allows, its owner and group. New files have the
  permissions that the umask leaves;
- one that must not replace another by a hard link, which fails where the name exists already:
  of many writers one succeeds. File systems without hard links have no such step. There the name
  is taken first, by an empty file that nobody else can create, and then replaced.

A writer that is killed leaves its temporary folder. Every write into the same folder removes
such leftovers. A living writer holds a lock on its own, which the system gives up when the process
ends, however it ends, so a folder without one is a leftover. Locks may not be seen by other
hosts that share the file system, and there may be none at all; such folders, told by the host in
the name, are removed when they are a day old.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_LEFTOVER = re.compile(r"\.jaxprof-(?P<host>[0-9a-f]{8})-[a-z0-9_]+\.tmp")
_DAY = 86400.0


@contextlib.contextmanager
def transaction(final: Path, *, overwrite: bool) -> Iterator[Path]:
    """Write a file entirely or not at all.

    Yields an empty temporary folder, in which the block writes one file, under any name. When
    the block ends this file takes the final name; when it raises, the folder is removed and
    what was there before stays.

    Parameters
    ----------
    final : `~pathlib.Path`
        Final name, not a symbolic link, in a folder that exists.
    overwrite : bool
        Whether a file of that name may be replaced.

    Raises
    ------
    FileExistsError
        If a file of that name exists when the block has ended, and `overwrite` is false.
    OSError
        If the folder may not be written to, or if the block wrote nothing.
    """
    _remove_leftovers(final.parent)
    folder, lock = _temporary_folder(final.parent)
    try:
        yield folder
        written = [path for path in folder.iterdir() if path.is_file()]
        if not written:
            raise OSError(f"nothing was written to {final}")
        (temporary,) = written
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        if overwrite:
            _keep_permissions(temporary, final)
            os.replace(temporary, final)
        else:
            _take_name(temporary, final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _keep_permissions(temporary: Path, final: Path) -> None:
    """Give a file the permissions, owner and group of the one that it will replace."""
    try:
        old = os.stat(final)
    except FileNotFoundError:
        return
    # Only the superuser may give files away; members of the group may keep that.
    for owner, group in ((-1, old.st_gid), (old.st_uid, -1)):
        with contextlib.suppress(OSError, AttributeError):
            os.chown(temporary, owner, group)
    with contextlib.suppress(OSError):
        os.chmod(temporary, stat.S_IMODE(old.st_mode))


def _take_name(temporary: Path, final: Path) -> None:
    """Name a file, unless there is one of that name."""
    try:
        os.link(temporary, final)
        return
    except FileExistsError:
        raise _exists(final) from None
    except OSError:
        pass  # The file system has no hard links.
    try:
        os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        raise _exists(final) from None
    try:
        os.replace(temporary, final)
    except BaseException:
        os.unlink(final)
        raise


def _exists(final: Path) -> FileExistsError:
    return FileExistsError(f"{final} exists already, written meanwhile by another; nothing is lost")


def _temporary_folder(parent: Path) -> tuple[Path, int | None]:
    """A new folder and the descriptor that holds its lock."""
    while True:
        try:
            folder = Path(tempfile.mkdtemp(".tmp", f".jaxprof-{_HOST}-", parent))
        except OSError as error:
            message = f"cannot write into the folder {parent}: {error.strerror}"
            raise OSError(error.errno, message) from error
        with contextlib.suppress(FileNotFoundError):
            lock = _lock(folder, wait=True)
            if folder.is_dir():
                return folder, lock
            # Before it was locked, another writer took it for a leftover.
            if lock is not None:
                os.close(lock)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """Lock a folder; the lock is held until the descriptor is closed or the process ends.

    Returns None where there are no locks; raises BlockingIOError where another holds it.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_leftovers(parent: Path) -> None:
    """Remove the temporary folders of writers that were killed."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        found = [Path(entry.path) for entry in entries if _LEFTOVER.fullmatch(entry.name)]
        for folder in found:
            # Those of others, that are in use, or that another has just removed.
            with contextlib.suppress(OSError):
                _remove_leftover(folder)


def _remove_leftover(folder: Path) -> None:
    match = _LEFTOVER.fullmatch(folder.name)
    old = time.time() - os.lstat(folder).st_mtime > _DAY
    lock = _lock(folder, wait=False)
    try:
        if old or (lock is not None and match is not None and match["host"] == _HOST):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        if lock is not None:
            os.close(lock)
