"""Physical laws fitted to the counts: `jaxprof.fit_model`, against independent numbers."""

import dataclasses
import json
from types import SimpleNamespace

import astropy.units as u
import halo_factory
import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.table import Table
from forward_factory import CENTER, MODEL, dataset_of, estimator, gaussian_image, sky_image
from numpy.testing import assert_allclose
from regions import CircleAnnulusSkyRegion, EllipseSkyRegion, RectangleSkyRegion
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.special import gammaln

import jaxprof
from jaxprof.inference import law_fit
from jaxprof.inference.law_fit import law_goodness, law_start
from jaxprof.likelihood.data import Status
from jaxprof.models.radial_base import radial_model_from_dict
from jaxprof.reduce.bin_geometry import bin_geometry, in_frame
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap
from jaxprof.sky.regions import region_solid_angles
from jaxprof.sky.regions.subdivision import subdivided_regions

FLUX = float(MODEL.integral(1.0, 10.0))
CORED = jaxprof.CoredPowerLawRadialModel(alpha=1.3, core=0.1, frame="galactic")
POWER = jaxprof.PowerLawRadialModel(amplitude=1e-9, alpha=1.3, frame="galactic")
UNIT = jaxprof.ConstantRadialModel(amplitude=1.0, frame="galactic")


def annuli(edges):
    edges = np.asarray(edges) * u.deg
    pairs = zip(edges[:-1], edges[1:], strict=True)
    return [CircleAnnulusSkyRegion(CENTER, low, high) for low, high in pairs]


# Where the bins are


@pytest.mark.slow
def test_flux_of_bins_of_any_shape():
    """A constant has their solid angle, and a law in a wedge a share of the rings."""
    shapes = [
        RectangleSkyRegion(CENTER, 0.6 * u.deg, 0.4 * u.deg, angle=30 * u.deg),
        EllipseSkyRegion(CENTER, 1 * u.deg, 0.6 * u.deg, angle=10 * u.deg),
        *jaxprof.make_sector_sky_regions(
            CENTER, "2 deg", nbin=2, position_angle="30 deg", opening_angle="90 deg"
        ),
    ]
    geometry = bin_geometry(shapes, 2.0)
    assert_allclose(geometry.flux(UNIT), region_solid_angles(shapes), rtol=1e-6)
    assert_allclose(geometry.norms(UNIT)[:, 0], geometry.flux(UNIT) / 2.0, rtol=1e-12)
    rings = np.asarray(POWER.ring_integral([0.0, 1.0, 2.0])) / 4
    # The arcs of wedges are chords of 1 deg, which lose 5e-5.
    assert_allclose(geometry.flux(POWER)[2:], rings, rtol=1e-4)
    moved = in_frame(geometry, "icrs")
    lon, lat = (float(x) for x in (CENTER.icrs.ra.deg, CENTER.icrs.dec.deg))
    law = POWER.replace(lon_0=lon, lat_0=lat, frame="icrs")
    assert_allclose(moved.flux(law), geometry.flux(POWER), rtol=1e-9)


@pytest.mark.slow
def test_parts_make_up_their_bins():
    box = RectangleSkyRegion(CENTER, 0.9 * u.deg, 0.6 * u.deg, angle=40 * u.deg)
    for regions, rtol in ((annuli([0.1, 0.4, 1.0]), 1e-12), ([box, box], 1e-5)):
        parts, parent = subdivided_regions(regions, 3)
        fine = bin_geometry(parts, 1.0, parent=parent)
        coarse = bin_geometry(regions, 1.0)
        assert fine.n_bins == 2
        assert_allclose(fine.total(fine.flux(POWER)), coarse.flux(POWER), rtol=rtol)
    with pytest.raises(ValueError, match="subdivide must be a whole number"):
        subdivided_regions(parts, 0)
    with pytest.raises(ValueError, match=r"regions\[0\] is a EllipseSkyRegion"):
        subdivided_regions([EllipseSkyRegion(CENTER, 1 * u.deg, 0.6 * u.deg)], 2)


