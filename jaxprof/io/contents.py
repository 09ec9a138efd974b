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
#: Maps seldom shrink by more than 30, but those of nothing but zeros do by 1000, so a counts cube
#: of 300 MB may have come from 0.3 MB. The writer makes nothing that goes beyond.
EXPANSION = 100
EXPANSION_FREE = 2**29
UNPACK = "if you trust the file, unpack it with gunzip and read what comes out"
_PIECE = 2**20


def expansion_limit(n_bytes: int) -> int:
    """Greatest number of bytes that so many compressed bytes may become."""
    return EXPANSION_FREE + EXPANSION * n_bytes


@contextlib.contextmanager
def open_regular(file: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file for reading.

    Parameters
    ----------
    file : `~pathlib.Path`
        Taken literally.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is no regular file: nobody may ever write to a FIFO, and devices do not end.
    """
    _check_regular(os.stat(file))
    # Should a FIFO have taken the file's name meanwhile, opening it does not wait.
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    with open(descriptor, "rb") as stream:
        _check_regular(os.fstat(descriptor))
        yield stream


_BINARY = getattr(os, "O_BINARY", 0)


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_ISFIFO: "a FIFO", stat.S_ISSOCK: "a socket", stat.S_ISDIR: "a folder"}
        kind = next((name for test, name in kinds.items() if test(status.st_mode)), "a device")
        raise ValueError(f"this is {kind}, not a regular file; copy the contents into a file")


def unpacked(stream: BinaryIO, name: str) -> tuple[BinaryIO, int]:
    """A stream with what was gzipped, and how many bytes it may have.

    Parameters
    ----------
    stream : binary stream
        Gzipped or not.
    name : str
        For messages.

    Returns
    -------
    stream : binary stream
        The same if it is not gzipped.
    limit : int
        Size of the stream, or the `expansion_limit` if it is gzipped.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    gzipped = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    stream.seek(0)
    if not gzipped:
        return stream, size
    limit = expansion_limit(size)
    return Unpacked(stream.read(size), limit, name), limit


class Unpacked(io.BytesIO):
    """Contents of gzipped bytes, unpacked only as far as they are read.

    Parameters
    ----------
    raw : bytes
        One or more gzip members.
    limit : int
        Greatest size. Reading raises ValueError beyond it, and where the bytes are damaged.
    name : str
        For messages.
    """

    def __init__(self, raw: bytes, limit: int, name: str) -> None:
        super().__init__()
        self._pieces = _gunzip(raw, limit, name)

    def read(self, size: int | None = -1) -> bytes:
        """Read so many bytes, or all."""
        everything = size is None or size < 0
        self._unpack(None if everything else self.tell() + int(size or 0))
        return super().read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position, and return it."""
        if whence == os.SEEK_END:
            self._unpack(None)
        return super().seek(offset, whence)

    def _unpack(self, end: int | None) -> None:
        position = self.tell()
        size = super().seek(0, os.SEEK_END)
        while (end is None or size < end) and (piece := next(self._pieces, None)) is not None:
            size += super().write(piece)
        super().seek(position)


def _gunzip(raw: bytes, limit: int, name: str) -> Iterator[bytes]:
    """Unpack all members piece by piece, and stop beyond a number of bytes."""
    position = size = 0
    try:
        while position < len(raw):
            member = zlib.decompressobj(wbits=31)
            while not member.eof:
                packed = member.unconsumed_tail
                if not packed:
                    packed = raw[position : position + _PIECE]
                    position += len(packed)
                piece = member.decompress(packed, _PIECE)
                if not (packed or piece or member.eof):
                    raise EOFError("its end is missing")
                size += len(piece)
                if size > limit:
                    raise ValueError(
                        f"{len(raw)} gzipped bytes expand to more than {limit}; {UNPACK}"
                    )
                yield piece
            position -= len(member.unused_data)
            # Tapes and some file systems fill the end with zeros.
            if not raw[position : position + 2].strip(b"\0") and not raw[position:].strip(b"\0"):
                return
    except (EOFError, zlib.error) as error:
        raise ValueError(f"{name} is cut off or damaged (gzip: {error})") from error
