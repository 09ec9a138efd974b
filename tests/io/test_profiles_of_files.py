"""Other people's files end in profiles that agree with gammapy's, hand computation or the truth.

The files of the Fermi tools, of ctools and HEALPix are in test_io_other_tools.
"""

import re

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleAnnulusSkyRegion, CircleSkyRegion, RectangleSkyRegion, Regions
from scipy.optimize import brentq

from jaxprof import (
    FluxProfileEstimator,
    ForwardFoldingProfileEstimator,
    LogParabolaSpectralModel,
    MapAxis,
    MapDataset,
    PointSpatialModel,
    PowerLawSpectralModel,
    PSFMap,
    SkyModel,
    WcsGeom,
    WcsNDMap,
    make_concentric_annulus_sky_regions,
    predicted_counts,
)

pytestmark = pytest.mark.slow


def data_file(cases_dir, name):
    path = cases_dir / "data" / name
    if not path.exists():
        pytest.skip(f"$JAXPROF_CASES has no data/{name}")
    return path


def lowest_cash(counts, background, signal):
    """Norm at which the derivative of the Cash statistic vanishes."""
    start = -np.min(background[counts > 0] / signal[counts > 0])
    return brentq(
        lambda x: np.sum(signal - counts * signal / (background + x * signal)),
        start + 1e-9 * abs(start),
        1e6,
        xtol=1e-12,
        rtol=1e-14,
    )


def test_hawc(cases_dir):
    dataset = MapDataset.read(data_file(cases_dir, "hawc_nHit-5_cutout.fits.gz"), name="nHit-5")
    crab = SkyCoord(83.63, 22.01, unit="deg")
    regions = make_concentric_annulus_sky_regions(center=crab, radius_max="0.9 deg", nbin=4)
    profile = FluxProfileEstimator(
        regions,
        spectral_model=PowerLawSpectralModel(index=2.63),
        energy_edges=[3.16, 31.6] * u.TeV,
        selection_optional="ul",
    ).run(dataset)
    # FluxProfileEstimator of gammapy 2.1; its minima end 3e-3 errors away, its limits do not.
    right = np.array([28.44465145119878, 16.353804167839858, 3.6829276716348196])
    errors = np.array([3.0955118058944247, 3.5263484721954503, 3.974754808541384])
    limits = [34.95753463403454, 23.727064815600077, 11.95291628788761]
    assert_array_equal(profile.counts[:, 0], [178, 232, 296])
    assert_allclose((profile.norm[:, 0] - right) / errors, 0, atol=4e-3)
    assert_allclose(profile.norm_err[:, 0], errors, rtol=5e-4)
    assert_allclose(profile.norm_ul[:, 0], limits, rtol=1e-7)
    # The spectrum of the Crab that HAWC published (ApJ 881, 134), all of it within the PSF.
    spectrum = LogParabolaSpectralModel(
        amplitude="2.35e-13 cm-2 s-1 TeV-1", reference="7 TeV", alpha=2.79, beta=0.10
    )
    point = SkyModel(spectrum, PointSpatialModel(lon_0=crab.ra, lat_0=crab.dec, frame="icrs"))
    expected = predicted_counts(dataset, point).data[2:6].sum(axis=(1, 2))
    by_gammapy = [99.55501524560535, 60.54853409893337, 12.61389208, 0.99039118]
    assert_allclose(expected, by_gammapy, rtol=2e-3)
    disc = [
        CircleSkyRegion(crab, 0.9 * u.deg),
        CircleAnnulusSkyRegion(crab, 0.9 * u.deg, 1.1 * u.deg),
    ]
    whole = FluxProfileEstimator(
        disc, spectral_model=spectrum, energy_edges=[3.16, 31.6] * u.TeV
    ).run(dataset)
    assert whole.norm_err[0, 0] < 0.2
    assert abs(whole.norm[0, 0] - 1) < 2 * whole.norm_err[0, 0]


def test_a_file_of_an_old_version_of_gammapy(cases_dir):
    """Which gammapy 2.1 does not read: the fit by hand, from the arrays of the file."""
    path = data_file(cases_dir, "gammapy_0.1x_gc_example.fits")
    spectrum = PowerLawSpectralModel(index=2.3)
    regions = [
        RectangleSkyRegion(SkyCoord(lon, 0.0, unit="deg", frame="galactic"), 0.4 * u.deg, 1 * u.deg)
        for lon in (0.2, -0.2)
    ]
    profile = FluxProfileEstimator(
        regions, spectral_model=spectrum, energy_edges=[0.1, 10] * u.TeV
    ).run(MapDataset.read(path))
    with fits.open(path) as file:
        counts, exposure, background = (
            file[name].data.astype(float) for name in ("COUNTS", "EXPOSURE", "BACKGROUND")
        )
        matrix = np.zeros((3, 3))
        for row, (*_, first, n, values) in enumerate(file["EDISP_MATRIX"].data):
            matrix[row, first[0] :][: n[0]] = values  # counted from 0
        low, high = (file["EXPOSURE_BANDS"].data[name] * 1.0 for name in ("E_MIN", "E_MAX"))
        sky = WCS(file["COUNTS"].header)
    y, x = np.indices(counts.shape[1:])
    lon, lat = sky.celestial.pixel_to_world_values(x, y)
    lon = np.where(lon > 180, lon - 360, lon)
    flux = (low**-1.3 - high**-1.3) / 1.3 * 1e-12
    for row, at in enumerate((0.2, -0.2)):
        member = (abs(lon - at) < 0.2) & (abs(lat) < 0.5)
        assert member.sum() == 40
        mean = exposure[:, member].mean(axis=1) * 1e4
        signal = (flux * mean) @ matrix
        n, b = counts[:, member].sum(axis=1), background[:, member].sum(axis=1)
        assert_allclose(
            profile.npred_excess[row, 0], profile.norm[row, 0] * signal.sum(), rtol=1e-5
        )
        assert_allclose(profile.norm[row, 0], lowest_cash(n, b, signal), rtol=1e-5)