def test_product_with_a_map():
    """Rings of a law times a map, by a sum over a fine grid."""
    geom = WcsGeom.create(skydir=CENTER, width=2.4, binsz=0.02, frame="galactic", proj="TAN")

    def gas(x, y):
        return 5.0 + 3.0 * np.exp(-0.5 * ((x - 0.3) ** 2 + (y + 0.2) ** 2) / 0.15**2)

    n = 1200
    step = 2.4 / n
    axis = (np.arange(n) + 0.5) * step - 1.2
    x, y = np.meshgrid(axis, axis)
    coarse = gas(*np.meshgrid(*2 * [(np.arange(120) + 0.5) * 0.02 - 1.2]))
    geometry = bin_geometry(annuli([0.1, 0.4, 0.9]), 1.0, template=WcsNDMap(geom, coarse))
    theta = np.rad2deg(np.arctan(np.deg2rad(np.hypot(x, y))))
    size = np.deg2rad(step) ** 2 * np.cos(np.deg2rad(theta)) ** 3
    # The pixel axis runs against the longitude; the map and the sum are in pixels.
    product = 1e-9 * theta**-1.3 * gas(x, y) * size
    found = geometry.flux(POWER)
    for k, (low, high) in enumerate(((0.1, 0.4), (0.4, 0.9))):
        assert_allclose(found[k], product[(low <= theta) & (theta < high)].sum(), rtol=2e-3)
    assert (
        bin_geometry(
            [RectangleSkyRegion(CENTER, 1 * u.deg, 1 * u.deg)] * 2,
            1.0,
            template=WcsNDMap(geom, coarse),
        )
        is None
    )


# Separate fits: everything by hand


@pytest.fixture(scope="module")
def separate():
    """Four rings without a PSF: counts drawn once, the data set, and its expectation by hand."""
    energy = MapAxis.from_energy_bounds(1, 10, 1, unit="TeV")
    true = MapAxis.from_energy_bounds(1, 10, 1, unit="TeV", name="energy_true")
    geom = WcsGeom.create(skydir=CENTER, width=2.0, binsz=0.05, frame="galactic", axes=[energy])
    shape = (1, *geom.npix_shape)
    rng = np.random.default_rng(4)
    coords = geom.to_image().get_coord()
    theta = coords.separation(CENTER).deg
    counts = rng.poisson(3.0 + 2.0 / (theta + 0.1))[np.newaxis].astype(float)
    dataset = jaxprof.MapDataset(
        counts=WcsNDMap(geom, counts),
        background=WcsNDMap(geom, np.full(shape, 3.0)),
        exposure=WcsNDMap(geom.to_cube([true]), np.full(shape, 1e13), unit="cm2 s"),
    )
    edges = np.array([0.05, 0.2, 0.4, 0.65, 0.95])
    inside = [
        (low <= theta) & (theta < high) for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    observed = np.array([counts[0][own].sum() for own in inside])
    background = np.array([3.0 * own.sum() for own in inside])
    solid_angle = geom.to_image().solid_angle().to_value("sr")
    pixels = np.array([solid_angle[own].sum() for own in inside])
    own = jaxprof.FluxProfileEstimator(
        annuli(edges),
        spectral_model=MODEL,
        energy_edges=[1, 10] * u.TeV,
        selection_optional=["scan"],
        norm={"scan_values": np.linspace(1, 300, 150), "min": np.nan},
    )
    return own, dataset, edges, observed, background, pixels


def by_hand(edges, observed, background, pixels):
    """Amplitude and index of a power law by scipy, minus ln L at the minimum, and errors."""
    theta = np.deg2rad(np.linspace(edges[:-1], edges[1:], 2001))
    areas = 2 * np.pi * -np.diff(np.cos(np.deg2rad(edges)))

    def cost(p):
        values = np.rad2deg(theta) ** -p[1] * np.sin(theta)
        mean = 2 * np.pi * np.trapezoid(values, theta, axis=0) / areas
        mu = background + p[0] * 1e13 * pixels * mean
        return np.sum(mu - observed * np.log(mu) + gammaln(observed + 1))

    found = minimize(
        lambda p: cost([1e-9 * np.exp(p[0]), p[1]]),
        [0.0, 1.0],
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000},
    )
    step = np.diag([1e-3, 1e-3])
    f = lambda p: cost([1e-9 * np.exp(p[0]), p[1]])  # noqa: E731
    hessian = [
        [
            f(found.x + a + b) - f(found.x + a - b) - f(found.x - a + b) + f(found.x - a - b)
            for b in step
        ]
        for a in step
    ]
    covariance = np.linalg.inv(np.array(hessian) / 4e-6)
    return 1e-9 * np.exp(found.x[0]), found.x[1], found.fun, np.sqrt(np.diag(covariance))


