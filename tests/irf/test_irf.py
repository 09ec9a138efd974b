"""Energy dispersion and point spread function.

Numbers marked "gammapy" were computed once with gammapy 2.1.
"""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from jaxprof.irf import EDispKernelMap, EDispMap, PSFMap, RecoPSFMap
from jaxprof.sky import MapAxis, WcsGeom

TRUE = MapAxis.from_energy_bounds("1 TeV", "10 TeV", 3, name="energy_true")
RECO = MapAxis.from_energy_bounds("800 GeV", "12000 GeV", 4)
MIGRA = MapAxis.from_edges(np.linspace(0, 3, 31), name="migra")
GEOM = WcsGeom.create((0, 0), binsz=1, width=(4, 3), frame="galactic")


def gaussian_migra(sigma, bias):
    sigma, bias = (np.reshape(value, (-1, 1)) for value in (sigma, bias))
    migra = MIGRA.center.value
    return np.exp(-0.5 * ((migra - 1 - bias) / sigma) ** 2) / sigma / np.sqrt(2 * np.pi)


def on_sky(data):
    """Repeat a response over the sky with a factor 0.01 * (1 + bin number)."""
    factor = 0.01 * (1 + np.arange(12.0).reshape(GEOM.npix_shape))
    return np.asarray(data)[:, :, np.newaxis, np.newaxis] * factor


def test_kernel_from_migra_agrees_with_gammapy():
    edisp = EDispMap(gaussian_migra([0.1, 0.15, 0.2], [0, 0.05, -0.1]), MIGRA, TRUE)
    # gammapy
    expected = [
        [7.5566465812734918e-01, 2.4432803049441010e-01, 0, 0],
        [9.2363826040352856e-05, 3.2389904230153255e-01, 6.7600849297022036e-01, 0],
        [
            4.6098623751685079e-04,
            1.3939543350444646e-02,
            4.7588367316498620e-01,
            5.0964653033261287e-01,
        ],
    ]
    kernel = edisp.get_kernel(None, RECO)
    np.testing.assert_allclose(kernel, expected, rtol=1e-12, atol=1e-16)
    np.testing.assert_array_equal(edisp.to_kernel_map(RECO).data, kernel)


def test_kernel_from_a_fine_migra_axis_tends_to_the_gaussian_integral():
    fine = MapAxis.from_edges(np.linspace(0, 3, 6001), name="migra")
    sigma = 0.1
    density = np.exp(-0.5 * ((fine.center.value - 1) / sigma) ** 2) / sigma / np.sqrt(2 * np.pi)
    kernel = EDispMap(np.tile(density, (3, 1)), fine, TRUE).get_kernel(None, RECO)
    exact = EDispKernelMap.from_gauss(RECO, TRUE, sigma).get_kernel()
    np.testing.assert_allclose(kernel, exact, atol=1e-6)


def test_diagonal_kernel_agrees_with_gammapy_and_keeps_probability():
    # gammapy (single precision)
    expected = [
        [0.4975524, 0.5024476, 0, 0],
        [0, 0.37953097, 0.62046903, 0],
        [0, 0, 0.27172312, 0.7282769],
    ]
    kernel = EDispKernelMap.from_diagonal(RECO, TRUE).get_kernel()
    np.testing.assert_allclose(kernel, expected, rtol=1e-6)
    np.testing.assert_allclose(kernel.sum(axis=1), 1, rtol=1e-12)
    same = MapAxis(TRUE.edges, name="energy", interp="log")
    np.testing.assert_allclose(
        EDispKernelMap.from_diagonal(same, TRUE).get_kernel(), np.eye(3), atol=1e-12
    )


def test_gaussian_kernel_with_a_bias_per_bin():
    edisp = EDispKernelMap.from_gauss(RECO, TRUE, [0.1, 0.2, 0.3], [0, 0.1, -0.1])
    wide = MapAxis.from_edges([1e-6, 1e6], name="energy", unit="TeV", interp="log")
    total = EDispKernelMap.from_gauss(wide, TRUE, 0.1).get_kernel()
    np.testing.assert_allclose(total, 1, rtol=1e-12)
    # Half of the events lie below the energy of the (biased) peak.
    peak = float(TRUE.center.value[1] * 1.1)
    half = MapAxis.from_edges([1e-6, peak], name="energy", unit="TeV", interp="log")
    kernel = EDispKernelMap.from_gauss(half, TRUE, 0.2, 0.1).get_kernel()
    np.testing.assert_allclose(kernel[1], 0.5, atol=1e-6)
    assert edisp.data.shape == (3, 4)
    with pytest.raises(ValueError, match="sigma"):
        EDispKernelMap.from_gauss(RECO, TRUE, 0.0)


