"""Limits, scans and sensitivities of a likelihood, with its other parameters profiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import is_traced
from jaxprof.inference.fit_result import Fit
from jaxprof.inference.held import Wanted, compute
from jaxprof.inference.intervals import check_n_sigma
from jaxprof.inference.intervals import limits as norm_limits
from jaxprof.inference.joint_intervals import limited
from jaxprof.inference.joint_scan import scanned
from jaxprof.inference.joint_sensitivity import joint_sensitivity
from jaxprof.inference.levels import sigma_of_limits
from jaxprof.inference.parameters import layout_of, names_given, numpy_of
from jaxprof.inference.profile_fit import (
    Structure,
    groups_of,
    joint_fit_at,
    norm_bounds,
    norm_fit,
    structure_of,
)
from jaxprof.inference.scan import norm_rises
from jaxprof.inference.sensitivity import sensitivity as norm_sensitivity
from jaxprof.likelihood import Likelihood
from jaxprof.likelihood.arrays import profile_data
from jaxprof.likelihood.joint_data import JointData, JointFit
from jaxprof.likelihood.layout import put
from jaxprof.user_warning import warn_user

KINDS = ("errn", "errp", "ul")
MOST = 5
"""Parameters that a warning names."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class ProfileLimits:
    """Confidence limits of parameters; a pytree.

    Attributes
    ----------
    errn, errp : dict of array
        By the name of each parameter and of its shape: distances from its best value down and up to
        where the profiled statistic has risen by ``n_sigma**2``. NaN where it never does: where a
        bound or the end of the domain comes first.
    ul : dict of array
        The values above at which it has risen by ``n_sigma_ul**2``, or the upper bound of the
        parameter where that comes first.
    """

    errn: dict[str, Any]
    errp: dict[str, Any]
    ul: dict[str, Any]


def _positions(fit: Fit, name: str, what: str) -> tuple[Any, tuple[int, ...]]:
    """Positions of the free elements of a leaf among all its elements, and its shape.

    Raises
    ------
    ValueError
        If there is no leaf or element of this name.
    """
    layout = layout_of(fit.params)
    at = layout.positions(name, what)
    if name in layout.leaves:
        return at, layout.shapes[layout.leaves.index(name)]
    if name in layout.names:
        return at, ()
    raise ValueError(f"{what}: {name!r} is not one parameter; there are {', '.join(layout.leaves)}")


def _check_fit(fit: Any) -> None:
    if not isinstance(fit, Fit):
        raise ValueError(f"fit must be what jaxprof.fit gave, got {type(fit).__name__}")


def _structure(log_prob: Any, fit: Fit, args: tuple[Any, ...]) -> Structure:
    """Which methods know a likelihood, if it was fitted by itself."""
    if not isinstance(log_prob, Likelihood) or args or fit.norm_status is None:
        return Structure.GENERAL
    return structure_of(log_prob, fit.params)