@pytest.fixture(scope="module")
def fitted(separate):
    law = POWER.replace(amplitude=1e-14, alpha=0.3)
    return jaxprof.fit_model(separate[0].reduce(separate[1]), law)


@pytest.mark.slow
def test_on_off_data(separate):
    """By scipy; the same under jit; derivatives with respect to ON counts by finite differences."""
    own, dataset, edges, _, _, pixels = separate
    flat = dataset.background
    off = flat.copy(data=np.random.default_rng(5).poisson(10 * flat.data).astype(float))
    measured = jaxprof.MapDatasetOnOff(
        counts=dataset.counts,
        counts_off=off,
        acceptance=flat.copy(data=np.ones(flat.data.shape)),
        acceptance_off=flat.copy(data=np.full(flat.data.shape, 10.0)),
        exposure=dataset.exposure,
    )
    likelihood = own.reduce(measured)
    law = POWER.replace(amplitude=1e-10, alpha=0.5)
    found = jaxprof.fit_model(likelihood, law)
    assert found.success
    n_on, n_off = (np.asarray(x)[0, :, 0] for x in likelihood.counts[0])
    theta = np.deg2rad(np.linspace(edges[:-1], edges[1:], 2001))
    areas = 2 * np.pi * -np.diff(np.cos(np.deg2rad(edges)))

    def cost(p):
        values = np.rad2deg(theta) ** -p[1] * np.sin(theta)
        signal = np.exp(p[0]) * 1e4 * pixels * 2 * np.pi * np.trapezoid(values, theta, axis=0)
        signal /= areas
        # The OFF rate is the positive root of a quadratic equation.
        c = 0.1 * (n_on + n_off) - 1.1 * signal
        rate = (c + np.sqrt(c**2 + 0.44 * n_off * signal)) / 0.22
        mu = signal + 0.1 * rate
        return np.sum(mu - n_on * np.log(mu) + rate - n_off * np.log(rate))

    options = {"xatol": 1e-8, "fatol": 1e-11, "maxiter": 4000}
    best = minimize(cost, [0.0, 1.0], method="Nelder-Mead", options=options)
    errors = found.errors
    assert_allclose(found.params["alpha"], best.x[1], atol=1e-3 * errors["alpha"])
    assert_allclose(np.log(found.params["amplitude"] / 1e-9), best.x[0], atol=1e-3)
    # Four counts bins, with one count each beside that for the background.
    saturated = 2 * np.sum(n_on - n_on * np.log(n_on) + n_off - n_off * np.log(n_off))
    good = found.goodness
    assert_allclose(good["stat"], 2 * best.fun - saturated, atol=1e-5)
    assert_allclose([good["expected"], good["std"]], [4.0, np.sqrt(8.0)], rtol=1e-12)
    ((on, _),) = likelihood.counts
    few = law_goodness(likelihood.with_counts(((on, 0 * on + 9),)), found.params, law, 2)
    assert np.isnan(few["expected"]) and np.isfinite(few["stat"])

    @jax.jit
    def alpha(extra):
        ((on, rest),) = likelihood.counts
        changed = likelihood.with_counts(((on + extra, rest),))
        return jaxprof.fit_model(changed, law).params["alpha"]

    assert_allclose(alpha(0.0), found.params["alpha"], rtol=1e-7)
    slope = jax.jit(jax.grad(alpha))(0.0)
    assert abs(slope) > 1e-6
    assert_allclose(slope, (alpha(0.1) - alpha(-0.1)) / 0.2, rtol=1e-5)


@pytest.mark.slow
def test_limits_have_no_derivative_by_the_centre_of_rings(separate, fitted):
    """As the fit has none: a zero would look like one."""
    likelihood = separate[0].reduce(separate[1])

    def width(lon):
        moved = dataclasses.replace(fitted, model=fitted.model.replace(lon_0=lon))
        return jaxprof.model_limits(likelihood, moved, names="alpha").errp["alpha"]

    with pytest.raises(TypeError, match="lon_0 and lat_0 over rings"):
        jax.grad(width)(0.0)


