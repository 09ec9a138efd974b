"""Problems of joint fits in plain numpy: as `JointData`, and solved independently.

Nothing here calls the code under test. The gradient is written out, its derivatives are taken with
complex steps (Squire & Trapp 1998, SIAM Review 40, 110), which are exact to rounding.
"""

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import brentq

from jaxprof.likelihood.joint_data import FreeSpectra, JointBlock, JointData, JointOnOffBlock
from jaxprof.models.spectral import PowerLawSpectralModel


@dataclass(frozen=True)
class Spectra:
    """Power laws of the first J components; their flux between ``group`` stays as it is."""

    index: np.ndarray  # (J,)
    amplitude: np.ndarray  # (J,)
    edges: np.ndarray  # (Q + 1,)
    group: np.ndarray  # (2,)
    fixed: np.ndarray  # (C - J, Q)

    def group_flux(self):
        power = 1 - self.index
        return self.amplitude * (self.group[1] ** power - self.group[0] ** power) / power

    def coefficients(self, norm, index):
        """Coefficients (C, Q) and their derivatives by norm and index; indices are not 1."""
        n_free = len(self.index)
        power = (1 - index[:n_free])[:, None]
        log_edges, log_group = np.log(self.edges), np.log(self.group)
        part = np.diff(self.edges**power, axis=1)
        part_slope = -np.diff(self.edges**power * log_edges, axis=1)
        whole = np.diff(self.group**power, axis=1)
        whole_slope = -np.diff(self.group**power * log_group, axis=1)
        share = part / whole * self.group_flux()[:, None]
        share_slope = share * (part_slope / part - whole_slope / whole)
        flux = np.concatenate([share, self.fixed])
        slope = np.concatenate([share_slope, 0 * self.fixed])
        return norm[:, None] * flux, flux, norm[:, None] * slope


@dataclass(frozen=True)
class Part:
    """Counts bins of a data set: cash with a background, or On-Off if ``n_off`` is given."""

    counts: np.ndarray  # (n,)
    templates: np.ndarray  # (C, Q, n)
    background: np.ndarray | None = None
    offset: np.ndarray | float = 0.0
    log_energy: np.ndarray | float = 0.0
    n_off: np.ndarray | None = None
    alpha: np.ndarray | None = None
    dataset: int = 0

    def take(self, order):
        def cut(value):
            return value[..., order] if np.ndim(value) else value

        arrays = {name: cut(value) for name, value in vars(self).items() if name != "dataset"}
        return replace(self, **arrays)


def batched(array, tiles, size):
    """(..., n) -> (..., tiles, size), filled up with zeros."""
    array = np.asarray(array)
    pad = tiles * size - array.shape[-1]
    assert pad >= 0
    full = np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, pad)])
    return full.reshape(*array.shape[:-1], tiles, size)


def block_of(part, tiles, size, rng=None):
    """A block of the part's counts bins; ``rng`` mixes the lists of components of the tiles."""
    n_components, n = part.templates.shape[0], part.templates.shape[-1]
    templates = np.moveaxis(batched(part.templates, tiles, size), 2, 0)
    components = np.tile(np.arange(n_components), (tiles, 1))
    if rng is not None:
        components = rng.permuted(components, axis=1)
        templates = np.take_along_axis(templates, components[:, :, None, None], axis=1)
        # A component that does not reach a tile may be listed as any.
        unused = ~templates.any(axis=(2, 3))
        components[unused] = rng.integers(0, n_components, unused.sum())

    def row(value):
        return batched(np.broadcast_to(np.asarray(value, float), n), tiles, size)

    common = {
        "offset": row(part.offset),
        "templates": templates,
        "components": components,
        "mask": batched(np.ones(n, bool), tiles, size),
        "dataset": part.dataset,
    }
    if part.n_off is not None:
        return JointOnOffBlock(
            n_on=row(part.counts),
            n_off=row(part.n_off),
            # Padding needs a ratio that does not divide by zero.
            alpha=np.where(common["mask"], row(part.alpha), 1.0),
            **common,
        )
    return JointBlock(
        counts=row(part.counts),
        background=row(part.background),
        log_energy=row(part.log_energy),
        **common,
    )