def limits(
    log_prob: Any,
    fit: Fit,
    *,
    args: tuple[Any, ...] = (),
    names: str | Iterable[str] | None = None,
    n_sigma: float = 1,
    n_sigma_ul: float = 2,
    cl: float | None = None,
) -> ProfileLimits:
    """Asymmetric errors and upper limits of fitted parameters, the others profiled.

    Parameters
    ----------
    log_prob : Likelihood, callable or object
        What was fitted.
    fit : Fit
        What `jaxprof.fit` gave for it.
    args : tuple of pytree
        Further arguments of `log_prob`, as for the fit.
    names : str or list of str, optional
        Parameters, such as ``"norm"`` or ``"norm[0, 0]"``; by default the norms of a `Likelihood`,
        and all parameters of anything else.
    n_sigma : float
        Number of standard deviations of ``errn`` and ``errp``.
    n_sigma_ul : float
        Number of standard deviations of the upper limit: 2 gives 95.45 % for a two-sided interval.
    cl : float, optional
        The same as a probability, such as 0.95, in its place.

    Returns
    -------
    ProfileLimits
        ``errn``, ``errp`` and ``ul``, dicts of arrays by the names. They have derivatives with
        respect to all arrays of the likelihood, and to `args`.

    Raises
    ------
    ValueError
        For names that are none of parameters, or a number of standard deviations that is not
        positive.

    Warns
    -----
    UserWarning
        If a joint fit with a norm held at a limit has another minimum that is less than one higher.

    Notes
    -----
    A limit is where minus twice the log probability, with all other parameters profiled, has
    risen by the square of the number of standard deviations (Wilks 1938, Ann. Math. Stat. 9, 60;
    Rolke, Lopez & Conrad 2005, NIM A 551, 493).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import jaxprof
    >>> def log_prob(params):
    ...     return 9.0 * jnp.log(params["norm"]) - params["norm"]
    >>> found = jaxprof.limits(log_prob, jaxprof.fit(log_prob, {"norm": 5.0}))
    >>> for name, value in vars(found).items():
    ...     print(f"{name} {value['norm']:.3f}")
    errn 2.676
    errp 3.342
    ul 16.401
    """
    _check_fit(fit)
    check_n_sigma("n_sigma", n_sigma)
    if cl is not None:
        n_sigma_ul = sigma_of_limits(None if n_sigma_ul == 2 else n_sigma_ul, cl)
    check_n_sigma("n_sigma_ul", n_sigma_ul)
    plain = isinstance(log_prob, Likelihood)
    if names is None:
        names = ("norm",) if plain else layout_of(fit.params).leaves
    names = names_given("names", names)
    if not names:
        known = ", ".join(layout_of(fit.params).leaves)
        raise ValueError(f"names is empty; there are {known}")
    structure = _structure(log_prob, fit, args)
    if structure is not Structure.GENERAL and names == ("norm",):
        own = _separable_limits if structure is Structure.SEPARABLE else _joint_limits
        parts = own(log_prob, fit, n_sigma, n_sigma_ul)
        return ProfileLimits(**{key: {"norm": v} for key, v in zip(KINDS, parts, strict=True)})
    where = [_positions(fit, name, "names") for name in names]
    flat = [np.arange(at.start, at.stop) for at, _ in where]
    free = ~np.array(fit.fixed)
    asked = np.concatenate([own[free[own]] for own in flat])
    dtype = fit.covariance.dtype
    found = np.full((len(free), 3), np.nan, dtype)
    if len(asked):
        rises = _rises(n_sigma, n_sigma_ul, dtype)
        wanted = Wanted(
            np.repeat(asked, 3),
            np.tile(np.array([-1.0, 1.0, 1.0], dtype), len(asked)),
            numpy_of(rises).tile(rises, len(asked)),
            np.tile([False, False, True], len(asked)),
        )
        values = compute("limits", log_prob, fit, args, (wanted,))
        found = put(found, asked, values.reshape(-1, 3))
    best = layout_of(fit.params).flatten(fit.params, dtype)
    columns: tuple[Any, ...] = best - found[:, 0], found[:, 1] - best, found[:, 2]
    return ProfileLimits(
        **{
            key: {
                name: column[own].reshape(shape)
                for name, own, (_, shape) in zip(names, flat, where, strict=True)
            }
            for key, column in zip(KINDS, columns, strict=True)
        }
    )


def _rises(n_sigma: float, n_sigma_ul: float, dtype: Any) -> Any:
    """Rises of the statistic for the lower and upper error and the upper limit."""
    values = [n_sigma, n_sigma, n_sigma_ul]
    return numpy_of(values).asarray(values, dtype) ** 2


def _separable_limits(
    likelihood: Likelihood, fit: Fit, n_sigma: float, n_sigma_ul: float
) -> tuple[Any, Any, Any]:
    data, own = norm_fit(likelihood)
    found = norm_limits(
        data, own, n_sigma=n_sigma, n_sigma_ul=n_sigma_ul, **norm_bounds(likelihood)
    )
    return found.norm_errn, found.norm_errp, found.norm_ul


def _joint_limits(
    likelihood: Likelihood, fit: Fit, n_sigma: float, n_sigma_ul: float
) -> tuple[Any, Any, Any]:
    sides, closed = np.array([-1.0, 1.0, 1.0]), np.array([False, False, True])

    def of_group(data: JointData, own: JointFit, bins: Any, units: Any, _: int) -> Any:
        rises = _rises(n_sigma, n_sigma_ul, data.start.dtype)
        distances, other = limited(data, own, bins, (sides, rises, closed))[:2]
        return distances * units[:, None], other

    distances, other = _of_groups(likelihood, fit, of_group)
    _warn_other_minima("limits", other)
    errn, errp, above = jnp.moveaxis(distances, 2, 0)
    return errn, errp, fit.params["norm"] + above


def _warn_other_minima(what: str, other: Any) -> None:
    """Name the norms (B, G) that are held in some fit with another minimum, (B, G, ...)."""
    if not is_traced(other) and np.any(other):
        which = np.argwhere(np.any(other, axis=2))
        named = ", ".join(f"norm[{b}, {g}]" for b, g in which[:MOST])
        more = f" and {len(which) - MOST} more" if len(which) > MOST else ""
        warn_user(
            f"{what}: with {named}{more} held, another minimum of all other parameters is almost "
            "as low, less than 1 higher in stat: what is given is that of the lowest one"
        )


