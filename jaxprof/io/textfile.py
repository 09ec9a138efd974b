"""Text and binary files as a whole: read with a limit, written in one step."""

from __future__ import annotations

import hashlib
import os

from jaxprof.io.paths import atomic_write, existing_file

_LARGEST_TEXT = 10_000_000


def read_text(path: str | os.PathLike[str]) -> str:
    """Text of a file in UTF-8.

    Raises
    ------
    ValueError
        If it is larger than 10 MB, or no UTF-8.
    OSError
        If there is no such file, or it cannot be read.
    """
    file = existing_file(path)
    if file.stat().st_size > _LARGEST_TEXT:
        raise ValueError(f"{file}: larger than 10 MB, which is no text written by hand")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not a text file in UTF-8 ({error.reason})") from error


def write_bytes(path: str | os.PathLike[str], content: bytes, *, overwrite: bool = False) -> None:
    """Write a file entirely or not at all; see `jaxprof.io.paths.atomic_write`."""
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(existing_file(path), "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
