"""Toys: simulated counts, fitted as the real ones, and what they tell."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxprof.compilation import jit_by_size
from jaxprof.inference.batches import own_rows, spread
from jaxprof.inference.fit import fit_norms
from jaxprof.inference.fit_result import Fit
from jaxprof.inference.intervals import check_n_sigma
from jaxprof.inference.intervals import limits as norm_limits
from jaxprof.inference.joint_toys import drawn_toy, fit_toy, packs_of
from jaxprof.inference.levels import confidence_level, one_sided_sigma, two_sided_sigma
from jaxprof.inference.model_fit import fit as fit_likelihood
from jaxprof.inference.named_intervals import KINDS, counting_experiments, intervals
from jaxprof.inference.plain_numbers import whole_number
from jaxprof.inference.profile_fit import norm_bounds
from jaxprof.inference.profiled import limits, scan
from jaxprof.inference.toy_results import Toys, ToySummary
from jaxprof.inference.toy_store import ToyStore
from jaxprof.inference.toy_tests import data_drawn_on_devices, drawn_data
from jaxprof.likelihood import Likelihood
from jaxprof.likelihood.arrays import is_separable, separate_counts
from jaxprof.likelihood.goodness import data_deviance, deviance
from jaxprof.likelihood.named import complete
from jaxprof.likelihood.poisson import SAMPLER
from jaxprof.progress import progress_bar
from jaxprof.types import Array
from jaxprof.user_warning import warn_user

QUANTITIES = ("norm", "norm_err", "ts", "errn-errp", "ul", "deviance")
"""What toys can be asked for."""
_PARTS = {"errn-errp": ("norm_errn", "norm_errp"), "ul": ("norm_ul",)}
FITS = 100_000
"""Separate fits at once."""
BY_RISE = ("profile", "one-sided")
"""Kinds of limits that come with the errors, in the same compiled program."""
ROWS = 4000
"""Separate fits whose limits of other kinds are sought at once."""


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is fitted to each toy."""

    names: tuple[str, ...]
    n_sigma: float
    cl: float
    interval: str
    constraints: bool
    sharding: NamedSharding | None = field(default=None, repr=False)

    def sigma_ul(self) -> float:
        """Standard deviations of limits by the rise of the statistic."""
        sigma = one_sided_sigma if self.interval == "one-sided" else two_sided_sigma
        return sigma(self.cl)

    def named(self) -> bool:
        """Whether upper limits are of a kind that is not known by the rise alone."""
        return "ul" in self.names and self.interval not in BY_RISE


