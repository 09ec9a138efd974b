"""The HDUs of a FITS file as byte ranges, found before anything believes the headers.

Readers loop over as many axes or columns as a header claims, and take as much memory; here every
claim is compared with the FITS standard (version 4.0, sections 3 and 4.4) and with the length of
the file.
"""

from __future__ import annotations

import math
import os
from typing import Any, BinaryIO, NamedTuple

from astropy.io import fits

from jaxprof.io.contents import expansion_limit
from jaxprof.io.otherfiles import what_it_is_not_fits

BLOCK = 2880
CARD = 80
_END = b"END".ljust(CARD)
#: Limits of the standard on NAXIS and TFIELDS, and our own on what is sensible.
MAX_AXES = 999
MAX_HEADER_BLOCKS = 1000
MAX_HDUS = 1000


class Part(NamedTuple):
    """An HDU of a file.

    Attributes
    ----------
    name : str
        As astropy names it.
    header : `~astropy.io.fits.Header`
        Parsed.
    start, data, end : int
        Where the header, the data and the next HDU begin.
    """

    name: str
    header: fits.Header
    start: int
    data: int
    end: int


def fits_parts(
    stream: BinaryIO,
    limit: int,
    limit_name: str = "the end of the file",
    image_limit: int | None = None,
) -> list[Part]:
    """Find the HDUs of a FITS file.

    Parameters
    ----------
    stream : binary stream
        Only the headers are read.
    limit : int
        How long the file can be.
    limit_name : str
        What that is, for messages.
    image_limit : int, optional
        How many bytes all compressed images of the file may become; the `expansion_limit` of the
        length by default.

    Returns
    -------
    parts : list of Part
        They fill the file to its end.

    Raises
    ------
    ValueError
        If this is no FITS file, is cut off, or if a header claims what the standard forbids.
    """
    stream.seek(0)
    first = stream.read(2000)
    if not first.startswith(b"SIMPLE  ="):
        known = what_it_is_not_fits(first)
        raise ValueError(
            "not a FITS file " + (f"but {known}" if known else "(it does not begin with SIMPLE)")
        )
    parts: list[Part] = []
    room = expansion_limit(limit) if image_limit is None else image_limit
    while (part := _part(stream, parts[-1].end if parts else 0, len(parts))) is not None:
        name = part.name or len(parts)
        if part.end > limit:
            raise ValueError(
                f"cut off or damaged: HDU {name} should end at byte {part.end}, beyond "
                f"{limit_name} at {limit}"
            )
        if len(parts) == MAX_HDUS:
            raise ValueError(f"there are more than {MAX_HDUS} HDUs")
        room -= _compressed_image_size(part)
        if room < 0:
            raise ValueError(
                f"the compressed images up to HDU {name} would become {-room} bytes more than such "
                "a file can hold"
            )
        parts.append(part)
    size = stream.seek(0, os.SEEK_END)
    if size != parts[-1].end:
        raise ValueError(
            f"cut off or damaged: HDU {name} should end at byte {parts[-1].end}, the file ends at "
            f"{size}"
        )
    return parts


def _part(stream: BinaryIO, start: int, number: int) -> Part | None:
    """The HDU that begins at a byte, None at the end of the file."""
    stream.seek(start)
    raw = bytearray()
    while True:
        block = stream.read(BLOCK)
        if not raw and number:
            if not block:
                return None
            if not block.startswith(b"XTENSION="):
                raise ValueError(
                    f"cut off or damaged: what follows HDU {number - 1} (of 0, 1, ...) is no HDU"
                )
        raw += block
        # Cards begin at multiples of 80 bytes, and so do blocks.
        if any(block.startswith(_END, i) for i in range(0, BLOCK, CARD)):
            break
        if len(block) < BLOCK or len(raw) > MAX_HEADER_BLOCKS * BLOCK:
            raise ValueError(f"cut off or damaged: the header of HDU {number} has no END")
    try:
        header = fits.Header.fromstring(raw.decode("ascii"))
        name = header.get("EXTNAME", "")
        if not isinstance(name, str):
            raise ValueError(f"EXTNAME is {name!r}; it must be text")
        name = name.strip().upper() if number else "PRIMARY"
        n_bytes = _data_size(header)
    except (ValueError, KeyError, fits.VerifyError) as error:
        raise ValueError(f"the header of HDU {number} is damaged: {error}") from error
    data = start + len(raw)
    return Part(name, header, start, data, data + math.ceil(n_bytes / BLOCK) * BLOCK)


def _data_size(header: fits.Header) -> int:
    """Number of bytes of the data, from checked keywords."""
    bitpix = _integer(header, "BITPIX", -64, 64)
    if bitpix not in (8, 16, 32, 64, -32, -64):
        raise ValueError(f"BITPIX is {bitpix}, which FITS does not know")
    n_axes = _integer(header, "NAXIS", 0, MAX_AXES)
    axes = [_integer(header, f"NAXIS{i}", 0) for i in range(1, n_axes + 1)]
    extension = str(header.get("XTENSION", "")).strip()
    if extension in ("BINTABLE", "TABLE"):
        _check_table(header, axes)
    if header.get("GROUPS") is True and axes[:1] == [0]:
        axes = axes[1:]
    pcount = _integer(header, "PCOUNT", 0, default=0)
    gcount = _integer(header, "GCOUNT", 1, default=1)
    return abs(bitpix) // 8 * gcount * (pcount + (math.prod(axes) if axes else 0))


def _check_table(header: fits.Header, axes: list[int]) -> None:
    if len(axes) != 2:
        raise ValueError(f"NAXIS is {len(axes)}, a table has 2 axes")
    if axes[1] > 0 and axes[0] == 0:
        # They take no room in the file, but may be as many as one likes.
        raise ValueError(f"NAXIS2 is {axes[1]}, but rows of no bytes (NAXIS1 is 0) hold nothing")
    n_fields = _integer(header, "TFIELDS", 0, MAX_AXES)
    missing = [f"TFORM{i}" for i in range(1, n_fields + 1) if f"TFORM{i}" not in header]
    if missing:
        raise ValueError(f"TFIELDS is {n_fields}, but {missing[0]} is missing")
    for key in (f"{stem}{i}" for stem in ("TFORM", "TTYPE") for i in range(1, n_fields + 1)):
        if not isinstance(header.get(key, ""), str):
            raise ValueError(f"{key} is {header[key]!r}; it must be text")
    _integer(header, "PCOUNT", 0)


def _compressed_image_size(part: Part) -> int:
    """Number of bytes of what is in a compressed image, 0 for another HDU."""
    header = part.header
    if header.get("ZIMAGE") is not True:
        return 0
    try:
        n_axes = _integer(header, "ZNAXIS", 0, MAX_AXES)
        axes = [_integer(header, f"ZNAXIS{i}", 0) for i in range(1, n_axes + 1)]
        return abs(_integer(header, "ZBITPIX", -64, 64)) // 8 * math.prod(axes)
    except ValueError as error:
        raise ValueError(f"the header of HDU {part.name} is damaged: {error}") from error


def _integer(
    header: fits.Header, key: str, low: int, high: int | None = None, default: Any = None
) -> int:
    if key in header and header.count(key) > 1:
        raise ValueError(f"{key} is given {header.count(key)} times")
    value = header.get(key, default)
    if value is None:
        raise ValueError(f"{key} is missing")
    if type(value) is not int or value < low or (high is not None and value > high):
        most = "" if high is None else f" and at most {high}"
        raise ValueError(f"{key} is {value!r}; it must be a whole number, at least {low}{most}")
    return value