def test_template_of_w44(cases_dir):
    """Counts of the image's own pixels, each spread by the PSF, give their norms back."""
    path = data_file(cases_dir, "W44_template_AIT.fits")
    with fits.open(path) as file:
        image, sky = file[0].data.astype(float), WCS(file[0].header)
    y, x = np.nonzero(image)
    at = SkyCoord(*sky.pixel_to_world_values(x, y), unit="deg", frame="fk5")
    share = image[y, x] / image.sum()
    center = SkyCoord(283.99, 1.355, unit="deg", frame="fk5").galactic
    reco = MapAxis.from_energy_bounds("1 GeV", "100 GeV", nbin=1)
    true = reco.rename("energy_true")
    geom = WcsGeom.create(center, binsz=0.05, width=3, frame="galactic", axes=[reco])
    sigma = 0.12
    coord = geom.get_coord()
    away = coord.reshape(-1, 1).separation(at[None, :]).deg
    density = np.exp(-0.5 * (away / sigma) ** 2) / (2 * np.pi * np.deg2rad(sigma) ** 2)
    solid_angle = geom.solid_angle().to_value("sr")
    west = at.galactic.l.deg < center.l.deg
    spread = [
        (density[:, half] @ share[half]).reshape(coord.shape) * solid_angle
        for half in (west, ~west)
    ]
    spectrum = PowerLawSpectralModel(index=2.3)
    flux = float(spectrum.integral(1e-3, 0.1))
    wanted = np.array([2.0, 5.0])
    counts = flux * 1e12 * sum(norm * part for norm, part in zip(wanted, spread, strict=True))
    dataset = MapDataset(
        counts=WcsNDMap(geom, counts[None]),
        background=WcsNDMap(geom, np.full(geom.data_shape, 1e-3 * counts.max())),
        exposure=WcsNDMap(geom.to_cube([true]), 1e12, unit="cm2 s"),
        psf=PSFMap.from_gauss(true, sigma),
    )
    dataset.counts.data += dataset.background.data
    box = [
        RectangleSkyRegion(
            SkyCoord(center.l + lon * u.deg, center.b, frame="galactic"), 0.5 * u.deg, 1 * u.deg
        )
        for lon in (-0.25, 0.25)
    ]
    profile = ForwardFoldingProfileEstimator(
        box,
        spectral_model=spectrum,
        energy_edges=[1, 100] * u.GeV,
        template=WcsNDMap.read(path),
    ).run(dataset)
    right = wanted * [share[west].sum(), share[~west].sum()]
    assert_allclose(profile.norm.sum(), right.sum(), rtol=1e-3)
    # Between the bins the template is cut where its pixels are not.
    assert_allclose(profile.norm[:, 0], right, rtol=5e-3)


def test_regions_of_the_fermi_collaboration(cases_dir):
    """A uniform sky: every region has its intensity, and the solid angle that its line says."""
    path = data_file(cases_dir, "LAT_ext_14y.reg")
    axes = [MapAxis.from_energy_bounds("1 GeV", "100 GeV", nbin=1)]
    geom = WcsGeom.create(binsz=0.25, frame="galactic", axes=axes)
    solid_angle = geom.solid_angle().to_value("sr")
    dataset = MapDataset(
        counts=WcsNDMap(geom, (3e7 * solid_angle)[None]),
        background=WcsNDMap(geom, np.full(geom.data_shape, 1e-3)),
        exposure=WcsNDMap(geom.to_cube([axes[0].rename("energy_true")]), 1e12, unit="cm2 s"),
    )
    dataset.counts.data += 1e-3
    regions = Regions.read(path, format="ds9")
    with (
        pytest.warns(UserWarning, match="regions 1, 11, 30, 36, 45 of 82 .*no pixel's centre"),
        pytest.warns(UserWarning, match="regions 25, 26, 42, 67, 79, 80 of 82 .*solid angle"),
    ):
        profile = FluxProfileEstimator(regions, energy_edges=[1, 100] * u.GeV).run(dataset)
    inside = profile.success[:, 0]
    assert inside.sum() == 77
    brightness = profile.surface_brightness("flux").to_value("cm-2 s-1 sr-1")
    assert_allclose(brightness[inside, 0], 3e-5, rtol=1e-6)
    number = r"\s*([-\d.]+)\s*"
    lines = re.findall(
        rf"ellipse\({','.join([number] * 5)}\)# text={{(.*?)}}", path.read_text("utf-8")
    )
    assert len(lines) > 75
    areas = dict(
        zip(profile["name"].data, profile.region_solid_angle.to_value("deg2"), strict=True)
    )
    for *_, first, second, _, name in lines:
        # On the sphere, an ellipse of 3 deg is smaller than in the plane by 1e-3.
        assert areas[name] == pytest.approx(np.pi * float(first) * float(second), rel=2e-3)
