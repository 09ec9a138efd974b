"""The data of a likelihood as a table, for files of profiles.

Columns of the likelihood data are named as in `jaxprof.likelihood.data`, (G, E) arrays; the number
of the block stands before the name if several are fitted jointly (``2_counts``).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from astropy.table import Table

from jaxprof.likelihood.data import Data, OnOffData, ProfileData, blocks


def likelihood_table(data: Data) -> Table:
    """Table of the data, a row for each bin."""
    table = Table()
    parts = blocks(data)
    for number, block in enumerate(parts, start=1):
        for name, array in vars(block).items():
            if array is not None:
                table[name if len(parts) == 1 else f"{number}_{name}"] = np.asarray(array)
    return table


def likelihood_data(table: Table, n_groups: int) -> Data | None:
    """Inverse of `likelihood_table`.

    Raises
    ------
    ValueError
        If columns are missing, not known, or of other shapes than the groups make.
    """
    parts: dict[int, dict[str, Any]] = {}
    for name in table.colnames:
        match = re.fullmatch(r"(?:(\d+)_)?(\w+)", name)
        array = np.ma.getdata(table[name])
        array = array.astype(array.dtype.newbyteorder("="))
        if match is None or array.ndim not in (2, 3):
            raise ValueError(f"likelihood column {name!r} is not known")
        if array.dtype.kind not in "iufb":
            raise ValueError(f"likelihood column {name!r} holds {array.dtype.name}, not numbers")
        if len(array) == 0 or array[0].size % n_groups:
            raise ValueError(
                f"likelihood column {name!r} has the shape {array.shape}, which does not belong to "
                f"{n_groups} energy groups"
            )
        # FITS drops axes of length one.
        array = array.reshape(len(table), n_groups, -1)
        parts.setdefault(int(match[1] or 1), {})[match[2]] = array
    made: list[ProfileData | OnOffData] = []
    for number in sorted(parts):
        kind = OnOffData if "n_on" in parts[number] else ProfileData
        try:
            made.append(kind(**parts[number]))
        except TypeError as error:
            raise ValueError(f"likelihood data are incomplete: {error}") from error
    return None if not made else made[0] if len(made) == 1 else tuple(made)