def test_kernel_is_that_of_the_nearest_sky_bin():
    kernel = EDispKernelMap.from_diagonal(RECO, TRUE).data
    edisp = EDispKernelMap(on_sky(kernel), RECO, TRUE, GEOM)
    coord = GEOM.get_coord()
    moved = SkyCoord(coord.l + 0.3 * u.deg, coord.b - 0.2 * u.deg, frame="galactic")
    np.testing.assert_array_equal(
        edisp.get_kernel(moved), np.moveaxis(on_sky(kernel), (2, 3), (0, 1))
    )
    one = edisp.get_kernel(moved[2, 1].icrs)
    np.testing.assert_array_equal(one, edisp.data[:, :, 2, 1])
    assert edisp.get_kernel().shape == (3, 4)


@pytest.mark.parametrize("kind", ["kernel", "migra"])
def test_invalid_sky_bins_are_replaced_by_the_nearest_valid_one(kind, caplog):
    if kind == "kernel":
        data = on_sky(EDispKernelMap.from_diagonal(RECO, TRUE).data)
        make = partial(EDispKernelMap, data, RECO, TRUE, GEOM)
    else:
        data = on_sky(gaussian_migra([0.1, 0.2, 0.3], [0, 0, 0]))
        make = partial(EDispMap, data, MIGRA, TRUE, GEOM)
    coord = GEOM.get_coord()
    complete = make()
    expected = complete.get_kernel(coord[1, 2], RECO)
    data[:, :, 1, 3] = 0
    data[:, :, 2, 3] = 0
    data[:, :, 0, 3] = np.nan
    with caplog.at_level(logging.WARNING):
        np.testing.assert_allclose(make().get_kernel(coord[1, 3], RECO), expected, rtol=1e-14)
        off = SkyCoord(coord[1, 3].l - 20 * u.deg, coord[1, 3].b, frame="galactic")
        np.testing.assert_allclose(make().get_kernel(off, RECO), expected, rtol=1e-14)
    assert "nearest" in caplog.text
    # Where the response has an exposure, that says where it is valid ...
    exposure = np.ones((3, 3, 4)) * u.Unit("m2 s")
    exposure[:, 1, 2] = 0
    by_exposure = make(exposure=exposure)
    beside = SkyCoord(coord[1, 2].l + 0.2 * u.deg, coord[1, 2].b, frame="galactic")
    np.testing.assert_allclose(
        by_exposure.get_kernel(beside, RECO), complete.get_kernel(coord[1, 1], RECO)
    )
    assert not by_exposure.valid_mask[1, 2]
    # ... unless it is zero everywhere, as in some files.
    empty = make(exposure=0 * exposure)
    assert empty.valid_mask[1, 2] and not empty.valid_mask[1, 3]


def test_kernel_refuses_another_reconstructed_axis():
    edisp = EDispKernelMap.from_diagonal(RECO, TRUE)
    with pytest.raises(ValueError, match="reconstructed axis"):
        edisp.get_kernel(None, MapAxis.from_energy_bounds("1 TeV", "2 TeV", 4))


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="EDispKernelMap has the shape"):
        EDispKernelMap(np.zeros((4, 3)), RECO, TRUE)
    with pytest.raises(ValueError, match="exposure of EDispKernelMap"):
        EDispKernelMap(np.zeros((3, 4)), RECO, TRUE, exposure=np.ones(4) * u.Unit("m2 s"))
    assert "no sky grid" in repr(EDispKernelMap.from_diagonal(RECO, TRUE))


@pytest.mark.parametrize("nodes", [True, False])
def test_psf_containment_of_a_gaussian(nodes):
    if nodes:
        rad = MapAxis.from_nodes(np.linspace(0, 1, 401), name="rad", unit="deg")
    else:
        rad = MapAxis.from_edges(np.linspace(0, 1, 401), name="rad", unit="deg")
    sigma = np.deg2rad([0.1, 0.15, 0.2])[:, np.newaxis]
    r = rad.center.to_value("rad")
    psf = PSFMap(np.exp(-0.5 * (r / sigma) ** 2) / (2 * np.pi * sigma**2), rad, TRUE)
    radius = np.array([0.0, 0.05, 0.2, 0.9, 5.0])
    for index, width in enumerate([0.1, 0.15, 0.2]):
        exact = 1 - np.exp(-0.5 * (radius / width) ** 2)
        np.testing.assert_allclose(psf.containment(index, radius), exact, atol=1e-4)
    np.testing.assert_allclose(psf.containment(0, "0.1 deg"), 1 - np.exp(-0.5), atol=1e-4)
    assert psf.rad_axis is rad


def test_psf_profile_on_the_sky():
    rad = MapAxis.from_nodes([0, 0.1, 0.5], name="rad", unit="deg")
    psf = PSFMap(on_sky(np.ones((3, 3))), rad, TRUE, GEOM)
    profile = psf.get_profile(GEOM.get_coord()[1, 3])
    np.testing.assert_allclose(profile, 0.08)


RAD = MapAxis.from_nodes([0, 0.1, 0.5], name="rad", unit="deg")


