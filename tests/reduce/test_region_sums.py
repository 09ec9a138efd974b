"""Sums of folded templates over the pixels of disjoint regions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprof.reduce.joint.bins import DisjointRegions, region_sums
from jaxprof.reduce.joint.folding import Cutouts

N_ENERGIES, SHAPE = 3, (7, 9)


def disjoint_regions(rng):
    """Two regions of five and four pixels, one pixel masked at one energy."""
    pixels = rng.permutation(np.prod(SHAPE))[:10].reshape(2, 5)
    y, x = np.unravel_index(pixels, SHAPE)
    used = np.ones((2, 5), bool)
    used[1, 4] = False
    mask = np.broadcast_to(used, (N_ENERGIES, 2, 5)).copy()
    mask[1, 0, 2] = False
    return DisjointRegions(y=y, x=x, used=used, members=np.eye(2, dtype=bool)), mask


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("turn", [None, range(1, 9)])
@pytest.mark.parametrize("dispersed", [False, True])
def test_sums_pixel_by_pixel(traced, turn, dispersed):
    rng = np.random.default_rng(5)
    disjoint, mask = disjoint_regions(rng)
    values = rng.random((2, 2, 1 if dispersed else N_ENERGIES, 4, 5))
    edisp = rng.random((2, 2, N_ENERGIES)) if dispersed else None
    y0, x0 = np.array([-1, 5]), np.array([6, -2])
    lists = np.array([[1, 0], [0, -1]])

    def sums(values):
        part = Cutouts(values=values, edisp=edisp, y0=y0, x0=x0, turn=turn)
        return region_sums([part], [lists], disjoint, mask)

    found = np.asarray((jax.jit(sums) if traced else sums)(jnp.asarray(values)))
    expected = np.zeros((2, 2, 2, N_ENERGIES))
    for n, k in zip(*np.nonzero(lists >= 0), strict=True):
        c = lists[n, k]
        for e, p in zip(*np.nonzero(mask[:, n]), strict=True):
            y, x = disjoint.y[n, p], disjoint.x[n, p]
            row, column = y - y0[c], x - x0[c]
            if turn is not None:
                if x not in turn:
                    continue
                column %= len(turn)
            if 0 <= row < 4 and 0 <= column < 5:
                per_photon = edisp[c, :, e] if dispersed else 1.0
                expected[n, k, :, e] += (
                    per_photon * values[c, :, 0 if dispersed else e, row, column]
                )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_sums_without_pixels():
    at = np.zeros(2, int)
    part = Cutouts(values=np.ones((2, 1, 2, 3, 3)), edisp=None, y0=at, x0=at)
    none = np.zeros((1, 0), int)
    disjoint = DisjointRegions(y=none, x=none, used=none > 0, members=np.zeros((1, 2), bool))
    found = region_sums([part], [np.zeros((1, 1), int)], disjoint, np.zeros((2, 1, 0), bool))
    np.testing.assert_array_equal(found, np.zeros((1, 1, 1, 2)))
