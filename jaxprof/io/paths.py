"""Names of files: expansion, existence, and writing in one step."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path


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
        If the path is empty.
    """
    text = os.fspath(path)
    if not text:
        raise ValueError("path must not be empty")
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
        names = re.findall(r"\$\{?(\w+)\}?", str(expanded))
        unset = sorted({name for name in names if name not in os.environ})
        hint = "".join(f"; the environment variable ${name} is not set" for name in unset)
        raise FileNotFoundError(f"no such file: {expanded}{hint}")
    return expanded


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Write a file entirely or not at all.

    Yields a temporary name in the same folder, with the same extensions. When the block
    ends the temporary file takes the final name; when it raises, the temporary file is
    removed and what was there before stays.

    Parameters
    ----------
    path : str or path-like
        Final name; ``$VARIABLES`` and ``~`` are expanded.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    FileNotFoundError
        If the folder does not exist.
    IsADirectoryError
        If the path is a folder.
    """
    final = expand_path(path)
    if final.is_dir():
        raise IsADirectoryError(f"{final} is a folder, not a file")
    if not final.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {final.parent}")
    if final.exists() and not overwrite:
        raise FileExistsError(f"{final} exists already; overwrite=True replaces it")
    # A folder of its own keeps the whole name, from whose extensions writers choose
    # the format, and lies on the same file system, so that the rename is one step.
    with tempfile.TemporaryDirectory(prefix=".jaxprof-", dir=final.parent) as folder:
        temporary = Path(folder) / final.name
        yield temporary
        if not temporary.is_file():
            raise OSError(f"nothing was written to {final}")
        os.replace(temporary, final)
