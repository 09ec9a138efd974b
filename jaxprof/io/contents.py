"""The contents of a named file: nothing but that file is opened, in bounded memory."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

GZIP_MAGIC = b"\x1f\x8b"
#: What may come out of compressed data: so many times their size, and so many bytes besides.
#: Maps seldom shrink by more than 30, those of nothing but zeros by 1000; these are small.
EXPANSION = 100
EXPANSION_FREE = 2**27
_PIECE = 2**20


def expansion_limit(n_bytes: int) -> int:
    """Greatest number of bytes that so many compressed bytes may become."""
    return EXPANSION_FREE + EXPANSION * n_bytes


@contextlib.contextmanager
def open_contents(file: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading, unpacked if it is gzipped.

    Parameters
    ----------
    file : `~pathlib.Path`
        Taken literally.

    Yields
    ------
    stream : binary stream
        Can be sought in. What was gzipped is in memory.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is no regular file (nobody may ever write to a FIFO), or if the gzip stream is
        damaged or expands to more than `expansion_limit`.
    """
    _check_regular(os.stat(file))
    # Should a FIFO have taken the file's name meanwhile, opening it does not wait.
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    with open(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        _check_regular(status)
        if stream.read(2) != GZIP_MAGIC:
            stream.seek(0)
            yield stream
            return
        stream.seek(0)
        raw = stream.read(status.st_size)
    try:
        unpacked = _gunzip(raw, expansion_limit(len(raw)))
    except (EOFError, zlib.error) as error:
        raise ValueError(
            f"the gzip stream of {file.name} is cut off or damaged ({error})"
        ) from error
    yield unpacked


_BINARY = getattr(os, "O_BINARY", 0)


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_ISFIFO: "a FIFO", stat.S_ISSOCK: "a socket", stat.S_ISDIR: "a folder"}
        kind = next((name for test, name in kinds.items() if test(status.st_mode)), "a device")
        raise ValueError(f"this is {kind}, not a regular file; copy the contents into a file")


def _gunzip(raw: bytes, limit: int) -> io.BytesIO:
    """Unpack all members, and stop beyond a number of bytes."""
    unpacked, position = io.BytesIO(), 0
    while position < len(raw):
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            piece = raw[position : position + _PIECE]
            if not piece:
                raise EOFError("the end is missing")
            position += len(piece)
            while piece and not member.eof:
                unpacked.write(member.decompress(piece, limit + 1 - unpacked.tell()))
                if unpacked.tell() > limit:
                    raise ValueError(
                        f"the gzip stream of {len(raw)} bytes expands to more than {limit} bytes, "
                        "as no map does but one made to fill the memory; if you trust the file, "
                        "unpack it with gunzip and read what comes out"
                    )
                piece = member.unconsumed_tail
        position -= len(member.unused_data)
        # Tapes and some file systems fill the end with zeros.
        if not raw[position:].strip(b"\0"):
            break
    unpacked.seek(0)
    return unpacked