@dataclass(frozen=True)
class Problem:
    """A joint fit; parameters as in `JointData`."""

    parts: tuple[Part, ...]
    n_nuisance: int = 0
    spectra: Spectra | None = None
    free: np.ndarray | None = None
    lower: dict = field(default_factory=dict)
    upper: dict = field(default_factory=dict)
    precision: np.ndarray | float = 0.0
    start: dict = field(default_factory=dict)

    @property
    def n_components(self):
        return self.parts[0].templates.shape[0]

    @property
    def step(self):
        return 1 if self.spectra is None else 2

    @property
    def size(self):
        return self.n_components * self.step + 2 * self.n_nuisance

    @property
    def norms(self):
        return np.arange(self.n_components) * self.step

    def begin(self):
        z = np.zeros(self.size)
        z[self.n_components * self.step :: 2] = 1.0
        if self.spectra is not None:
            z[1 : 2 * len(self.spectra.index) : 2] = self.spectra.index
        for at, value in self.start.items():
            z[at] = value
        return z

    def freedom(self):
        if self.free is not None:
            return np.asarray(self.free)
        free = np.ones(self.size, bool)
        if self.spectra is not None:
            free[2 * len(self.spectra.index) + 1 : 2 * self.n_components : 2] = False
        return free

    def bounds(self):
        lower, upper = np.full(self.size, -np.inf), np.full(self.size, np.inf)
        for at, value in self.lower.items():
            lower[at] = value
        for at, value in self.upper.items():
            upper[at] = value
        return lower, upper

    def matrix(self):
        return np.broadcast_to(np.asarray(self.precision, float), (self.size, self.size))

    def joint(self, tiles=3, size=32, rng=None):
        lower, upper = self.bounds()
        spectra = None
        if self.spectra is not None:
            own = self.spectra
            spectra = FreeSpectra(
                models=PowerLawSpectralModel(
                    index=own.index, amplitude=own.amplitude, reference=np.ones(len(own.index))
                ),
                edges=(own.edges,),
                group_edges=own.group,
                fixed_flux=(own.fixed,),
                names=("index",),
            )
        data = JointData(
            blocks=tuple(block_of(part, tiles, size, rng) for part in self.parts),
            start=self.begin(),
            free=self.freedom(),
            lower=lower,
            upper=upper,
            precision=np.array(self.matrix()),
            penalty_start=self.begin(),
            spectra=spectra,
            n_components=self.n_components,
            n_nuisance=self.n_nuisance,
        )
        return jax.tree.map(jnp.asarray, data)

    def model(self, part, z):
        """Predicted counts (n,) (On-Off: those of the signal) and their slopes (Z, n)."""
        slopes = np.zeros((self.size, part.counts.size), complex)
        if self.spectra is None:
            signal = z[: self.n_components] @ part.templates[:, 0]
            slopes[: self.n_components] = part.templates[:, 0]
        else:
            own = z[: 2 * self.n_components]
            phi, by_norm, by_index = self.spectra.coefficients(own[::2], own[1::2])
            signal = np.einsum("cq,cqs->s", phi, part.templates)
            slopes[self.norms] = np.einsum("cq,cqs->cs", by_norm, part.templates)
            slopes[self.norms + 1] = np.einsum("cq,cqs->cs", by_index, part.templates)
        if part.n_off is not None:
            return signal + part.offset, slopes
        background = part.background
        if self.n_nuisance:
            at = self.n_components * self.step + 2 * part.dataset
            shape = np.exp(-z[at + 1] * part.log_energy) * part.background
            background = z[at] * shape
            slopes[at] = shape
            slopes[at + 1] = -part.log_energy * background
        return background + part.offset + signal, slopes

    @staticmethod
    def rates(part, signal):
        """OFF and ON rates at the minimum of the On-Off statistic for a signal."""
        a = part.alpha
        c = a * (part.counts + part.n_off) - (1 + a) * signal
        d = np.sqrt(c**2 + 4 * a * (a + 1) * part.n_off * signal)
        off = (c + d) / (2 * a * (a + 1))
        return off, signal + a * off

    def gradient(self, z):
        """Gradient of the statistic and penalty, for complex parameters too."""
        total = 2 * self.matrix() @ (z - self.begin())
        for part in self.parts:
            npred, slopes = self.model(part, z)
            if part.n_off is not None:
                npred = self.rates(part, npred)[1]
            total = total + slopes @ (2 * (1 - part.counts / npred))
        return total

    def hessian(self, z):
        h = 1e-30
        return np.stack([self.gradient(z + 1j * h * row).imag / h for row in np.eye(self.size)])

    def stat(self, z):
        total = 0.0
        for part in self.parts:
            npred = self.model(part, z)[0].real
            n = part.counts
            if part.n_off is None:
                if np.any(npred <= 0):
                    return np.inf
                total += 2 * np.sum(npred - n * np.log(npred))
                continue
            off, on = (rate.real for rate in self.rates(part, npred))
            for counts, rate in [(n, on), (part.n_off, off)]:
                used = counts > 0
                if np.any(rate[used] <= 0):
                    return np.inf
                log = np.log(counts[used] / rate[used])
                total += 2 * np.sum(rate - counts) + 2 * np.sum(counts[used] * log)
        return total

    def value(self, z):
        """Statistic and penalty."""
        step = z - self.begin()
        return self.stat(z) + step @ self.matrix() @ step

    def solve(self, start=None, free=None):
        """Minimum by damped Newton steps; bounds by an active set."""
        free = self.freedom() if free is None else free
        lower, upper = self.bounds()
        if start is None:
            start = self.begin()
            start[self.norms] = np.where(free[self.norms], 1.0, start[self.norms])
        z = np.clip(start, lower, upper)
        value = self.value(z)
        assert np.isfinite(value)
        for _ in range(200):
            slope = self.gradient(z.astype(complex)).real
            on_bound = ((z <= lower) & (slope > 0)) | ((z >= upper) & (slope < 0))
            active = free & ~on_bound
            bend = self.hessian(z)[np.ix_(active, active)]
            low = np.linalg.eigvalsh(bend)[0]
            if low <= 0:
                bend = bend + np.eye(len(bend)) * (1e-3 * np.trace(bend) - low)
            step = np.zeros(self.size)
            step[active] = -np.linalg.solve(bend, slope[active])
            t = 1.0
            while True:
                new = np.clip(z + t * step, lower, upper)
                new_value = self.value(new)
                if new_value <= value + 1e-10 or t < 1e-12:
                    break
                t /= 2
            decrement = -slope @ step
            z, value = new, new_value
            if t == 1.0 and decrement < 1e-20:
                return z
        raise AssertionError("the reference did not converge")

    def covariance(self, z, free=None):
        free = self.freedom() if free is None else free
        whole = np.zeros((self.size, self.size))
        whole[np.ix_(free, free)] = np.linalg.inv(0.5 * self.hessian(z)[np.ix_(free, free)])
        return whole

    def held(self, best, at, value):
        """Minimum with one parameter held, reached from the best fit."""
        free = self.freedom().copy()
        free[at] = False
        covariance = self.covariance(best)
        z = best
        direction = covariance[at] / covariance[at, at]
        t = value - z[at]
        while t != 0:
            new = z + t * direction
            new[at] = value if t == value - z[at] else new[at]
            if np.isfinite(self.value(new)):
                z = self.solve(new, free)
                t = value - z[at]
            else:
                t /= 2
                assert abs(t) > 1e-6 * np.sqrt(covariance[at, at])
        return z

    def rise(self, best, at, value):
        return self.value(self.held(best, at, value)) - self.value(best)

    def limit(self, best, at, side, target):
        sigma = np.sqrt(self.covariance(best)[at, at] * target)

        def excess(distance):
            return self.rise(best, at, best[at] + side * distance) - target

        return brentq(excess, 0.5 * sigma, 2.5 * sigma, xtol=1e-9 * sigma)

    def asimov(self, truth):
        """Counts, and what the penalties measured, as ``truth`` predicts."""
        parts = []
        for part in self.parts:
            npred = self.model(part, truth)[0].real
            if part.n_off is not None:
                npred = npred + part.alpha * part.n_off
            parts.append(replace(part, counts=npred))
        return replace(self, parts=tuple(parts), start=dict(enumerate(truth)))
