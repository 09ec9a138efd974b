"""Names of files: expansion, extensions, existence; what may be written where."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from jaxprof.io.transaction import transaction

_ONE_WRITER = threading.RLock()


def expand_path(path: str | os.PathLike[str]) -> Path:
    """Expand ``$VARIABLES`` and ``~`` in a path.

    Parameters
    ----------
    path : str or path-like
        Unknown variables stay as they are.

    Returns
    -------
    path : `~pathlib.Path`

    Raises
    ------
    ValueError
        If the path is empty or has a NUL character, which no file system takes.
    """
    text = os.fsdecode(path)
    if not text:
        raise ValueError("path must not be empty")
    if "\0" in text:
        raise ValueError(f"path {text!r} has a NUL character, which no name of a file may have")
    return Path(os.path.expandvars(text)).expanduser()


def existing_file(path: str | os.PathLike[str]) -> Path:
    """Expand a path and make sure that it is a file.

    Raises
    ------
    FileNotFoundError
        If it does not exist; the message names the path and every variable in it that
        is not set.
    IsADirectoryError
        If it is a folder.
    """
    expanded = expand_path(path)
    if expanded.is_dir():
        raise IsADirectoryError(f"{expanded} is a folder, not a file")
    if not expanded.exists():
        raise FileNotFoundError(f"no such file: {expanded}{_unset_variables(expanded)}")
    return expanded


def _unset_variables(expanded: Path) -> str:
    names = re.findall(r"\$\{?(\w+)\}?", str(expanded))
    unset = sorted({name for name in names if name not in os.environ})
    return "".join(f"; the environment variable ${name} is not set" for name in unset)


def known_extension(path: str | os.PathLike[str], extensions: Iterable[str]) -> str:
    """Extension of a filename, in lower case.

    Parameters
    ----------
    path : str or path-like
        Upper and lower case are alike.
    extensions : iterable of str
        Those that are known, in lower case, such as ".fits" and ".fits.gz".

    Raises
    ------
    ValueError
        For another extension or none; the message lists those that are known.
    """
    name = expand_path(path).name.lower()
    valid = list(extensions)
    for extension in valid:
        if name.endswith(extension):
            return extension
    raise ValueError(
        f"filename {os.fspath(path)!r} has an unknown extension; valid are {', '.join(valid)}"
    )


def stem(name: str) -> str:
    """Name of a file of this package without its extension, "a" of "a.fits.gz"."""
    return re.sub(r"(?i)\.(fits?(\.gz)?|ecsv)$", "", name)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Write a file entirely or not at all.

    Yields a temporary name, with the same extensions. When the block ends the temporary file
    takes the final name; when it raises, the temporary file is removed and what was there
    before stays. See `jaxprof.io.transaction` for what happens in between.

    Parameters
    ----------
    path : str or path-like
        Final name; ``$VARIABLES`` and ``~`` are expanded. A symbolic link stays, and the file
        that it leads to is written, also if there is none yet.
    overwrite : bool
        Whether an existing file may be replaced. Without, a file that appears while the block
        runs is not replaced either: of many writers of one name exactly one succeeds.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false; before the block, or after it.
    FileNotFoundError
        If the folder does not exist.
    IsADirectoryError
        If the path is a folder.
    PermissionError
        If the folder may not be written to.
    OSError
        If the path is a device or the like, or a link that leads to itself.
    """
    given = expand_path(path)
    final = _target(given)
    exists = _is_regular(final, given)
    if exists and not overwrite:
        raise FileExistsError(f"{given} exists already; overwrite=True replaces it")
    # astropy parses formats with ast, which threads of CPython 3.11 cannot do at the same time.
    with _ONE_WRITER, transaction(final, overwrite=overwrite) as folder:
        # Writers choose the format from the extension, and know .gz in lower case only.
        temporary = folder / given.with_suffix(given.suffix.lower()).name
        yield temporary


def _target(given: Path) -> Path:
    """The file that a path leads to through all symbolic links, in a folder that exists."""
    if given.is_dir():
        raise IsADirectoryError(f"{given} is a folder, not a file")
    final = Path(os.path.realpath(given)) if given.is_symlink() else given
    if final.is_symlink():
        raise OSError(f"{given} is a symbolic link that leads to itself")
    if not final.parent.is_dir():
        link = f" ({given} is a symbolic link into it)" if given.is_symlink() else ""
        hint = _unset_variables(final.parent)
        raise FileNotFoundError(f"no such folder: {final.parent}{link}{hint}")
    return final


def _is_regular(final: Path, given: Path) -> bool:
    """Whether there is a regular file."""
    try:
        mode = os.stat(final).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        raise OSError(f"{given} is not a regular file, and not replaced by one")
    return True