def test_psf_profile_at_energies_is_linear_in_their_logarithm():
    psf = PSFMap([[1.0, 4, 0], [3, 2, 0], [11, 0, 4]], RAD, TRUE)
    nodes = TRUE.center_tev()
    found = psf.get_profile(energy=nodes)
    np.testing.assert_allclose(found, psf.data, rtol=1e-13)
    between = nodes[0] * (nodes[1] / nodes[0]) ** 0.25
    found = psf.get_profile(energy=[between, 1e-3, 1e3])
    np.testing.assert_allclose(found, [[1.5, 3.5, 0], [1, 4, 0], [11, 0, 4]], rtol=1e-12)
    assert psf.get_profile(energy=[]).shape == (0, 3)
    one = MapAxis.from_energy_bounds("1 TeV", "10 TeV", 1, name="energy_true")
    single = PSFMap([[1.0, 2, 3]], RAD, one).get_profile(energy=[0.5, 3, 50])
    np.testing.assert_array_equal(single, [[1, 2, 3]] * 3)


def test_psf_profile_at_energies_and_positions():
    psf = PSFMap(on_sky(np.arange(9.0).reshape(3, 3)), RAD, TRUE, GEOM)
    positions = GEOM.get_coord()[:2, :3]
    energy = [1.5, 2.5, 6.0, 20.0]
    found = psf.get_profile(positions, energy)
    assert found.shape == (2, 3, 4, 3)
    one = psf.get_profile(positions[1, 2], energy)
    np.testing.assert_array_equal(found[1, 2], one)
    alone = PSFMap(psf.data[:, :, 1, 2], RAD, TRUE).get_profile(energy=energy)
    np.testing.assert_allclose(one, alone, rtol=1e-13)


def test_psf_profile_bridges_bins_without_density():
    axis = MapAxis.from_energy_bounds("1 TeV", "32 TeV", 5, name="energy_true")
    data = np.zeros((5, 3))
    data[2], data[4] = [4, 2, 0], [8, 1, 0]
    psf = PSFMap(data, RAD, axis)
    np.testing.assert_array_equal(psf.get_profile(), data)
    found = psf.get_profile(energy=[*axis.center_tev()[[0, 1, 2, 4]], 1.0, 2.0])
    np.testing.assert_allclose(found, data[[2, 2, 2, 4, 2, 2]], rtol=1e-12)
    # Nothing at all stays nothing.
    empty = PSFMap(0 * data, RAD, axis).get_profile(energy=[1.0, 9.0])
    np.testing.assert_array_equal(empty, 0)


@pytest.mark.parametrize("energy", [2.0, [1.0, -1.0], [0.0], [np.nan], [[1.0]]])
def test_psf_profile_refuses_energies_that_are_not(energy):
    psf = PSFMap(np.ones((3, 3)), RAD, TRUE)
    with pytest.raises(ValueError, match="energy must be a list of positive energies"):
        psf.get_profile(energy=energy)


def test_psf_per_reconstructed_energy():
    psf = RecoPSFMap(np.arange(12.0).reshape(4, 3), RAD, energy_axis=RECO)
    assert psf.energy_axis is RECO and psf.rad_axis is RAD and psf.axes == [RAD, RECO]
    assert "RecoPSFMap" in repr(psf) and "'energy'" in repr(psf)
    nodes = RECO.center_tev()
    middle = np.sqrt(nodes[1] * nodes[2])
    np.testing.assert_allclose(psf.get_profile(energy=[middle])[0], [4.5, 5.5, 6.5], rtol=1e-12)
    assert not hasattr(psf, "energy_axis_true")
    with pytest.raises(AttributeError, match="no true energy"):
        _ = psf.energy_axis_true
    with pytest.raises(ValueError, match="energy_axis of RecoPSFMap .* PSFMap is for true energy"):
        RecoPSFMap(np.ones((3, 3)), RAD, TRUE)
    with pytest.raises(ValueError, match="data of RecoPSFMap has the shape"):
        RecoPSFMap(np.ones((3, 3)), RAD, RECO)


@pytest.mark.parametrize(("cls", "axis"), [(PSFMap, TRUE), (RecoPSFMap, RECO)])
def test_gaussian_psf(cls, axis):
    sigma = np.linspace(0.2, 0.05, axis.nbin)
    psf = cls.from_gauss(axis, sigma * u.deg)
    assert type(psf) is cls and psf.axes[1] is axis
    radius = np.array([0.03, 0.1, 0.4, 1.2])
    for index, width in enumerate(sigma):
        exact = 1 - np.exp(-0.5 * (radius / width) ** 2)
        np.testing.assert_allclose(psf.containment(index, radius), exact, atol=2e-4)
        np.testing.assert_allclose(psf.containment(index, "5 deg"), 1, rtol=1e-12)
    np.testing.assert_array_equal(
        cls.from_gauss(axis, "0.1 deg").data, cls.from_gauss(axis, 0.1).data
    )
    own = cls.from_gauss(axis, 0.1, MapAxis.from_nodes([0, 0.1, 0.3], name="rad", unit="deg"))
    np.testing.assert_allclose(own.containment(0, 0.3), 1, rtol=1e-12)
    with pytest.raises(ValueError, match="sigma must be positive"):
        cls.from_gauss(axis, 0.0)
