"""Batches of the counts bins of joint fits."""

import numpy as np
import pytest

from jaxprof.reduce.joint.bins import batch_size, batched_pixels


@pytest.mark.parametrize(("n_kept", "size"), [(20, 32), (40, 64), (100, 128), (129, 128)])
def test_batches_of_small_regions_are_small(n_kept, size):
    kept = np.zeros((2, 9, 300), bool)
    kept[0, :, ::2][:, : n_kept - 1] = kept[1, :, 7] = True
    assert batch_size([kept, kept[:, :1]]) == size
    batches = batched_pixels(kept, batch_size([kept]))
    assert batches.used.shape[1] == size
    own = np.zeros(kept.shape, int)
    rows = np.broadcast_to(batches.region[:, np.newaxis], batches.used.shape)
    np.add.at(own, tuple(i[batches.used] for i in (batches.energy, rows, batches.pixel)), 1)
    assert np.array_equal(own, kept)
