"""Solid angles of pixels and regions: which of them fluxes refer to, and what is said of them."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleAnnulusSkyRegion, CircleSkyRegion, RectangleSkyRegion

from jaxprof import (
    FluxProfile,
    FluxProfileEstimator,
    ForwardFoldingProfileEstimator,
    MapAxis,
    MapDataset,
    MapDatasetOnOff,
    PowerLawSpectralModel,
    PSFMap,
    WcsGeom,
    WcsNDMap,
)

INTENSITY, EXPOSURE = 1e-6, 1e11  # cm-2 s-1 sr-1, cm2 s
EDGES = [10, 100] * u.GeV


def gal(lon, lat):
    return SkyCoord(lon, lat, unit="deg", frame="galactic")


def uniform_sky(binsz=0.1, npix=(40, 20), center=(0, 0), *, name="sky", psf=False, on_off=False):
    """One energy of a sky that is equally bright everywhere; counts are as expected."""
    axes = [
        MapAxis.from_energy_bounds("10 GeV", "100 GeV", 1, name=kind)
        for kind in ("energy", "energy_true")
    ]
    image = WcsGeom.create(center, binsz=binsz, npix=npix, frame="galactic", proj="CAR")
    geom, true = (image.to_cube([axis]) for axis in axes)
    counts = INTENSITY * EXPOSURE * image.solid_angle().to_value("sr")[np.newaxis]
    parts = {
        "exposure": WcsNDMap(true, np.full(true.data_shape, EXPOSURE), unit="cm2 s"),
        "name": name,
    }
    if on_off:
        level = WcsNDMap(geom, np.full(geom.data_shape, 2.0))
        return MapDatasetOnOff(
            counts=WcsNDMap(geom, counts + 1),
            counts_off=level,
            acceptance=WcsNDMap(geom, 0.5 * level.data),
            acceptance_off=level,
            **parts,
        )
    background = WcsNDMap(geom, np.full(geom.data_shape, 1e-3))
    if psf:
        parts["psf"] = PSFMap.from_gauss(axes[1], sigma=0.02 * u.deg)
    return MapDataset(
        counts=WcsNDMap(geom, counts + background.data), background=background, **parts
    )


# A pixel is 0.1 deg wide, and centres are at 0.05, 0.15, ... deg.
SHAPES = [
    CircleSkyRegion(gal(0, 0), 0.1 * u.deg),
    CircleSkyRegion(gal(1, 0.3), 0.5 * u.deg),
    CircleAnnulusSkyRegion(gal(-1, 0), 0.21 * u.deg, 0.33 * u.deg),
    RectangleSkyRegion(gal(0.5, 0.05), 0.08 * u.deg, 0.16 * u.deg),
]
RADIANS = np.pi / 180
EXACT = [
    4 * np.pi * np.sin(0.05 * RADIANS) ** 2,
    4 * np.pi * np.sin(0.25 * RADIANS) ** 2,
    4 * np.pi * (np.sin(0.165 * RADIANS) ** 2 - np.sin(0.105 * RADIANS) ** 2),
    0.08 * RADIANS * 2 * np.sin(0.08 * RADIANS),
]


def run(regions, datasets, **options):
    options = {"spectral_model": PowerLawSpectralModel(index=2), "energy_edges": EDGES, **options}
    return FluxProfileEstimator(regions, **options).run(datasets)


def pixel_centres(region_number):
    """Solid angle of the pixels of a shape by hand: separations and boxes in numpy."""
    image = uniform_sky().geom.to_image()
    coords = image.get_coord()
    lon, lat = coords.l.wrap_at("180d").deg, coords.b.deg
    apart = [gal(lon, lat).separation(shape.center).deg for shape in SHAPES]
    inside = [
        apart[0] < 0.1,
        apart[1] < 0.5,
        (apart[2] >= 0.21) & (apart[2] < 0.33),
        (np.abs(lon - 0.5) < 0.04) & (np.abs(lat - 0.05) < 0.08),
    ][region_number]
    return image.solid_angle().to_value("sr")[inside].sum()


def test_uniform_sky():
    """Flux of the pixels or of the region; the surface brightness is right with both."""
    with pytest.warns(UserWarning, match="solid angle of the pixels") as record:
        pixels = run(SHAPES[:3], uniform_sky())
    assert len(record) == 1
    region = run(SHAPES[:3], uniform_sky(), reference_solid_angle="region")
    sizes = [pixel_centres(k) for k in range(3)]
    for profile in (pixels, region):
        assert_allclose(profile.solid_angle.to_value("sr"), sizes, rtol=1e-10)
        assert_allclose(profile.region_solid_angle.to_value("sr"), EXACT[:3], rtol=1e-10)
        assert profile.region_solid_angle.unit == u.sr
        brightness = profile.surface_brightness("flux").to_value("cm-2 s-1 sr-1")
        assert_allclose(brightness[:, 0], INTENSITY, rtol=1e-7)
        assert_array_equal(profile.coverage, 1)
    assert_allclose(pixels.flux.value[:, 0], INTENSITY * np.array(sizes), rtol=1e-7)
    assert_allclose(region.flux.value[:, 0], INTENSITY * np.array(EXACT[:3]), rtol=1e-7)
    assert pixels.reference_solid_angle == "pixels" and region.reference_solid_angle == "region"
    assert "reference solid angle  : region" in str(region)


@pytest.mark.parametrize("policy", ["coverage", "mean-exposure"])
@pytest.mark.parametrize("likelihood", ["region", "pixel"])
def test_scales_with_every_policy_and_likelihood(policy, likelihood):
    """Norms, errors and limits grow by the ratio of the solid angles, masks or not."""
    dataset = uniform_sky()
    mask = np.ones(dataset.geom.data_shape, bool)
    mask[:, :, :8] = False  # the second circle is cut
    dataset.mask_safe = WcsNDMap(dataset.geom, mask)
    options = {"mask_policy": policy, "likelihood": likelihood, "selection_optional": ["ul"]}
    with pytest.warns(UserWarning, match="region 0 of 2"):
        pixels = run(SHAPES[:2], dataset, **options)
    region = run(SHAPES[:2], dataset, reference_solid_angle="region", **options)
    ratio = (region.region_solid_angle / region.solid_angle).value[:, np.newaxis]
    for name in ("norm", "norm_err", "norm_ul"):
        assert_allclose(getattr(region, name), ratio * getattr(pixels, name), rtol=1e-7)
    for name in ("stat", "ts", "npred", "coverage", "npred_excess"):
        assert_allclose(getattr(region, name), getattr(pixels, name), rtol=1e-7)
    truth = INTENSITY * np.array(EXACT[:2])
    if policy == "coverage":
        assert_allclose(region.flux.value[:, 0], truth, rtol=1e-7)
    else:  # what a mask takes away is missing, as in gammapy
        assert_allclose(region.flux.value[:, 0], truth * region.coverage[:, 0], rtol=1e-3)


def test_on_off_and_datasets_of_different_pixels():
    """The solid angle of the pixels differs between datasets, that of the region does not."""
    regions = SHAPES[1:3]
    datasets = [uniform_sky(name="fine"), uniform_sky(0.04, (90, 60), name="finer")]
    region = run(regions, datasets, reference_solid_angle="region")
    assert_allclose(region.flux.value[:, 0], INTENSITY * np.array(EXACT[1:3]), rtol=1e-7)
    pixels = run(regions, datasets)
    assert np.all(np.abs(pixels.flux.value[:, 0] / EXACT[1:3] / INTENSITY - 1) > 1e-4)
    on_off = run(regions, uniform_sky(on_off=True), reference_solid_angle="region")
    assert_allclose(on_off.flux.value[:, 0], INTENSITY * np.array(EXACT[1:3]), rtol=1e-7)


def test_warning_names_bins_and_line():
    sizes = np.array([pixel_centres(k) for k in range(3)]) / EXACT[:3]
    assert np.all(np.abs(sizes[1:] - 1) < 0.2) and abs(sizes[0] - 1) > 0.2
    # The last shape holds no pixel's centre, which is another message.
    with pytest.warns(UserWarning) as record:
        run(SHAPES, uniform_sky())
    few, none = sorted((str(w.message) for w in record), key=lambda text: "solid" not in text)
    assert few.startswith("region 0 of 4 (counted from 0") and "the solid angle of the" in few
    assert f"is {sizes[0]:.2g} times that of the region" in few
    assert "reference_solid_angle='region'" in few
    assert none.startswith("region 3 of 4 (counted from 0")
    assert "holding no pixel's centre" in none
    assert {w.filename for w in record} == {__file__}


def test_option_is_checked():
    with pytest.raises(ValueError, match="reference_solid_angle must be one of 'pixels', 'region'"):
        FluxProfileEstimator(SHAPES, reference_solid_angle="exact")
    estimator = FluxProfileEstimator(SHAPES)
    estimator.reference_solid_angle = "region"
    assert "reference_solid_angle  : region" in str(estimator)
    with pytest.raises(ValueError, match="'pixels', 'region'"):
        estimator.reference_solid_angle = True
    with pytest.raises(ValueError, match="spreads emission over the parts of pixels"):
        ForwardFoldingProfileEstimator(SHAPES, reference_solid_angle="region")
    profile = run(SHAPES[1:3], uniform_sky())
    state = {"axis": profile.axis, "energy_edges": profile.energy_edges, "reference_model": None}
    with pytest.raises(ValueError, match="reference_solid_angle is 'sky'; valid are 'pixels'"):
        FluxProfile(
            {"norm": profile.norm},
            reference=profile.reference,
            reference_solid_angle="sky",
            **state,
        )
    bare = FluxProfile(
        {"norm": profile.norm, "solid_angle": [1, 1]},
        reference=profile.reference,
        reference_solid_angle="region",
        **state,
    )
    with pytest.raises(ValueError, match="needs 'region_solid_angle'"):
        bare.surface_brightness()


def test_joint_fit_knows_both_and_needs_no_option():
    """Emission is spread over parts of pixels: fluxes are those of the regions."""
    regions = [
        RectangleSkyRegion(gal(x, 0.02), 0.33 * u.deg, 0.71 * u.deg) for x in (-0.33, 0, 0.33)
    ]
    options = {"spectral_model": PowerLawSpectralModel(index=2), "energy_edges": EDGES}
    joint = ForwardFoldingProfileEstimator(regions, guard_bins=1, **options).run(
        uniform_sky(psf=True)
    )
    exact = 0.33 * RADIANS * 2 * np.sin(0.355 * RADIANS)
    assert_allclose(joint.region_solid_angle.to_value("sr"), exact, rtol=1e-9)
    assert_allclose(joint.solid_angle.to_value("sr"), exact, rtol=1e-5)
    # The sky goes on above and below the boxes and leaks in, a little of 0.02 deg.
    assert_allclose(joint.flux.value[1], INTENSITY * exact, rtol=0.05)
    assert joint.reference_solid_angle == "pixels"
    rough = ForwardFoldingProfileEstimator(
        [CircleSkyRegion(gal(x, 0), 0.1 * u.deg) for x in (-0.4, 0, 0.4)],
        oversampling=1,
        **options,
    )
    with pytest.warns(UserWarning, match="regions 0, 1, 2 of 3 .*use a larger oversampling") as w:
        rough.response(uniform_sky(psf=True))
    assert [one.filename for one in w] == [__file__]


@pytest.mark.parametrize("ending", [".fits", ".fits.gz", ".ecsv"])
def test_files_tables_and_slices(tmp_path, ending):
    profile = run(SHAPES[1:3], uniform_sky(), reference_solid_angle="region")
    table = profile.to_table("flux")
    assert table["region_solid_angle"].unit == u.sr and table["region_solid_angle"].shape == (2,)
    assert_allclose(table["region_solid_angle"], EXACT[1:3], rtol=1e-10)
    assert table.meta["SOLIDREF"] == "region"
    profile.write(tmp_path / f"p{ending}")
    back = FluxProfile.read(tmp_path / f"p{ending}")
    assert back.reference_solid_angle == "region"
    assert_array_equal(back.region_solid_angle, profile.region_solid_angle)
    assert_array_equal(back.surface_brightness("flux"), profile.surface_brightness("flux"))
    part = back.slice_by_idx({profile.axis.name: [1]})
    assert_array_equal(part.region_solid_angle, profile.region_solid_angle[1:])
    assert part.reference_solid_angle == "region"
    assert_array_equal(part.surface_brightness(), profile.surface_brightness()[1:])


def test_old_files_have_neither(tmp_path):
    """Files of before read as they did: fluxes of the pixels."""
    profile = run(SHAPES[1:3], uniform_sky())
    table = profile.to_table("flux")
    table.remove_column("region_solid_angle")
    del table.meta["SOLIDREF"]
    table.write(tmp_path / "old.ecsv", format="ascii.ecsv")
    old = FluxProfile.read(tmp_path / "old.ecsv")
    assert old.reference_solid_angle == "pixels"
    assert "region_solid_angle" not in old.available_quantities
    with pytest.raises(AttributeError, match="region_solid_angle"):
        _ = old.region_solid_angle
    assert_allclose(old.surface_brightness("flux"), profile.surface_brightness("flux"), rtol=1e-14)
