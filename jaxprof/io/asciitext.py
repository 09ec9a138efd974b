r"""Text that FITS can hold: printable ASCII and nothing else (FITS standard 4.0, section 3.2).

Other letters lose their accents (``é`` becomes ``e``), or become what Python writes in source
(``\u03b1`` for a Greek alpha); the writer says so in a warning. Names by which something is found
again, those of columns and keywords, are refused instead.
"""

from __future__ import annotations

import unicodedata

import numpy as np
from astropy.table import Table


def ascii_text(text: str) -> str:
    """The text in printable ASCII; the same if it is that already."""
    if _is_ascii(text):
        return text
    parts = unicodedata.normalize("NFKD", text)
    plain = "".join(letter for letter in parts if not unicodedata.combining(letter))
    return "".join(
        letter if _is_ascii(letter) else letter.encode("unicode_escape").decode("ascii")
        for letter in plain
    )


def _is_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable()


def ascii_table(table: Table, name: str) -> tuple[Table, list[str]]:
    """A table as FITS can hold it.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Stays as it is.
    name : str
        What messages call it.

    Returns
    -------
    table : `~astropy.table.Table`
        The same if nothing changes, otherwise a copy.
    changes : list of str
        What was changed, for `ascii_warning`.

    Raises
    ------
    ValueError
        If the name of a column, or a keyword of the meta, is not ASCII.
    """
    for kind, names in (("column", table.colnames), ("keyword", table.meta)):
        for found in names:
            if not _is_ascii(str(found)):
                raise ValueError(
                    f"{name}: FITS has no other names than ASCII, but a {kind} is called "
                    f"{found!r}; rename it, for instance to {ascii_text(str(found))!r}"
                )
    changed = table.copy()
    changes = []
    for key, value in table.meta.items():
        texts = value if isinstance(value, list) else [value]
        if all(isinstance(text, str) for text in texts):
            plain, found = _ascii_texts(texts, f"{key} of {name}")
            changed.meta[key] = plain if isinstance(value, list) else plain[0]
            changes += found
    for column in table.colnames:
        if table[column].dtype.kind == "U":
            data = np.ma.asarray(table[column])
            plain, found = _ascii_texts(data.data.ravel().tolist(), f"{column} of {name}")
            if found:
                array = np.array(plain, dtype=str).reshape(data.shape)
                changed[column] = np.ma.array(array, mask=data.mask) if data.mask.any() else array
                changes += found
    return (changed, changes) if changes else (table, [])


def _ascii_texts(texts: list[str], what: str) -> tuple[list[str], list[str]]:
    known = {text: ascii_text(text) for text in texts}
    changes = [_change(what, old, new) for old, new in known.items() if old != new]
    return [known[text] for text in texts], changes


def ascii_name(text: str, what: str) -> tuple[str, list[str]]:
    """One text, and what was changed; see `ascii_table`."""
    plain, changes = _ascii_texts([text], what)
    return plain[0], changes


def _change(what: str, old: str, new: str) -> str:
    return f"{what} {old!r} as {new!r}"


def ascii_warning(changes: list[str], advice: str = "") -> str:
    """What to warn of."""
    listed = ", ".join(changes[:10]) + (", ..." if len(changes) > 10 else "")
    return f"FITS holds printable ASCII only, so this is written: {listed}{advice}"