def toys(
    likelihood: Likelihood,
    n_toys: int = 1000,
    *,
    truth: Any = "fit",
    fit: Fit | None = None,
    quantities: tuple[str, ...] = ("norm", "norm_err", "ts"),
    n_sigma: float = 1,
    cl: float | None = None,
    n_sigma_ul: float | None = None,
    interval: str = "profile",
    seed: int = 0,
    chunk: int | None = None,
    store: Any = None,
    keep: bool = True,
    progress: bool | None = None,
    sharding: NamedSharding | None = None,
) -> Toys | ToySummary:
    """Fit toys of a profile's likelihood: a parametric bootstrap, or a background alone.

    Parameters
    ----------
    likelihood : Likelihood
        That of an estimator; for joint fits made with ``merge=False``, the default.
    n_toys : int
        Number of toys.
    truth : {"fit", "background"} or dict
        What they are drawn with: the fitted parameters, these with norms of zero, or parameters as
        `Likelihood.simulate` takes them. Centres of Gaussian constraints are drawn as well.
    fit : Fit, optional
        What `jaxprof.fit` gave for the likelihood.
    quantities : tuple of str
        Any of "norm", "norm_err", "ts", "errn-errp", "ul" and "deviance"; the first two always are.
    n_sigma : float
        Standard deviations of errn and errp.
    cl, n_sigma_ul : float, optional
        Level of the upper limits, as a probability or in standard deviations; by default 2.
    interval : str
        Kind of the upper limits, see `jaxprof.intervals`. "profile" and "one-sided" take next to no
        time. Of separate fits "bounded" and "cls" (asymptotic, or by sums where a norm has one
        counts bin with a known background) take some tenths of a millisecond each, "bayesian"
        several times that; of joint fits they take a fit of every bin for each toy, or a scan.
        "feldman-cousins" is there where it is by sums.
    seed : int
        What toys are drawn from. Toy number k is the same whatever else is drawn, and on whatever
        device: its key is ``jax.random.fold_in(jax.random.key(seed), k)``.
    chunk : int, optional
        Toys at once; by default as many as make 100 000 separate fits.
    store : path, optional
        Folder of a zarr store, to which each chunk is written. Called again with the same
        arguments it goes on where it stopped, and with more toys it adds those. Needs the package
        zarr.
    keep : bool
        Whether results of all toys are kept. Without, they are added up chunk by chunk: memory does
        not grow with their number, and there are no quantiles.
    progress : bool, optional
        Whether to show a progress bar; by default after some seconds, where there is a terminal and
        the package tqdm.
    sharding : `jax.sharding.NamedSharding`, optional
        Devices that toys of separate fits are spread over, along its first axis; for a ``mesh``
        ``NamedSharding(mesh, PartitionSpec(mesh.axis_names))`` takes all of it. Each device draws
        and fits its own toys, without communication. If some are devices of other processes
        (`jax.distributed`), all call this with the same arguments, and each gets the toys of its
        own devices; `ToySummary.join` adds them up.

    Returns
    -------
    Toys, or ToySummary
        The latter without ``keep``.

    Raises
    ------
    ValueError
        For an unknown quantity, a kind of limits that would take toys of each toy, parameters that
        predict counts below zero, a store of other toys, one without ``keep`` or of several
        processes, or a sharding of joint fits or of limits that are not by the rise alone.
    ImportError
        Without the packages that a store or a bar needs.
    """
    quantities = (quantities,) if isinstance(quantities, str) else tuple(quantities)
    n_toys, chunk, seed = _checked(quantities, n_toys, chunk, seed)
    check_n_sigma("n_sigma", n_sigma)
    if store is not None and not keep:
        raise ValueError("store: it keeps all toys; leave keep=True")
    plan = _Plan(
        names=tuple(name for name in QUANTITIES if name in {"norm", "norm_err", *quantities}),
        n_sigma=n_sigma,
        cl=confidence_level(cl, n_sigma_ul, "n_sigma_ul"),
        interval=interval,
        constraints=bool(likelihood.constraints.gaussian),
        sharding=sharding,
    )
    _check_interval(likelihood, plan)
    _check_sharding(likelihood, sharding, store)
    fit = fit_likelihood(likelihood) if fit is None else fit
    params = _truth(likelihood, fit, truth)
    shape, separate = np.shape(fit.params["norm"]), is_separable(likelihood)
    if chunk is None:
        most = max(1, FITS // int(np.prod(shape))) if separate else 10
        chunk = -(-n_toys // -(-n_toys // most))
    run = _separate if separate else _joint
    observed = _of_data(likelihood, fit, plan)
    known: Any = {
        "truth": np.broadcast_to(np.asarray(params["norm"]), shape),
        "observed": observed,
        "n_sigma": n_sigma,
        "cl": plan.cl,
        "interval": interval,
    }
    if not keep:
        summary = ToySummary(**known)
        for part in _bar(_chunks(np.arange(n_toys), chunk), progress):
            summary.add(run(likelihood, params, part, seed, plan)[1])
        return summary
    sizes = {name: (n_toys, *value.shape) for name, value in observed.items()}
    kept = ToyStore(store, sizes, chunk, _fingerprint(likelihood, params, plan, seed))
    for part in _bar(_chunks(kept.missing(), chunk), progress):
        kept.put(*run(likelihood, params, part, seed, plan))
    if sharding is not None and not sharding.is_fully_addressable:
        made = kept.made()
        return Toys(values={name: array[made] for name, array in kept.arrays.items()}, **known)
    return Toys(values=kept.arrays, **known)


def _checked(
    quantities: tuple[str, ...], n_toys: Any, chunk: Any, seed: Any
) -> tuple[int, int | None, int]:
    """Numbers of toys in all and at once, and the seed."""
    if unknown := [name for name in quantities if name not in QUANTITIES]:
        raise ValueError(
            f"quantities: unknown {unknown[0]!r}; choose from {', '.join(map(repr, QUANTITIES))}"
        )
    number, size, start = (whole_number(value) for value in (n_toys, chunk, seed))
    if number is None or not number > 0 or (chunk is not None and not (size or 0) > 0):
        raise ValueError(
            f"n_toys and chunk must be positive whole numbers, got {n_toys!r} and {chunk!r}"
        )
    if start is None:
        raise ValueError(f"seed must be a whole number, got {seed!r}")
    return number, size, start


def _check_interval(likelihood: Likelihood, plan: _Plan) -> None:
    kind = plan.interval
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"interval must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    if kind == "one-sided" and not plan.cl > 0.5:
        raise ValueError(f"cl of 'one-sided' must be above 0.5, got {plan.cl:g}")
    if plan.named() and plan.sharding is not None:
        raise ValueError(f"sharding: limits of kind {kind!r} take one device; leave it out")
    if kind == "feldman-cousins" and counting_experiments(likelihood) is None:
        raise ValueError(
            "interval: 'feldman-cousins' would take toys of each toy, but for norms with one "
            "counts bin each, a known background and whole counts; 'bounded' has the same order of "
            "values with asymptotic probabilities"
        )


def interval_of_toys(likelihood: Likelihood, kind: str, quantities: Any) -> str:
    """Kind of limits of toys of a profile with limits of a kind; a warning where it is another."""
    if kind != "feldman-cousins" or counting_experiments(likelihood) is not None:
        return kind
    if "ul" in quantities:
        warn_user(
            'toys: their upper limits are those of kind "profile", two-sided, not '
            f'"{kind}" as this profile\'s own are, which would take toys of each toy: mean, '
            'quantiles and coverage of ul are of the former. interval="bounded" has the same order '
            "of values with asymptotic probabilities"
        )
    return "profile"


def _check_sharding(likelihood: Likelihood, sharding: NamedSharding | None, store: Any) -> None:
    if sharding is None:
        return
    if not is_separable(likelihood):
        raise ValueError("sharding: joint fits are made one after the other; leave it out")
    if not sharding.spec or sharding.spec[0] is None:
        raise ValueError(f"sharding must be along the first axis, got {sharding.spec}")
    if store is not None and not sharding.is_fully_addressable:
        raise ValueError("store: only one process may write to it, and sharding has several")


def _chunks(numbers: Array, size: int) -> list[Array]:
    return [numbers[first : first + size] for first in range(0, len(numbers), size)]


def _truth(likelihood: Likelihood, fit: Fit, truth: Any) -> dict[str, Any]:
    """Parameters of the toys, which all predict counts that can be drawn."""
    if isinstance(truth, Mapping):
        complete(likelihood.nominal, truth, "truth")
        params = {"norm": likelihood.nominal["norm"], **truth}
    elif truth in ("fit", "background"):
        params = dict(fit.params)
        norm = np.asarray(params["norm"])
        # A norm that no counts bin knows predicts nothing.
        params["norm"] = np.where(np.isfinite(norm), norm, 0.0) * (truth == "fit")
    else:
        raise ValueError(f"truth must be 'fit', 'background' or parameters, got {truth!r}")
    try:
        likelihood.asimov(params)
    except ValueError as error:
        way_out = "; estimate with norm={'min': 0}, or take truth='background'"
        raise ValueError(f"truth: {error}{way_out * isinstance(truth, str)}") from error
    return params


@jit_by_size
def _deviances(data: Any, norm: Any) -> Any:
    return data_deviance(data, norm)


def _separate(
    likelihood: Likelihood, params: Any, numbers: Array, seed: int, plan: _Plan
) -> tuple[Array, dict[str, Array]]:
    """Numbers and results of the toys of a chunk, in one fit; of several processes its own."""
    # Few numbers of toys, that chunks of about one size are compiled for once.
    step = max(1, min(64, 4096 // (likelihood.n_bins * likelihood.n_groups)))
    if plan.sharding is not None:
        step = math.lcm(step, plan.sharding.mesh.size)
    padded = np.pad(numbers, (0, -len(numbers) % step), mode="edge")
    position = np.arange(len(padded))
    if plan.sharding is None:
        data = drawn_data(likelihood, params, padded, seed)
    else:
        same = jax.tree.map(np.asarray, (likelihood, params))
        at = spread(padded, plan.sharding)
        data = data_drawn_on_devices(*same, at, seed, sharding=plan.sharding)
        position = own_rows(spread(position, plan.sharding))
    bounds = norm_bounds(likelihood)
    fit = fit_norms(data, **bounds)
    found: dict[str, Any] = {"norm": fit.norm, "norm_err": fit.norm_err}
    if "ts" in plan.names:
        found["ts"] = fit.ts
    by_rise = set(plan.names) - ({"ul"} if plan.named() else set())
    if set(_PARTS) & by_rise:
        levels = {"n_sigma": plan.n_sigma, "n_sigma_ul": plan.sigma_ul()}
        own = norm_limits(data, fit, **levels, **bounds)
        for name, parts in _PARTS.items():
            found |= {part: getattr(own, part) for part in parts if name in by_rise}
    if plan.named():
        found["norm_ul"] = _named_limits(likelihood, data, bounds, plan)
    shape = (len(position), likelihood.n_bins, likelihood.n_groups)
    if "deviance" in plan.names:
        found["deviance"] = _deviances(data, fit.norm)
    arrays = {name: own_rows(value).reshape(shape) for name, value in found.items()}
    if "deviance" in plan.names:
        arrays["deviance"] = arrays["deviance"].sum(axis=1)
    # Without those that fill up the chunk.
    asked = position < len(numbers)
    return numbers[position[asked]], {name: value[asked] for name, value in arrays.items()}


def _named_limits(likelihood: Likelihood, data: Any, bounds: dict[str, Any], plan: _Plan) -> Array:
    """Upper limits of another kind of separate fits (N, G), some rows at a time."""
    found = []
    # As those of the data: of some rows alone the choice might be another.
    by_formula = plan.interval == "cls" and counting_experiments(likelihood) is None
    options: Any = {"kind": plan.interval, "method": "asymptotic" if by_formula else "auto"}
    for first in range(0, len(jax.tree.leaves(data)[0]), ROWS):
        part = separate_counts(jax.tree.map(lambda a: a[first : first + ROWS], data), **bounds)  # noqa: B023
        found.append(np.asarray(intervals(part, cl=plan.cl, **options).high))
    return np.concatenate(found)


def _joint(
    likelihood: Likelihood, params: Any, numbers: Array, seed: int, plan: _Plan
) -> tuple[Array, dict[str, Array]]:
    """The same of joint fits, one toy after the other, which keeps the caches full."""
    # Test statistics and limits go where other pixels would be predicted below zero.
    alone = set(plan.names) <= {"norm", "norm_err", "deviance"}
    packs = packs_of(likelihood, params) if alone else None
    rows = []
    for number in numbers:
        drawn = drawn_toy(likelihood, params, seed, number, constraints=plan.constraints)
        rows.append(_of_data(drawn, fit_toy(drawn, packs), plan))
    return numbers, {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _of_data(likelihood: Likelihood, fit: Fit, plan: _Plan) -> dict[str, Array]:
    """The quantities of one likelihood."""
    norm = fit.params["norm"]
    found: dict[str, Any] = {"norm": norm, "norm_err": fit.errors["norm"]}
    if "ts" in plan.names:
        found["ts"] = scan(likelihood, fit, np.zeros((*np.shape(norm), 1)))[..., 0]
    by_rise = set(plan.names) - ({"ul"} if plan.named() else set())
    if set(_PARTS) & by_rise:
        own = limits(likelihood, fit, n_sigma=plan.n_sigma, n_sigma_ul=plan.sigma_ul())
        if "errn-errp" in by_rise:
            found |= {"norm_errn": own.errn["norm"], "norm_errp": own.errp["norm"]}
        if "ul" in by_rise:
            found["norm_ul"] = own.ul["norm"]
    if plan.named():
        found["norm_ul"] = intervals(likelihood, fit, kind=plan.interval, cl=plan.cl).high
    if "deviance" in plan.names:
        found["deviance"] = deviance(likelihood, fit.params)
    return {name: np.asarray(value) for name, value in found.items()}


def _fingerprint(likelihood: Likelihood, params: Any, plan: _Plan, seed: int) -> str:
    """What makes toys the same, but for their number."""
    static = [
        getattr(likelihood, each.name) for each in fields(likelihood) if each.metadata.get("static")
    ]
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves((likelihood, params))]
    found = hashlib.sha256(repr((plan, seed, SAMPLER, static, shapes)).encode())
    for leaf in jax.tree.leaves((likelihood, params)):
        found.update(np.ascontiguousarray(np.asarray(leaf)).tobytes())
    return found.hexdigest()


def _bar(parts: list[Array], progress: bool | None) -> Iterator[Array]:
    bar = progress_bar(len(parts), "toys", " chunks", progress)
    for part in parts:
        yield part
        bar.update()
    bar.close()
