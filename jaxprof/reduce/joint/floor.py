"""Pixels of joint fits that one component alone can explain: a count is infinitely significant.

A fit without that component predicts nothing there, and the floor of the predicted counts would
decide on test statistics and sensitivities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxprof.likelihood.joint_data import JointBlock, JointData
from jaxprof.likelihood.statistics import TRUNCATION

Array = NDArray[Any]


def alone_somewhere(data: JointData, *, counted: bool = False) -> Array:
    """Components (C,) that reach a counts bin which nothing else reaches, not even a background.

    With ``counted`` there must be counts in it. On-Off data have none of these: their background is
    never known to be zero.
    """
    found = np.zeros(data.n_components, bool)
    # The norm of a background may be fitted, however small it is.
    least = 0.0 if data.n_nuisance else TRUNCATION
    for block in data.blocks:
        if not isinstance(block, JointBlock):
            continue
        others = np.asarray(block.background) + np.asarray(block.offset)
        empty = np.asarray(block.mask) & (others <= least)
        if counted:
            empty &= np.asarray(block.counts) > 0
        rows = np.flatnonzero(empty.any(axis=1))
        reached = np.any(np.asarray(block.templates)[rows] > 0, axis=2)
        lone = empty[rows] & (reached.sum(axis=1) == 1)
        found[np.asarray(block.components)[rows][np.any(reached & lone[:, np.newaxis], axis=2)]] = 1
    return found