@pytest.mark.slow
def test_asymmetric_errors_by_hand(separate, fitted):
    """Where the cost, at its minimum over the amplitude, has risen by one and by four."""
    dataset, (edges, observed, background, pixels) = separate[1], separate[2:]
    found = jaxprof.model_limits(separate[0].reduce(dataset), fitted)
    theta = np.deg2rad(np.linspace(edges[:-1], edges[1:], 2001))
    areas = 2 * np.pi * -np.diff(np.cos(np.deg2rad(edges)))

    def profiled(alpha):
        values = np.rad2deg(theta) ** -alpha * np.sin(theta)
        signal = 1e4 * pixels * 2 * np.pi * np.trapezoid(values, theta, axis=0) / areas

        def cost(log_amplitude):
            mu = background + np.exp(log_amplitude) * signal
            return 2 * np.sum(mu - observed * np.log(mu))

        return minimize_scalar(cost, bounds=(-5, 10), method="bounded", options={"xatol": 1e-9}).fun

    best = float(fitted.params["alpha"])
    lowest = profiled(best)
    rise = lambda alpha: profiled(alpha) - lowest  # noqa: E731
    wide = 3 * float(fitted.errors["alpha"])
    low = brentq(lambda alpha: rise(alpha) - 1, best - wide, best)
    high = brentq(lambda alpha: rise(alpha) - 1, best, best + wide)
    upper = brentq(lambda alpha: rise(alpha) - 4, best, best + wide)
    assert_allclose(found.errn["alpha"], best - low, rtol=1e-4)
    assert_allclose(found.errp["alpha"], high - best, rtol=1e-4)
    assert_allclose(found.ul["alpha"], upper, rtol=1e-5)
    assert set(found.errn) == {"amplitude", "alpha"}
    assert found.errn["amplitude"] < fitted.errors["amplitude"] < found.errp["amplitude"]


def test_a_power_law_by_hand(separate, fitted):
    rest, found = separate[2:], fitted
    amplitude, alpha, cost, errors = by_hand(*rest)
    assert found.success
    assert_allclose(found.params["alpha"], alpha, atol=1e-5 * errors[1] + 1e-6)
    assert_allclose(found.params["amplitude"], amplitude, rtol=1e-5)
    assert_allclose(found.errors["alpha"], errors[1], rtol=1e-4)
    assert_allclose(found.errors["amplitude"] / amplitude, errors[0], rtol=1e-4)
    assert_allclose(found.stat, 2 * cost, rtol=1e-9)
    assert found.model.alpha == found.params["alpha"]
    # The bins: observed over predicted excess, in standard deviations of the prediction.
    _, observed, background, pixels = rest
    excess = np.asarray(found.bins["law"])[:, 0] * 1e13 * pixels
    assert_allclose(
        found.bins["residual"][:, 0],
        (observed - background - excess) / np.sqrt(background + excess),
        atol=1e-9,
    )
    ratio = (observed - background) / excess
    assert_allclose(found.bins["value"] / found.bins["law"], ratio[:, None], rtol=1e-9)
    # The curve and its band, by finite differences.
    brightness, error = found.curve(np.array([0.1, 0.7]))
    assert_allclose(brightness, amplitude * np.array([0.1, 0.7]) ** -alpha, rtol=1e-4)
    slopes = np.stack([brightness / amplitude, -brightness * np.log([0.1, 0.7])])
    order = [found.names.index(name) for name in ("amplitude", "alpha")]
    covariance = np.asarray(found.covariance)[np.ix_(order, order)]
    assert_allclose(error, np.sqrt(np.einsum("ir,ij,jr->r", slopes, covariance, slopes)), rtol=1e-4)


