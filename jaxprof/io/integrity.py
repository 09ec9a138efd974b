"""Marks by which a file is known to be whole: written with it, checked when it is read.

- FITS: every HDU has the standard's CHECKSUM and DATASUM. These are sums, which do not see that
  parts of the data were exchanged, so DATACRC has a CRC-32 of the data, and the DATASUM that it
  belongs to: a program that changes data and DATASUM need not know of it. In the primary header,
  NHDU and HDU1, HDU2, ... are the number of the HDUs and their names.
- ECSV: TEXTCRC in the meta is the CRC-32 of all lines, itself taken for zero.

Files without these marks, such as gammapy's, are read as they are, and so are those from which all
sums were taken out.
"""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from jaxprof.io.blocks import MAX_HDUS, Part, fits_parts
from jaxprof.io.contents import expansion_limit

#: Keywords of the header that say nothing about the contents.
MARKS = ("CHECKSUM", "DATASUM", "DATACRC")
_TEXT_MARK = "TEXTCRC"
_NO_CRC = "CRC-32 00000000"
_ADVICE = (
    "the file is damaged, or was changed by a program that left its checksums as they were; if "
    "you trust it as it is, "
)


def write_fits(hdus: list[Any], path: str | os.PathLike[str]) -> None:
    """Write HDUs with the marks that `damage` looks for.

    Parameters
    ----------
    hdus : list of HDU
        The primary HDU first. The marks are added to their headers.
    path : str or path-like
        Must not exist. A file called "draft" is written beside it and removed.

    Raises
    ------
    ValueError
        If the path ends in ".gz", and the data shrink so much that no reader would unpack them.
    """
    primary = hdus[0].header
    primary["NHDU"] = (len(hdus), "number of HDUs of this file")
    for number, hdu in enumerate(hdus, start=1):
        primary[f"HDU{number}"] = hdu.name or "PRIMARY"
    hdulist = fits.HDUList(hdus)
    # Only what was written shows the bytes of the data; this name means "not gzipped".
    draft = Path(path).with_name("draft")
    hdulist.writeto(draft)
    size = os.path.getsize(draft)
    with open(draft, "rb") as stream:
        for hdu, part in zip(hdus, fits_parts(stream, size), strict=True):
            stream.seek(part.data)
            data = memoryview(stream.read(part.end - part.data))
            mark = f"{zlib.crc32(data):08x} {_sum(data)}"
            hdu.header["DATACRC"] = (mark, "CRC-32 of the data; their DATASUM")
    os.remove(draft)
    hdulist.writeto(path, checksum=True)
    packed = os.path.getsize(path)
    if size > expansion_limit(packed):
        raise ValueError(
            f"{size} bytes gzip to {packed}, which is not read again: too much would come out of "
            "so few; write the file without .gz"
        )


def damage(contents: memoryview, parts: list[Part]) -> str | None:
    """What shows that a FITS file is not as it was written.

    Parameters
    ----------
    contents : memoryview
        All bytes.
    parts : list of Part
        Its HDUs.

    Returns
    -------
    message : str or None
        None if nothing does, or the file has no marks.
    """
    number = parts[0].header.get("NHDU", 0)
    # Nobody but who means to takes the sums out of all HDUs.
    summed = any(key in part.header for part in parts for key in ("CHECKSUM", "DATASUM"))
    marked = number != 0 and summed
    found = _missing_hdus(parts, number) if marked else None
    foreign = not marked and not any("DATACRC" in part.header for part in parts)
    for part in parts:
        # Fermi's tools leave the sums of GTI as they were; nothing is computed from it here.
        if foreign and part.name == "GTI":
            continue
        found = found or _stale_mark(part, contents[part.start : part.end], marked)
    if found is None:
        return None
    return f"{found}: {_ADVICE}astropy.io.fits.setval(file, 'NHDU', value=0) renews them"


def _missing_hdus(parts: list[Part], number: Any) -> str | None:
    if type(number) is not int or not 0 < number <= MAX_HDUS:
        return f"NHDU in the primary header is {number!r}"
    listed = [str(parts[0].header.get(f"HDU{i}")) for i in range(1, number + 1)]
    names = [part.name for part in parts]
    if names == listed:
        return None
    missing = [name for name in listed if name not in names]
    return f"the HDUs are {names}, but should be {listed}" + (
        f" ({', '.join(missing)} missing: cut off?)" if missing else ""
    )


def _stale_mark(part: Part, contents: memoryview, marked: bool) -> str | None:
    """The first mark of an HDU that does not fit its contents."""
    header = part.header
    data = contents[part.data - part.start :]
    # The standard takes an empty text for "not known".
    given = {key: str(header.get(key, "")).strip() for key in MARKS}
    if marked and (missing := [key for key in MARKS if not given[key]]):
        return f"HDU {part.name} has no {missing[0]}"
    if given["DATASUM"] and given["DATASUM"] != str(_sum(data)):
        return f"DATASUM of HDU {part.name} does not fit its data"
    # A valid CHECKSUM makes the whole HDU add up to minus zero.
    if given["CHECKSUM"] and _sum(contents) != 0xFFFFFFFF:
        return f"CHECKSUM of HDU {part.name} does not fit its header and data"
    crc, _, datasum = given["DATACRC"].partition(" ")
    if marked and datasum == given["DATASUM"] and crc != f"{zlib.crc32(data):08x}":
        return f"DATACRC of HDU {part.name} does not fit its data"
    return None


def _sum(contents: memoryview) -> int:
    """The 32-bit ones' complement sum of the FITS standard, appendix J."""
    total = int(np.frombuffer(contents, dtype=">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def mark_text(meta: dict[str, Any]) -> None:
    """Reserve room in the meta of a table for what `sealed_text` puts there."""
    meta[_TEXT_MARK] = _NO_CRC


def sealed_text(text: str) -> str:
    """The lines of an ECSV table, with the CRC-32 where `mark_text` made room."""
    head, mark, tail = text.partition(f"{_TEXT_MARK}: {_NO_CRC}")
    assert mark, "the meta has no mark"
    return f"{head}{_TEXT_MARK}: CRC-32 {_text_crc(text)}{tail}"


def text_damage(text: str, meta: dict[str, Any]) -> str | None:
    """What shows that an ECSV file is not as it was written, or None; see `damage`."""
    mark = meta.get(_TEXT_MARK)
    if mark is None:
        return None
    if re.fullmatch(r"CRC-32 [0-9a-f]{8}", str(mark)):
        blank = text.replace(f"{_TEXT_MARK}: {mark}", f"{_TEXT_MARK}: {_NO_CRC}", 1)
        if f"CRC-32 {_text_crc(blank)}" == mark:
            return None
    return f"{_TEXT_MARK} in the meta does not fit the lines: {_ADVICE}remove its line"


def _text_crc(text: str) -> str:
    # Line ends and blank lines at the end change on the way between systems.
    return f"{zlib.crc32(chr(10).join(text.splitlines()).rstrip().encode()):08x}"
