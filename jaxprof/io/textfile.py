"""Text and binary files as a whole: read with a limit, written in one step."""

from __future__ import annotations

import hashlib
import os

from jaxprof.io.contents import open_regular
from jaxprof.io.errors import naming
from jaxprof.io.paths import atomic_write, existing_file

LARGEST = 10_000_000
"""Bytes of a text that somebody wrote by hand, or may have."""


def read_text(path: str | os.PathLike[str], largest: int | None = LARGEST) -> str:
    """Text of a regular file in UTF-8, with line feeds at the ends of lines.

    Parameters
    ----------
    path : str or path-like
        ``$VARIABLES`` and ``~`` are expanded.
    largest : int or None
        Greatest number of bytes; None for any.

    Raises
    ------
    ValueError
        "<file>: what is wrong": if it is larger, no UTF-8, or no regular file.
    OSError
        If there is no such file, or it cannot be read.
    """
    file = existing_file(path)
    with naming(str(file), always=True), open_regular(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        if largest is not None and size > largest:
            raise ValueError(f"larger than {largest / 1e6:g} MB, which is no text written by hand")
        try:
            return stream.read(size).decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"not a text file in UTF-8 ({error.reason})") from error


def write_bytes(path: str | os.PathLike[str], content: bytes, *, overwrite: bool = False) -> None:
    """Write a file entirely or not at all; see `jaxprof.io.paths.atomic_write`."""
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open_regular(existing_file(path)) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