def test_mistakes_are_said(separate):
    likelihood = separate[0].reduce(separate[1])
    law = jaxprof.PowerLawRadialModel(frame="galactic")
    for data, own, options, message in (
        (likelihood, law.replace(lon_0=0.1), {}, "but the rings at"),
        (likelihood, law.replace(frame="icrs"), {}, "but the rings at"),
        (likelihood, MODEL, {}, "law must be a radial law"),
        (MODEL, law, {}, "data must be a Likelihood"),
        (likelihood, law, {"fixed": "core"}, "names the parameter 'core'"),
        (likelihood, law, {"starts": {"beta": [1.0]}}, "starts must be a dict"),
        (likelihood, law, {"starts": {"alpha": []}}, "starts must be arrays of one length"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxprof.fit_model(data, own, **options)


def test_a_law_begins_again_by_its_flux(separate, monkeypatch):
    """Where its own fit does not converge; the same law, and the same likelihood."""
    likelihood, law = separate[0].reduce(separate[1]), jaxprof.EinastoRadialModel(frame="galactic")
    start, calls = law_start(likelihood, law, ()), []

    def fit(function, start, *, args, bounds, fixed, starts):
        calls.append((float(function(start, *args)), start, starts))
        status = Status.OK if len(calls) > 1 else Status.NOT_CONVERGED
        return SimpleNamespace(status=status, params=start)

    monkeypatch.setattr(law_fit, "fit", fit)
    options = {"bounds": {}, "fixed": (), "starts": {"alpha": [0.2]}}
    law_fit.search_law((likelihood, law), start, **options)
    (first, _, _), (second, by_flux, _), (third, again, more) = calls
    assert_allclose([second, third], first, rtol=1e-12)
    assert by_flux["amplitude"] > 1e3 * start["amplitude"] and more is None
    assert_allclose(again["amplitude"], start["amplitude"], rtol=1e-12)
    # Not with a bound of the amplitude, which is none of the flux.
    calls.clear()
    law_fit.search_law((likelihood, law), start, **options | {"bounds": {"amplitude": (0, None)}})
    assert len(calls) == 1


@pytest.mark.slow
def test_starts_and_centres(separate, fitted):
    """From far away to the same minimum; a law off the centre of rings is NaN inside of jit."""
    likelihood = separate[0].reduce(separate[1])
    law = POWER.replace(amplitude=1e-14, alpha=0.3)
    starts = {"alpha": [-1.0, 2.5]}
    more = jaxprof.fit_model(likelihood, law, starts=starts)
    assert_allclose(more.params["alpha"], fitted.params["alpha"], rtol=1e-7)

    @jax.jit
    def alpha(lon):
        found = jaxprof.fit_model(likelihood, law.replace(lon_0=lon))
        return found.params["alpha"], found.status

    assert_allclose(alpha(0.0)[0], fitted.params["alpha"], rtol=1e-7)
    assert_allclose(alpha(360.0)[0], fitted.params["alpha"], rtol=1e-7)
    off, status = alpha(0.1)
    assert np.isnan(off) and status == Status.NOT_CONVERGED


@pytest.mark.parametrize("name", ["law.ecsv", "law.fits", "law.fits.gz"])
def test_tables_and_files(fitted, tmp_path, name):
    table = fitted.to_table()
    assert list(table["name"]) == ["alpha", "amplitude"]
    assert list(table["unit"]) == ["", "cm-2 s-1 sr-1"]
    assert_allclose(table["error"] ** 2, np.diag(table["covariance"]), rtol=1e-12)
    assert table["value"][0] == fitted.params["alpha"]
    assert table.meta["NFREE"] == 2 and table.meta["STATUS"] == "ok"
    fitted.write(tmp_path / name)
    back = jaxprof.ModelFit.read_table(tmp_path / name)
    assert back.meta == table.meta
    for column in table.colnames:
        assert np.array_equal(back[column], table[column]), column
    law = radial_model_from_dict(json.loads(back.meta["LAW"]))
    assert_allclose(law.alpha, fitted.params["alpha"], rtol=1e-15)
    with pytest.raises(FileExistsError):
        fitted.write(tmp_path / name)
    fitted.write(tmp_path / name, overwrite=True)
    with pytest.raises(ValueError, match=r"\.ecsv"):
        fitted.write(tmp_path / "law.txt")
    with pytest.raises(FileNotFoundError):
        jaxprof.ModelFit.read_table(tmp_path / f"no-{name}")
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-900])
    with pytest.raises(ValueError, match=name):
        jaxprof.ModelFit.read_table(tmp_path / name)


