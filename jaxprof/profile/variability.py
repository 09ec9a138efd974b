"""Whether norms change from profile to profile: likelihood-ratio tests of constancy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from astropy import units as u
from astropy.table import Column, Table

from jaxprof.inference.fit import fit_norms
from jaxprof.inference.scan import norm_rises
from jaxprof.likelihood.data import Data
from jaxprof.likelihood.stacking import in_common, side_by_side
from jaxprof.profile.limits import map_data
from jaxprof.profile.printed import LinesTable
from jaxprof.profile.quantities import Array

if TYPE_CHECKING:
    from jaxprof.profile.stack import FluxProfileStack


def variability(stack: FluxProfileStack) -> Table:
    """Test in each bin and energy group that the norm is the same in all profiles.

    Parameters
    ----------
    stack : FluxProfileStack
        Of profiles of the same regions, with ``likelihood_data`` (of `FluxProfileEstimator`) or
        with scans (``selection_optional=["scan"]``) on one grid of norms.

    Returns
    -------
    Table
        A row for each bin, vectors over the energy groups (plain columns if there is one):
        ``norm``, the common one; ``ts``; ``ndf``, its degrees of freedom; ``p_value``, the
        probability of a larger ``ts`` if the flux is constant; ``x_min``, ``x_max``, ``x_ref`` as
        in a profile's table, and of several groups ``e_min``, ``e_max``. Printed, it has a line for
        each bin and energy group. NaN where fewer than two profiles know the norm, or where the
        common norm lies at the end of the scans.

    Raises
    ------
    ValueError
        For a single profile, other regions or reference spectra, or no likelihood.

    Notes
    -----
    ``ts = sum_t [stat_t(norm) - min stat_t]``, with the common norm that makes it the least: no
    errors are taken for Gaussian. Norms are free and may be negative, whatever their bounds were.
    By Wilks' theorem ``ts`` is distributed as chi2 with ``ndf`` degrees of freedom, one less than
    the number of profiles that have exposure there; with few counts (fewer than about five in a
    profile) toys should tell. With scans, of joint fits, all other norms and parameters of each
    profile are fitted again, and ``ts`` is as good as a cubic spline through the scans.
    """
    from scipy.stats import chi2

    _check(stack)
    data = [own.likelihood_data for own in stack.profiles]
    known = [each for each in data if each is not None]
    if len(known) == len(data):
        ts, norm, usable = _by_data(known)
    else:
        ts, norm, usable = _by_scans(stack)
    ndf = np.where(np.isfinite(ts), usable - 1, 0)
    p_value = np.where(ndf > 0, chi2.sf(ts, np.maximum(ndf, 1)), np.nan)
    first = stack.profiles[0]
    table = LinesTable()
    if "name" in first.quantities:
        table["name"] = first.quantities["name"]
    for name in ("min", "max", "ref"):
        table[f"x_{name}"] = Column(getattr(first.axis, name), unit=first.axis.unit or None)
    if first.shape[1] > 1:
        unit = first.energy_unit or "TeV"
        for name, edges in zip(("e_min", "e_max"), first.energy_edges.T, strict=True):
            edges = np.broadcast_to(u.TeV.to(unit, edges), first.shape)
            table[name] = Column(edges, unit=unit, format=".4g")
    columns = {"norm": norm, "ts": ts, "ndf": ndf, "p_value": p_value}
    for name, values in columns.items():
        table[name] = values[:, 0] if values.shape[1] == 1 else values
        if values.dtype.kind == "f":
            table[name].info.format = ".4g"
    if first.norm_unit:
        table["norm"].unit = first.norm_unit
    return table


def _check(stack: FluxProfileStack) -> None:
    first = stack.profiles[0]
    if len(stack) < 2:
        raise ValueError("variability needs two profiles or more")
    for name, own in zip(stack.names, stack.profiles, strict=True):
        same = own.shape == first.shape and all(
            np.array_equal(getattr(own.axis, end), getattr(first.axis, end))
            for end in ("min", "max")
        )
        if own.regions is not None and first.regions is not None:
            same = same and own.regions == first.regions
        if not same:
            raise ValueError(
                f"variability compares profiles of the same regions; those of {name} are others "
                f"than those of {stack.names[0]}"
            )
        here, there = (np.broadcast_to(p.reference["flux"], p.shape) for p in (own, first))
        if not np.allclose(here, there, rtol=1e-9):
            raise ValueError(
                f"variability: the fluxes at norm one of {name} are others than those of "
                f"{stack.names[0]}, so that norms do not compare"
            )


def _by_data(data: list[Data]) -> tuple[Array, Array, Array]:
    """Statistic, common norm, and the number of profiles that know it, (B, G) each."""
    double = [map_data(lambda a: a if a.dtype == bool else np.asarray(a, float), d) for d in data]
    exact = [each for each in double if each is not None]
    with jax.enable_x64(True):
        common = np.asarray(fit_norms(in_common(exact)).norm)
        fits = side_by_side(exact, fit_norms)
        rises = np.stack(
            [
                np.asarray(norm_rises(each, fit, jnp.asarray(common[:, :, np.newaxis])))[..., 0]
                for each, fit in zip(exact, fits, strict=True)
            ]
        )
    # Where nothing is fitted nothing rises either.
    known = np.stack([np.isfinite(fit.norm) for fit in fits]) & np.isfinite(rises)
    usable, rises = known.sum(axis=0), np.where(known, rises, 0.0)
    ts = np.where(usable > 1, rises.sum(axis=0), np.nan)
    return np.maximum(ts, 0.0), np.where(usable > 1, common, np.nan), usable


def _by_scans(stack: FluxProfileStack) -> tuple[Array, Array, Array]:
    """The same from the scans of the profiles."""
    if any("stat_scan" not in own.quantities for own in stack.profiles):
        raise ValueError(
            "variability needs the likelihood of all profiles: likelihood_data, which "
            "FluxProfileEstimator gives, or scans, selection_optional=['scan']"
        )
    grids = [own.quantities["norm_scan"] for own in stack.profiles]
    if any(grid.shape != grids[0].shape or np.any(grid != grids[0]) for grid in grids):
        raise ValueError("variability: the scans have other norms; give norm={'scan_values': ...}")
    rises = np.stack(
        [
            own.quantities["stat_scan"] - own.quantities["stat"][..., np.newaxis]
            for own in stack.profiles
        ]
    )
    known = np.isfinite(rises).all(axis=-1)
    usable = known.sum(axis=0)
    total = np.where(known[..., np.newaxis], rises, 0.0).sum(axis=0)
    ts, norm = np.full(usable.shape, np.nan), np.full(usable.shape, np.nan)
    for at in np.argwhere(usable > 1):
        index = (int(at[0]), int(at[1]))
        ts[index], norm[index] = _minimum(grids[0][index], total[index])
    return ts, norm, usable


def _minimum(x: Array, y: Array) -> tuple[float, float]:
    """Least value of a spline and where; NaN at the ends of the grid."""
    from scipy.interpolate import CubicSpline

    x, first = np.unique(x, return_index=True)
    y = y[first]
    if len(x) < 4 or np.argmin(y) in (0, len(x) - 1):
        return np.nan, np.nan
    spline = CubicSpline(x, y)
    roots = spline.derivative().roots(extrapolate=False)
    values = spline(roots)
    best = int(np.argmin(values))
    return max(float(values[best]), 0.0), float(roots[best])
