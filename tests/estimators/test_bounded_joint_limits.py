"""Limits by name of joint fits whose norms are at a bound."""

import numpy as np
import pytest
from forward_factory import dataset_of, estimator, rings, sky_image


@pytest.mark.slow
def test_limits_by_name_of_norms_at_a_bound():
    """Other norms that may not be negative leave less room: limits are there, and no higher."""
    image = sky_image(lambda x, y: np.ones_like(x), 0.1)
    dataset = dataset_of(image, 0.1, sigma=0.1, n_photons=1e-6, background=1.0, n_energy=1)
    limits = [
        estimator(rings(2, 0.3), interval="bounded", selection_optional=["ul"], norm=norm)
        .run(dataset)
        .norm_ul
        for norm in (None, {"min": 0})
    ]
    free, bounded = limits
    assert np.all((bounded > 0.3 * free) & (bounded < 1.01 * free))