def test_text_tables(fitted, tmp_path):
    """For other programs and for papers: pandas and astropy read the former."""
    fitted.write(tmp_path / "law.csv")
    rows = Table.read(tmp_path / "law.csv")
    table = fitted.to_table()
    assert_allclose(rows["value"], table["value"], rtol=1e-15)
    assert_allclose(rows["covariance_1"], table["covariance"][:, 1], rtol=1e-15)
    assert rows.colnames[-2:] == ["covariance_0", "covariance_1"]
    fitted.write(tmp_path / "law.tex")
    text = (tmp_path / "law.tex").read_text()
    value, error = fitted.params["amplitude"], fitted.errors["amplitude"]
    power = int(np.floor(np.log10(value)))
    digits = 1 - int(np.floor(np.log10(error / 10.0**power)))
    value, error = (f"{own / 10.0**power:.{digits}f}" for own in (value, error))
    assert rf"amplitude & ${value} \pm {error}$ & $10^{{{power}}}$ $" in text
    assert "Fitted to the counts, status ok; goodness of fit: " in text
    assert r"lon\_0 & $0$ (fixed) & $\mathrm{deg}$" in text
    chi2 = fitted.bins_goodness
    assert (
        rf"bins: $\chi^2$ {chi2['chi2']:.4g} for {chi2['dof']} degrees of freedom, $p = 0." in text
    )
    poor = dataclasses.replace(
        fitted, goodness=fitted.goodness | {"p_value": np.asarray(7.66e-197)}
    )
    poor.write(tmp_path / "poor.tex")
    assert r"$p = 7.7 \times 10^{-197}$" in (tmp_path / "poor.tex").read_text()
    with pytest.raises(ValueError, match=r"valid are \.fits, \.fits\.gz, \.ecsv$"):
        jaxprof.ModelFit.read_table(tmp_path / "law.csv")


def test_figure(fitted, separate):
    """The curve with its band over the points, and the residuals below."""
    upper, lower = fitted.plot(n_sigma=2)
    (line,) = [own for own in upper.lines if len(own.get_xdata()) == 300]
    radius, brightness = line.get_data()
    assert radius[-1] == pytest.approx(0.95)
    expected, error = fitted.curve(radius)
    assert_allclose(brightness, expected, rtol=1e-12)
    (band,) = upper.collections[-1].get_paths()
    reach = band.get_extents().ymax
    assert_allclose(reach, np.max(expected + 2 * error), rtol=1e-9)
    assert "alpha" in upper.get_legend_handles_labels()[1][0]
    points = [own for own in lower.lines if len(own.get_xdata()) == 4]
    assert_allclose(points[0].get_ydata(), fitted.bins["residual"][:, 0], rtol=1e-12)
    assert lower.get_shared_x_axes().joined(upper, lower)
    changed = {"model": fitted.model.replace(alpha=0.3), "params": fitted.params | {"alpha": 0.3}}
    second = dataclasses.replace(fitted, **changed)
    upper, _ = dataclasses.replace(fitted, against=second).plot(plt.figure().add_subplot())
    first, other = (own for own in upper.lines if len(own.get_xdata()) == 300)
    assert_allclose(other.get_ydata(), second.curve(radius)[0], rtol=1e-12)
    assert other.get_linestyle() == "--" != first.get_linestyle()
    assert len(set(upper.get_legend_handles_labels()[1])) == 3
    profile = separate[0].run(separate[1])
    figure, pair = plt.subplots(2)
    upper, lower = fitted.plot(pair, profile=profile)
    assert upper is pair[0] and lower is pair[1]
    points = [own for own in upper.lines if len(own.get_xdata()) == 4]
    brightness = profile.surface_brightness("flux").to_value("cm-2 s-1 sr-1")[:, 0]
    assert_allclose(points[0].get_ydata(), brightness, rtol=1e-6)
    points = [own for own in lower.lines if len(own.get_xdata()) == 4]
    norm = np.asarray(fitted.likelihood_params["norm"])
    assert_allclose(
        points[0].get_ydata(), ((profile.norm - norm) / profile.norm_err)[:, 0], rtol=1e-9
    )
    plt.close("all")