def _of_groups(likelihood: Likelihood, fit: Fit, function: Callable[..., Any]) -> Any:
    """What a function gives for the bins of each energy group, (B, G, ...).

    Its arguments are data and fit of the group, the bins, the units of their norms in these and
    the number of the group.
    """
    bins, found = np.arange(likelihood.n_bins), []
    for group, (data, scale) in enumerate(groups_of(likelihood)):
        own = joint_fit_at(likelihood, fit, group, (data, scale))
        found.append(function(data, own, bins, scale[bins * (1 + data.n_shape)], group))
    return jax.tree.map(lambda *each: jnp.stack(each, axis=1), *found)


def scan(
    log_prob: Any,
    fit: Fit,
    values: Any,
    *,
    name: str = "norm",
    args: tuple[Any, ...] = (),
) -> Any:
    """Rise of the profiled fit statistic above its minimum, on a grid of values of a parameter.

    Parameters
    ----------
    log_prob : Likelihood, callable or object
        What was fitted.
    fit : Fit
        What `jaxprof.fit` gave for it.
    values : array, shape (V,), or (..., V) with the shape of the parameter in front
        The values. A norm of zero gives the test statistic.
    name : str
        The parameter, of any shape; or one of its elements, such as ``"norm[0, 0]"``.
    args : tuple of pytree
        Further arguments of `log_prob`, as for the fit.

    Returns
    -------
    rise : array, shape (..., V)
        Minus twice the log probability, with all other parameters profiled, above its
        minimum; infinite outside of the domain. It has derivatives with respect to all arrays of
        the likelihood, to `args` and to the values.

    Raises
    ------
    ValueError
        For a name that is none of a parameter, one that is fixed, or values of another shape.

    Warns
    -----
    UserWarning
        If a joint fit with a norm held has another minimum that is less than one higher.
    """
    _check_fit(fit)
    at, shape = _positions(fit, name, "name")
    xp = numpy_of(values)
    grid = xp.asarray(values, fit.covariance.dtype)
    if grid.ndim != 1 and (not grid.ndim or grid.shape[:-1] != shape):
        raise ValueError(f"values must have shape (V,) or {(*shape, 'V')}, got {grid.shape}")
    grid = xp.broadcast_to(grid, (*shape, grid.shape[-1]))
    structure = _structure(log_prob, fit, args)
    if structure is not Structure.GENERAL and name == "norm":
        own = _separable_scan if structure is Structure.SEPARABLE else _joint_scan
        return own(log_prob, fit, grid)
    rows = np.arange(at.start, at.stop)
    if np.any(np.array(fit.fixed)[rows]):
        raise ValueError(f"name: {name!r} was fixed, or has elements that were")
    each = np.repeat(rows, grid.shape[-1])
    return compute("scan", log_prob, fit, args, (each, grid.ravel())).reshape(grid.shape)


def _separable_scan(likelihood: Likelihood, fit: Fit, grid: Any) -> Any:
    data, own = norm_fit(likelihood)
    return norm_rises(data, own, grid, floored=False)


def _joint_scan(likelihood: Likelihood, fit: Fit, grid: Any) -> Any:
    def of_group(data: JointData, own: JointFit, bins: Any, units: Any, group: int) -> Any:
        return scanned(data, own, bins, grid[:, group] / units[:, None])[::2]

    rises, other = _of_groups(likelihood, fit, of_group)
    _warn_other_minima("scan", other)
    return rises


def sensitivity(likelihood: Likelihood, fit: Fit, *, n_sigma: float = 5) -> Any:
    """Smallest norms that would be detected, the other parameters being as fitted.

    Parameters
    ----------
    likelihood : Likelihood
        That of an estimator.
    fit : Fit
        What `jaxprof.fit` gave for it, by itself.
    n_sigma : float
        Significance, the root of the test statistic.

    Returns
    -------
    norm_sensitivity : array, shape (B, G)
        The norm whose Asimov data set (counts equal to their prediction; Cowan et al. 2011, Eur.
        Phys. J. C 71, 1554) has a test statistic of ``n_sigma**2``; NaN where there is none.

    Raises
    ------
    ValueError
        For a significance that is not positive; for a likelihood whose energy groups share
        parameters, or a fit with further bounds or fixed parameters.
    """
    check_n_sigma("n_sigma", n_sigma)
    _check_fit(fit)
    structure = _structure(likelihood, fit, ())
    if structure is Structure.GENERAL:
        raise ValueError(
            "likelihood: its sensitivity is known where it was fitted by itself, "
            "jaxprof.fit(likelihood), and without parameters that energy groups share, such as "
            "exposure or psf_scale"
        )
    if structure is Structure.SEPARABLE:
        return norm_sensitivity(profile_data(likelihood), n_sigma=n_sigma)

    def of_group(data: JointData, own: JointFit, bins: Any, units: Any, _: int) -> Any:
        level = numpy_of(n_sigma).asarray(n_sigma, data.start.dtype)
        return joint_sensitivity(data, own, bins, level) * units

    return _of_groups(likelihood, fit, of_group)
