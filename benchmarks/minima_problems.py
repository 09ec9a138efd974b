"""Random problems with free spectral parameters or tilts of backgrounds, for `minima.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import erf

import jaxprof
from jaxprof.likelihood import (
    Constraints,
    FreeParameters,
    Gaussian,
    Likelihood,
    OnOff,
    Poisson,
    Spectra,
)
from jaxprof.models.spectral_functions import panels_within

TRUE, RECO = np.geomspace(0.5, 20, 9), np.geomspace(1, 10, 7)
"""Edges of true and reconstructed energies [TeV]."""


@dataclass(frozen=True)
class Kind:
    """What is free."""

    number: int
    shape: str = ""
    tilted: int = 0
    n_bins: int = 3
    on_off: bool = False


KINDS = {
    "index": Kind(40, "index"),
    "index, On-Off": Kind(20, "index", on_off=True),
    "log parabola": Kind(20, "alpha beta"),
    "cutoff": Kind(20, "index lambda_"),
    "tilt": Kind(30, tilted=1),
    "tilts of two datasets": Kind(20, tilted=2),
    "index and tilt": Kind(40, "index", tilted=1),
    "index and tilt, 6 bins": Kind(10, "index", tilted=1, n_bins=6),
}


def spectral_model(shape: str, index):
    """A spectral model with these free parameters, and their bounds in `Constraints`."""
    one = np.ones_like(index)
    known = {"amplitude": one, "reference": one}
    if shape == "alpha beta":
        model = jaxprof.LogParabolaSpectralModel(alpha=index, beta=0 * one, **known)
    elif shape == "index lambda_":
        model = jaxprof.ExpCutoffPowerLawSpectralModel(
            index=index, lambda_=0.1 * one, alpha=one, **known
        )
    else:
        model = jaxprof.PowerLawSpectralModel(index=index, **known)
    lower, upper = {}, {}
    for name in shape.split():
        own = float(np.mean(getattr(model, name)))
        limits = (0.0, 1e3) if name == "lambda_" else (own - 5, own + 5)
        lower[f"spectrum.{name}"], upper[f"spectrum.{name}"] = limits
    return model, lower, upper


def random_term(rng, kind: Kind, dataset: int, flux, signal):
    """Bins in a row that leak into each other and into two background regions."""
    n, reco = kind.n_bins, np.sqrt(RECO[1:] * RECO[:-1])
    true = np.sqrt(TRUE[1:] * TRUE[:-1])
    within = erf(np.log(RECO / true[:, None]) / rng.uniform(0.08, 0.25) / np.sqrt(2)) / 2
    response = (true ** rng.uniform(0.3, 1.2))[:, None] * np.diff(within, axis=1)
    apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n + 2) - 1))
    leak = rng.uniform(0, 0.3)
    psf = np.select([apart == 0, apart == 1], [1 - leak, leak / 2], 0.0)
    templates = psf[:, None, :, None] * response[None, :, None, :]
    unit = np.einsum("cq,cqbe->c", flux, templates)
    templates *= (np.maximum(signal, 10.0) / unit)[:, None, None, None]
    norm = signal / np.maximum(signal, 10.0)
    expected = np.einsum("c,cq,cqbe->be", norm, flux, templates)
    level = 10 ** rng.uniform(-2, 1.3) * max(signal.mean(), 5.0) / reco.size
    background = level * reco ** -rng.uniform(1, 2.7) * rng.uniform(0.7, 1.3, (n + 2, 1))
    log_energy = np.broadcast_to(np.log(reco / np.sqrt(10)), background.shape)
    mask = np.ones(background.shape, bool)
    mask[[0, -1]] = rng.random() < 0.5
    truth = background
    if kind.tilted:
        truth = background * rng.uniform(0.6, 1.5) * np.exp(-rng.normal(0, 0.7) * log_energy)
    if not kind.shape:
        templates = np.einsum("cq,cqbe->cbe", flux, templates)[:, None]
    counts = rng.poisson(expected + truth)
    alpha = rng.uniform(0.05, 0.5) * np.ones(background.shape)

    def flat(values):
        return np.asarray(values, float).reshape(1, 1, -1)

    common = {
        "offset": flat(0 * background),
        "templates": templates.reshape(1, 1, n, templates.shape[1], -1),
        "components": np.arange(n)[None, None],
        "mask": mask.reshape(1, 1, -1),
        "dataset": dataset,
    }
    if kind.on_off:
        off = rng.poisson(background / alpha)
        return OnOff(n_on=flat(counts), n_off=flat(off), alpha=flat(alpha), **common)
    return Poisson(
        counts=flat(counts), background=flat(background), log_energy=flat(log_energy), **common
    )


def random_likelihood(kind: Kind, rng) -> Likelihood:
    """Bins with 5 to 1000 counts each, or none, over any background."""
    n, sets = kind.n_bins, max(kind.tilted, 1)
    power = 1 - rng.uniform(1.2, 3.8, n)[:, None]
    flux = np.diff(TRUE**power, axis=1) / power
    signal = 10 ** rng.uniform(np.log10(5), 3, n) * (rng.random(n) > 0.25)
    terms = tuple(random_term(rng, kind, d, flux, signal / sets) for d in range(sets))
    nominal = {
        "norm": np.ones((n, 1)),
        "background": np.ones((sets, 1)),
        "background_tilt": np.zeros((sets, 1)),
        "exposure": np.ones(sets),
    }
    lower, upper, gaussian, spectra = {}, {}, {}, None
    if kind.tilted:
        lower |= {"background": 0.0, "background_tilt": -5.0}
        upper["background_tilt"] = 5.0
        if rng.random() < 0.3:
            width = np.full((sets, 1), 0.1)
            gaussian["background"] = Gaussian(centre=np.ones((sets, 1)), width=width)
    if rng.random() < 0.25:
        lower["norm"] = 0.0
    if kind.shape:
        model, *bounds = spectral_model(kind.shape, np.full(n, 2.0))
        lower, upper = lower | bounds[0], upper | bounds[1]
        group = RECO[[0, -1]]
        reference = np.asarray(model.integral(*group))[:, None]
        nominal["spectrum"] = model
        none = (np.zeros((0, TRUE.size - 1)),) * sets
        spectra = Spectra(
            edges=(TRUE,) * sets,
            source_flux=none,
            group_edges=group[None],
            panels=panels_within(TRUE),
            group_panels=panels_within(group),
            guard_flux=none,
            reference_flux=reference,
        )
    tilts = ("background", "background_tilt") if kind.tilted else ()
    return Likelihood(
        terms=terms,
        constraints=Constraints(gaussian=gaussian, lower=lower, upper=upper),
        nominal=nominal,
        bins=(),
        spectra=spectra,
        free=FreeParameters(
            names=("norm", *tilts, *(("spectrum",) if kind.shape else ())),
            background=(bool(tilts),) * sets,
            background_tilt=(bool(tilts),) * sets,
            spectral_parameters=tuple(kind.shape.split()),
            spectra=(True,) * n,
        ),
    )