@pytest.mark.slow
def test_a_profile_by_its_scans(separate):
    """The scans have all that the counts tell of separate fits."""
    own, dataset, *rest = separate
    found = jaxprof.fit_model(own.run(dataset), POWER)
    amplitude, alpha, _, errors = by_hand(*rest)
    assert found.fitted_to == "likelihood scans"
    assert_allclose(found.params["alpha"], alpha, atol=2e-3 * errors[1])
    assert_allclose(found.params["amplitude"], amplitude, rtol=2e-3 * errors[0])
    assert_allclose(found.errors["alpha"], errors[1], rtol=2e-3)
    assert_allclose(found.goodness["expected"], 2)
    counts = jaxprof.fit_model(own.reduce(dataset), POWER)
    assert_allclose(found.bins["law"], counts.bins["law"], rtol=1e-3)
    assert_allclose(found.bins["value"], counts.bins["value"], rtol=2e-3)
    with pytest.raises(ValueError, match="other was fitted to counts"):
        found.compare(counts)
    plain = jaxprof.FluxProfileEstimator(
        own.regions, spectral_model=MODEL, energy_edges=own.energy_edges
    )
    with pytest.raises(ValueError, match="no scan of its likelihood"):
        jaxprof.fit_model(plain.run(dataset), POWER)
    plain.selection_optional = ["scan"]
    with pytest.warns(UserWarning, match="too coarse"):
        jaxprof.fit_model(plain.run(dataset), POWER)


# Through the response


def of_many(function, seed, number=200):
    """A function of random keys, ten at a time: all at once they would need gigabytes."""
    keys = jax.random.split(jax.random.key(seed), number)
    return jax.jit(lambda keys: jax.lax.map(function, keys, batch_size=10))(keys)


@pytest.fixture(scope="module")
def halo():
    return halo_factory.expected()


HALO = jaxprof.DiffusionRadialModel(
    theta_d=4.0, lon_0=halo_factory.PULSAR.ra.deg, lat_0=halo_factory.PULSAR.dec.deg
)


@pytest.mark.slow
def test_a_halo_of_electrons(halo):
    """5.4 deg to 0.01 on its expectation; pulls of 200 Poisson sets; what wide bins cost."""
    likelihood = halo_factory.estimator().reduce(halo, subdivide=5)
    found = jaxprof.fit_model(likelihood, HALO)
    assert found.success
    assert_allclose(found.params["theta_d"], halo_factory.THETA_D, atol=0.01)
    assert_allclose(found.params["background"], 1.0, atol=2e-3)
    flux = float(halo_factory.MODEL.integral(8.0, 40.0))
    assert_allclose(found.params["amplitude"] * 1.0036, flux, rtol=3e-3)
    with pytest.warns(UserWarning, match="across a bin"):
        wide = jaxprof.fit_model(halo_factory.estimator().reduce(halo), HALO)
    assert wide.params["theta_d"] < 5.3

    def pull(key):
        drawn = likelihood.simulate(key, found.likelihood_params, constraints=True)
        own = jaxprof.fit_model(drawn, HALO)
        # By the error of the expectation: each set's own is larger where its value is.
        shift = own.params["theta_d"] - found.params["theta_d"]
        return shift / found.errors["theta_d"], own.status

    pulls, status = of_many(pull, 1)
    assert np.all(np.asarray(status) == 0)
    assert abs(np.mean(pulls)) < 0.15
    assert_allclose(np.std(pulls, ddof=1), 1.0, atol=0.1)


CLOUDS = [
    (0.5, -0.04, 0.10, 0.07, 1.0),
    (0.05, -0.06, 0.12, 0.05, 0.9),
    (-0.45, -0.11, 0.14, 0.06, 0.5),
    (0.3, 0.0, 0.3, 0.08, 1.0),
    (-0.2, -0.05, 0.3, 0.08, 0.8),
]


@pytest.fixture(scope="module")
def gas():
    """Cosmic rays whose density falls as one over the separation meet gas, behind a PSF."""

    def column(x, y):
        return sum(
            m * np.exp(-0.5 * ((x - a) / s) ** 2 - 0.5 * ((y - b) / v) ** 2)
            for a, b, s, v, m in CLOUDS
        )

    def brightness(x, y):
        return column(x, y) * (1 + (x**2 + y**2) / 0.02**2) ** -0.5

    image = gaussian_image(sky_image(brightness, 0.04), 0.06, 0.04)
    dataset = dataset_of(image, 0.04, sigma=0.06, n_photons=1.5e3, background=1.0)
    geom = WcsGeom.create(skydir=CENTER, width=2.4, binsz=0.01, frame="galactic")
    steps = (np.arange(240) + 0.5) * 0.01 - 1.2
    template = WcsNDMap(geom, column(*np.meshgrid(steps, steps)))
    own = estimator(
        jaxprof.make_concentric_annulus_sky_regions(CENTER, "0.9 deg", nbin=10),
        guard_bins=2,
        background=0.02,
        template=template,
        norm={"min": 0},
    )
    return own.reduce(dataset, subdivide=4)


