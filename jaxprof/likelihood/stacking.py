"""Data of several profiles joined: fitted side by side, or with norms in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxprof.likelihood.data import Block, Data, OnOffData, ProfileData, prepare


def side_by_side(data: Sequence[Data], function: Callable[[Data], Any]) -> list[Any]:
    """Apply a function to the data of several profiles at once, for all with the same statistics.

    Data are arrays (B_t, G, E_t). The function takes data (B, G, E) and gives a pytree of arrays
    with B as first axis; what it gives for each profile are numpy arrays.
    """
    prepared = [prepare(each) for each in data]
    batches: dict[tuple[type, ...], list[int]] = {}
    for number, blocks in enumerate(prepared):
        batches.setdefault(tuple(map(type, blocks)), []).append(number)
    found: list[Any] = [None] * len(prepared)
    for kinds, members in batches.items():
        joined = tuple(
            _rows([prepared[number][position] for number in members])
            for position in range(len(kinds))
        )
        results = jax.tree.map(np.asarray, function(joined if len(joined) > 1 else joined[0]))
        first = 0
        for number in members:
            rows = slice(first, first + len(prepared[number][0].npred_ref))
            found[number] = jax.tree.map(lambda array, rows=rows: array[rows].copy(), results)
            first = rows.stop
    return found


def in_common(data: Sequence[Data]) -> Data:
    """Data of several profiles of the same bins (B, G, E_t), whose norms are to be the same.

    Their counts bins stand one behind the other.
    """
    parts = [block for each in data for block in prepare(each)]
    joined: list[Block] = []
    for kind in (ProfileData, OnOffData):
        own = [vars(block) for block in parts if isinstance(block, kind)]
        if own:
            names = own[0]
            joined.append(
                kind(**{n: np.concatenate([each[n] for each in own], axis=2) for n in names})
            )
    return joined[0] if len(joined) == 1 else tuple(joined)


def _rows(parts: Sequence[Block]) -> Block:
    """Bins one below the other; counts bins are padded with masked ones."""
    size = max(block.npred_ref.shape[2] for block in parts)
    arrays: dict[str, Any] = {}
    for name in vars(parts[0]):
        padded = []
        for block in parts:
            array = np.asarray(getattr(block, name))
            widths = [(0, 0), (0, 0), (0, size - array.shape[2])]
            padded.append(np.pad(array, widths, constant_values=int(name == "alpha")))
        arrays[name] = np.concatenate(padded)
    return type(parts[0])(**arrays)
