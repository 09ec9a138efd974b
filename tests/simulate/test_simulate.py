"""The simulated Galactic centre against its documented formulas, computed independently."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, stats

from jaxprof.datasets import MapDataset
from jaxprof.models.spectral import PowerLaw2SpectralModel
from jaxprof.simulate import SimulatedSource, simulate_galactic_centre


def point(name="a", lon=0.0, lat=0.0, index=2.0, **kwargs):
    spectrum = PowerLaw2SpectralModel(amplitude=1e-9, index=index, emin=0.01, emax=0.5)
    return SimulatedSource(name, lon, lat, spectrum, **kwargs)


SMALL = {"shape": (50, 60), "mask_margin": 1.0, "sources": [point()]}


@pytest.fixture(scope="module")
def simulated():
    return simulate_galactic_centre(return_truth=True)


def test_same_kind_as_the_real_file(simulated):
    dataset, _ = simulated
    dataset.check()
    assert dataset.name == "galactic-centre-simulation"
    assert dataset.counts.data.shape == (11, 200, 400)
    assert dataset.exposure.data.shape == (12, 200, 400)
    assert dataset.geom.frame == "galactic"
    assert_allclose(dataset.geom.pixel_scales.to_value("deg"), 0.05)
    assert_allclose(dataset.energy_axis.edges_tev()[[0, -1]], [0.01, 0.5])
    # The real file has 32684 counts over a background of 28549 and 3.0 to 3.4e11 cm2 s.
    assert 28000 < dataset.counts.data.sum() < 36000
    assert 26000 < dataset.background.data.sum() < 31000
    assert 3.0e11 < dataset.exposure.data.min() < dataset.exposure.data.max() < 3.4e11


def test_matches_the_real_file(simulated, gc_file):
    real = MapDataset.read(gc_file)
    dataset, _ = simulated
    assert dataset.geom.is_allclose(real.geom)
    assert dataset.exposure.geom.is_allclose(real.exposure.geom)
    assert_array_equal(dataset.mask, real.mask)
    # Within a fifth in every energy bin that has counts enough to tell.
    assert_allclose(
        dataset.background.data.sum(axis=(1, 2))[:8],
        real.background.data.sum(axis=(1, 2))[:8],
        rtol=0.2,
    )


def test_seeds():
    first, second = (simulate_galactic_centre(3, **SMALL) for _ in range(2))
    other = simulate_galactic_centre(4, **SMALL)
    generator = simulate_galactic_centre(np.random.default_rng(3), **SMALL)
    assert_array_equal(first.counts.data, second.counts.data)
    assert_array_equal(first.counts.data, generator.counts.data)
    assert np.any(first.counts.data != other.counts.data)
    assert_array_equal(first.background.data, other.background.data)


def test_counts_do_not_depend_on_the_precision_of_jax():
    import jax

    double = simulate_galactic_centre(5, **SMALL)
    with jax.enable_x64(False):
        single = simulate_galactic_centre(5, **SMALL)
    assert_array_equal(double.counts.data, single.counts.data)
    assert_array_equal(double.background.data, single.background.data)


def test_counts_are_poisson_around_the_truth(simulated):
    dataset, truth = simulated
    npred = truth.npred.data
    assert dataset.counts.data.dtype == np.int32
    # The sum, and the variance of the bins: both standard normal for Poisson counts.
    excess = dataset.counts.data - npred
    assert abs(excess.sum()) < 4 * np.sqrt(npred.sum())
    chi2 = (excess**2).sum() - npred.sum()
    assert abs(chi2) < 4 * np.sqrt((2 * npred**2 + npred).sum())
    # The bright source's excess is where it should be.
    bright = truth.npred_sources["centre"].data.sum(axis=0)
    row, column = np.unravel_index(bright.argmax(), bright.shape)
    position = dataset.geom.get_coord()[row, column]
    assert abs(position.l.wrap_at("180d").deg) < 0.05 and abs(position.b.deg + 0.05) < 0.05


def test_background_and_sources_make_the_total(simulated):
    dataset, truth = simulated
    parts = [truth.npred_background.data, *(m.data for m in truth.npred_sources.values())]
    assert len(parts) == 10 and set(truth.sources) == set(truth.npred_sources)
    assert_allclose(truth.npred.data, np.sum(parts, axis=0), rtol=1e-12)
    assert_array_equal(dataset.background.data, truth.npred_background.data)
    assert all(part.min() >= 0 for part in parts)


def dispersion_by_quad(reco, true, t, e):
    """Probability of reconstructed bin e for true bin t, by adaptive quadrature."""

    def integrand(energy):
        low, high = (np.log(edge / energy) / 0.09 for edge in reco[e : e + 2])
        return energy**-2.5 * (stats.norm.cdf(high) - stats.norm.cdf(low))

    norm = (true[t] ** -1.5 - true[t + 1] ** -1.5) / 1.5
    return integrate.quad(integrand, true[t], true[t + 1], epsabs=0, epsrel=1e-10)[0] / norm


def test_energy_dispersion():
    dataset = simulate_galactic_centre(**SMALL)
    kernel = dataset.edisp.get_kernel()
    reco, true = dataset.energy_axis.edges_tev(), dataset.energy_axis_true.edges_tev()
    for t, e in [(0, 0), (3, 2), (3, 3), (5, 3), (11, 10)]:
        assert_allclose(kernel[t, e], dispersion_by_quad(reco, true, t, e), rtol=1e-7)
    assert np.all(kernel >= 0) and np.all(kernel.sum(axis=1) <= 1 + 1e-12)
    assert_allclose(kernel[2:-2].sum(axis=1), 1, atol=1e-6)


# Gaussians and shells extend beyond the cut of the PSF: the map must hold them all.
@pytest.mark.parametrize(
    ("kind", "size"),
    [("point", 0.0), ("gauss", 0.2), ("shell", 0.7)],
    ids=["point", "gauss", "shell"],
)
def test_counts_of_a_source(kind, size):
    source = point(lon=0.73, lat=-0.31, index=2.4, shape=kind, size=size)
    dataset, truth = simulate_galactic_centre(
        shape=(160, 160), sources=[source], exposure=1e12, return_truth=True
    )
    # 1e-9 cm-2 s-1 between 10 and 500 GeV, dN/dE = K E^-2.4.
    amplitude = 1e-9 * 1.4 / (0.01**-1.4 - 0.5**-1.4)
    nodes = 0.01 * 50 ** (np.arange(12) / 11)
    ratio = 50 ** (0.5 / 11)
    flux = amplitude / 1.4 * ((nodes / ratio) ** -1.4 - (nodes * ratio) ** -1.4)
    exposure = 1e12 * (1 - 0.008 * np.log(nodes / 0.06) ** 2) * (1 - 0.0017 * 0.73)
    expected = (flux * exposure) @ dataset.edisp.get_kernel()
    npred = truth.npred_sources["a"].data
    assert_allclose(npred.sum(axis=(1, 2)), expected, rtol=1e-6)
    # The centroid is at the source, to a small part of a pixel.
    coord = dataset.geom.get_coord()
    image = npred.sum(axis=0) / npred.sum()
    assert_allclose((image * coord.l.wrap_at("180d").deg).sum(), 0.73, atol=2e-3)
    assert_allclose((image * coord.b.deg).sum(), -0.31, atol=2e-3)


def test_extended_sources_have_their_size():
    def variance(**kwargs):
        _, truth = simulate_galactic_centre(
            shape=(200, 200), sources=[point(**kwargs)], return_truth=True
        )
        lon = truth.npred.geom.get_coord().l.wrap_at("180d").deg
        npred = truth.npred_sources["a"].data
        return (npred * lon**2).sum(axis=(1, 2)) / npred.sum(axis=(1, 2))

    psf = variance()
    assert_allclose(variance(shape="gauss", size=0.3) - psf, 0.3**2, rtol=0.01)
    # A homogeneous ball's variance along an axis is R^2 / 5; a shell is the difference of two.
    shell = 0.6**2 / 5 * (1 - 0.75**5) / (1 - 0.75**3)
    assert_allclose(variance(shape="shell", size=0.6) - psf, shell, rtol=0.01)


def test_point_source_has_the_psf():
    dataset, truth = simulate_galactic_centre(
        shape=(120, 120), sources=[point(lon=0.42, lat=0.11)], return_truth=True
    )
    coord = dataset.geom.get_coord()
    separation = np.hypot(coord.l.wrap_at("180d").deg - 0.42, coord.b.deg - 0.11)
    npred = truth.npred_sources["a"].data[-1]  # true energies where r68 changes no more
    for radius in (0.3, 0.6, 1.2):
        inside = npred[separation < radius].sum() / npred.sum()
        # Pixels of 0.05 deg make a ragged circle.
        assert_allclose(inside, dataset.psf.containment(11, radius), atol=0.01)


def test_psf_is_normalised_and_as_wide_as_documented():
    psf = simulate_galactic_centre(**SMALL).psf
    assert psf.rad_axis.unit == "deg"
    for index, energy in enumerate(psf.energy_axis_true.center_tev()):
        r68 = np.hypot(0.11 * (energy / 0.01) ** -0.8, 0.10)
        # The cut at 2 deg takes off at most 0.3 per cent.
        assert_allclose(psf.containment(index, r68), 0.68, rtol=4e-3)
        assert_allclose(psf.containment(index, 2.0), 1, rtol=1e-3)
        # The shape beyond: a King function with gamma = 2 and r68 holds 1 - 1 / (1 + x) within
        # r95 = 2.99 r68.
        assert_allclose(psf.containment(index, 2.990 * r68), 0.95, rtol=4e-3)


def test_background_follows_the_documented_intensity():
    dataset = simulate_galactic_centre(sources=[])
    # Far from the plane the PSF changes nothing: intensity, exposure and dispersion remain.
    row, column = 180, 300  # l = -5.025, b = 4.025
    lon, lat = -5.025, 4.025
    along = 0.55 + 0.45 * np.exp(-(lon**2) / 18)
    across = 6e-6 / np.cosh(lat / 0.6) ** 2 + 1.8e-6 / np.cosh(lat / 5) ** 2
    edges = dataset.energy_axis_true.edges_tev()
    nodes = dataset.energy_axis_true.center_tev()
    fraction = -np.diff(edges**-1.5) / (0.01**-1.5 - 0.5**-1.5)
    isotropic = [
        integrate.quad(lambda e: 0.095 * (e / 1e-4) ** -2.32 * np.exp(-e / 0.279), *pair, epsabs=0)[
            0
        ]
        for pair in zip(edges[:-1], edges[1:], strict=True)
    ]
    exposure = 3.2e11 * (1 - 0.008 * np.log(nodes / 0.06) ** 2) * (1 - 0.0017 * lon)
    solid_angle = np.deg2rad(0.05) ** 2 * np.cos(np.deg2rad(lat))
    photons = (along * across * fraction + isotropic) * exposure * solid_angle
    expected = photons @ dataset.edisp.get_kernel()
    assert_allclose(dataset.background.data[:, row, column], expected, rtol=0.01)
    assert_allclose(dataset.exposure.data[:, row, column], exposure, rtol=1e-10)


def test_edges_of_the_map_are_not_darkened_by_the_psf():
    large = simulate_galactic_centre(shape=(60, 200), sources=[], mask_margin=0).background.data
    small = simulate_galactic_centre(shape=(40, 100), sources=[], mask_margin=0).background.data
    assert_allclose(small, large[:, 10:-10, 50:-50], rtol=1e-6)


def test_sources_off_the_map():
    sources = [point("near", lat=2.6), point("far", lon=120, lat=80), point("back", lon=180)]
    _, truth = simulate_galactic_centre(
        shape=(100, 100), mask_margin="0.5 deg", sources=sources, return_truth=True
    )
    assert 0 < truth.npred_sources["near"].data.sum() < 100
    assert truth.npred_sources["far"].data.sum() == 0
    assert truth.npred_sources["back"].data.sum() == 0


@pytest.mark.parametrize("margin", [0, 0.2, "30 arcmin"])
def test_mask(margin):
    dataset = simulate_galactic_centre(shape=(40, 60), mask_margin=margin, n_energy=3, sources=[])
    cut = {0: 0, 0.2: 4, "30 arcmin": 10}[margin]
    image = np.zeros((40, 60), dtype=bool)
    image[cut : 40 - cut, cut : 60 - cut] = True
    assert dataset.mask.shape == (3, 40, 60)
    assert_array_equal(dataset.mask, np.broadcast_to(image, (3, 40, 60)))


def test_other_pixels_and_energies():
    options = {"sources": [point(shape="gauss", size=0.3)], "mask_margin": 0, "return_truth": True}
    _, fine = simulate_galactic_centre(shape=(100, 100), binsz=0.05, **options)
    coarse_set, coarse = simulate_galactic_centre(shape=(20, 20), binsz="0.25 deg", **options)
    for name in ("npred_background", "npred"):
        sums = [getattr(truth, name).data.sum(axis=(1, 2)) for truth in (fine, coarse)]
        assert_allclose(*sums, rtol=0.02)
    wide = simulate_galactic_centre(
        sources=[],
        shape=(20, 20),
        binsz=0.5,
        n_energy=5,
        energy_min=0.003,
        energy_max="1 TeV",
        exposure="1e9 m2 s",
    )
    assert wide.energy_axis.nbin == 5 and wide.energy_axis_true.nbin == 6
    assert_allclose(wide.energy_axis.edges_tev()[[0, -1]], [0.003, 1])
    # Exposure is proportional to the argument: 1e9 m2 s = 1e13 cm2 s.
    assert_allclose(wide.exposure.quantity.to_value("cm2 s").max(), 1e13, rtol=0.03)
    assert coarse_set.counts.data.shape == (11, 20, 20)


def test_write_and_read(tmp_path):
    dataset = simulate_galactic_centre(1, **SMALL)
    path = tmp_path / "simulated.fits.gz"
    dataset.write(path)
    again = MapDataset.read(path)
    assert again.name == dataset.name
    for part in ("counts", "background", "exposure", "mask_safe"):
        mine, theirs = getattr(dataset, part), getattr(again, part)
        assert mine.geom.is_allclose(theirs.geom) and mine.unit == theirs.unit
        assert_array_equal(mine.data, theirs.data)
    for part in ("edisp", "psf"):
        mine, theirs = getattr(dataset, part), getattr(again, part)
        assert_array_equal(mine.data, theirs.data)
        assert all(a.is_allclose(b) for a, b in zip(mine.axes, theirs.axes, strict=True))
        assert_allclose(mine.exposure.value, theirs.exposure.value)
    assert_array_equal(dataset.gti["START"], again.gti["START"])


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("seed", -1),
        ("seed", "today"),
        ("seed", 1.5),
        ("seed", None),
        ("shape", 100),
        ("shape", (0, 10)),
        ("shape", (100, 2000)),
        ("shape", (1, 2, 3)),
        ("binsz", 0),
        ("binsz", "1 TeV"),
        ("binsz", 0.001),
        ("n_energy", 1),
        ("n_energy", 2.5),
        ("energy_min", "1 TeV"),
        ("energy_min", "10 MeV"),
        ("energy_max", "1 deg"),
        ("exposure", -1),
        ("exposure", "1 s"),
        ("mask_margin", -0.1),
        ("mask_margin", 1.5),
        ("mask_margin", np.nan),
        ("sources", ["a"]),
        ("sources", [point(), point()]),
    ],
)
def test_bad_arguments(argument, value):
    with pytest.raises(ValueError, match=argument):
        simulate_galactic_centre(**(SMALL | {argument: value}))


@pytest.mark.parametrize(
    ("word", "options"),
    [
        ("shape", {"shape": "box"}),
        ("size", {"shape": "gauss"}),
        ("size", {"shape": "shell", "size": 9}),
        ("size", {"size": 1}),
        ("position", {"lat": 91}),
        ("position", {"lon": np.nan}),
    ],
)
def test_bad_sources(word, options):
    with pytest.raises(ValueError, match=word):
        point(**options)


def test_source_needs_a_model():
    with pytest.raises(ValueError, match="spectral_model"):
        SimulatedSource("a", 0, 0, 1e-9)
