"""Units of maps and columns, in the many ways in which programs spell them."""

from __future__ import annotations

import re
import warnings
from typing import Any

from astropy import units as u

_NONE = ("", "none", "dimensionless", "unitless", "-", "n/a")
_WORDS = {
    r"photons?": "photon",
    r"phs?": "photon",
    r"(?:counts?|cts?|events?)": "count",
    r"secs?|seconds?": "s",
    r"ster(?:adians?)?": "sr",
    r"pixels?": "pix",
    r"deg(?:ree)?s?": "deg",
}
_COUNTED = (u.photon, u.count)
_PER = (u.pix, u.bin)


def unit_of(text: Any, name: str) -> u.UnitBase:
    """Unit of a map or column.

    Parameters
    ----------
    text : str
        What the file says: ``"cm^2 s"``, ``"1/cm**2/s/sr"``, ``"ph cm-2 s-1 sr-1 MeV-1"``, ...
    name : str
        HDU, for the message.

    Returns
    -------
    unit : `~astropy.units.Unit`
        What is counted (photons, counts) is left out of units that have more in them, and so are
        pixels and bins: fluxes are cm-2 s-1.

    Raises
    ------
    ValueError
        If it is not known.
    """
    plain = str(text).strip().replace("{", "").replace("}", "").replace("$", "")
    if plain.lower() in _NONE:
        return u.dimensionless_unscaled
    if plain.count(")") > plain.count("("):
        # As in gll_iem_v05.fits.
        plain = plain.removesuffix(")")
    if plain.isupper() and len(plain) > 1:
        # Programs that know capitals only. Those of K, J and G mean what they are.
        plain = re.sub(r"\b([KMGT]?)EV\b", lambda m: f"{m[1].replace('K', 'k')}eV", plain)
        for word in ("CM", "KM", "SR", "S", "ERG"):
            plain = re.sub(rf"(?<![A-Z]){word}(?![A-Za-z])", word.lower(), plain)
    for word, unit in _WORDS.items():
        plain = re.sub(rf"(?<![A-Za-z])(?:{word})(?![A-Za-z])", unit, plain, flags=re.IGNORECASE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", u.UnitsWarning)
            found = _parsed(plain)
    except (ValueError, TypeError):
        raise ValueError(f"the unit {text!r} of HDU {name} is not known") from None
    for left_out in (_PER, _COUNTED):
        pairs = zip(found.bases, found.powers, strict=True)
        kept = [pair for pair in pairs if pair[0] not in left_out]
        if kept and len(kept) < len(found.bases):
            found = u.CompositeUnit(found.scale, *zip(*kept, strict=True))
    return found


def _parsed(text: str) -> u.UnitBase:
    """A unit as astropy reads it, or factor by factor where there are several slashes."""
    try:
        return u.Unit(text)
    except (ValueError, TypeError):
        first, *others = re.split(r"/(?![^(]*\))", text)
        if not others:
            raise
        found = u.Unit(first.strip() or "1")
        for part in others:
            found = found / u.Unit(part)
        return found
