"""Limits by name of joint fits whose norms are at a bound."""

import numpy as np
import pytest
from forward_factory import dataset_of, estimator, rings, sky_image


@pytest.mark.slow
def test_limits_by_name_of_norms_at_a_bound():
    """Norms that are zero without a bound have the same limits with one."""
    image = sky_image(lambda x, y: np.ones_like(x), 0.1)
    dataset = dataset_of(image, 0.1, sigma=0.1, n_photons=1e-6, background=1.0, n_energy=1)
    limits = [
        estimator(rings(2, 0.3), interval="bounded", selection_optional=["ul"], norm=norm)
        .run(dataset)
        .norm_ul
        for norm in (None, {"min": 0})
    ]
    assert np.isfinite(limits).all()
    np.testing.assert_allclose(limits[1], limits[0], rtol=1e-3)