DENSITY = jaxprof.CoredPowerLawRadialModel(core=0.02, alpha=0.5, frame="galactic")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:fit_model. the law changes")
def test_density_of_cosmic_rays_over_gas(gas):
    """An index of one to 0.01, and neither a constant nor one over the square."""
    flat = jaxprof.ConstantRadialModel(frame="galactic")
    found = jaxprof.fit_model(gas, DENSITY, fixed="core", against=flat)
    assert found.success
    assert_allclose(found.params["alpha"], 1.0, atol=0.01)
    assert found.comparison.nested and found.comparison.dof == 1
    assert found.comparison.significance > 8
    assert_allclose(found.comparison.delta_stat, found.against.stat - found.stat)
    assert not found.is_poor and found.against.is_poor  # no warning: the other is excluded
    with pytest.warns(UserWarning, match="the law does not describe the data.*of the bins"):
        steep = jaxprof.fit_model(gas, DENSITY.replace(alpha=2.0), fixed=("core", "alpha"))
    assert "the law does not describe" in str(steep)
    assert str(steep).count("stat ") == 1 and "goodness: deviance " in str(steep)
    assert steep.goodness["p_value"] > 0.1 > 1e-3 > steep.bins_goodness["p_value"]
    excluded = found.compare(steep)
    assert excluded.nested and excluded.significance > 8
    assert_allclose(excluded.delta_aic, excluded.delta_stat - 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:fit_model. the law changes")
def test_pulls_of_the_density(gas):
    """200 Poisson sets; no norm may be negative, so that no prediction vanishes."""
    expected = jaxprof.fit_model(gas, DENSITY, fixed="core")
    truth = expected.likelihood_params

    def pull(key):
        own = jaxprof.fit_model(gas.simulate(key, truth), DENSITY, fixed="core")
        return (own.params["alpha"] - 1.0) / expected.errors["alpha"], own.status

    pulls, status = of_many(pull, 2)
    assert np.all(np.asarray(status) <= Status.BOUNDARY)
    assert abs(np.mean(pulls)) < 0.15
    assert_allclose(np.std(pulls, ddof=1), 1.0, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 1e4])
def test_single_precision_inside_of_jit(separate, factor):
    """Likelihood and law as arguments: within a thousandth of the error, or what float32 resolves.

    And in double precision: with many counts the logarithm of the likelihood is a small sum of
    large terms, whose rounding must not end a fit.
    """
    own, dataset, *_ = separate
    law = POWER.replace(alpha=0.3)
    likelihood = own.reduce(dataset)
    expected = jaxprof.fit_model(likelihood, law)

    def larger(term):
        names = ("counts", "background", "offset", "templates")
        return dataclasses.replace(term, **{name: getattr(term, name) * factor for name in names})

    likelihood = dataclasses.replace(likelihood, terms=tuple(map(larger, likelihood.terms)))
    keys = jax.random.split(jax.random.key(1), 20)
    counts = jax.vmap(lambda key: likelihood.simulate(key, expected.likelihood_params).counts)(keys)

    def fits(counts, likelihood, law):
        def one(counts):
            found = jaxprof.fit_model(likelihood.with_counts(counts), law)
            return found.params, found.errors, found.status

        return jax.tree.map(np.asarray, jax.jit(lambda c: jax.lax.map(one, c))(counts))

    def single(leaf):
        array = np.asarray(leaf)
        return array.astype(np.float32) if array.dtype.kind == "f" else array

    params, errors, status = fits(counts, likelihood, law)
    assert np.all(status == Status.OK)
    with jax.enable_x64(False):
        given = jax.tree.map(single, (counts, likelihood, law))
        found, _, status = fits(*given)
    assert np.all(status == Status.OK)
    for name, value in params.items():
        assert found[name].dtype == np.float32
        assert_allclose(found[name] / errors[name], value / errors[name], atol=1e-3 * factor**0.25)
