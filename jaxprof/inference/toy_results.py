"""Results of fits to toys: all of them, or what they come to."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from jaxprof.types import Array


@contextmanager
def _without_failed() -> Iterator[None]:
    """NaN, without a warning, where no fit of any toy succeeded: without exposure for instance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


@dataclass(frozen=True, kw_only=True)
class Toys:
    """Results of fits to toys.

    Attributes
    ----------
    values : dict of array, shape (T, B, G)
        By name: norm, norm_err and what else was asked for of ts, norm_errn, norm_errp, norm_ul;
        NaN where a fit failed. ``deviance`` has the shape (T, G). Arrays of a store are read when
        they are used.
    truth : array, shape (B, G)
        Norms that the toys were drawn with.
    observed : dict of array
        The same quantities of the data themselves, without the axis of toys.
    n_sigma, cl : float
        Standard deviations of errn and errp, and level of the upper limits.
    interval : str
        Kind of the upper limits, see `jaxprof.intervals`.
    """

    values: Mapping[str, Any]
    truth: Array
    observed: dict[str, Array]
    n_sigma: float
    cl: float
    interval: str = "profile"

    def __repr__(self) -> str:
        return _in_words(self, self.values)

    def __len__(self) -> int:
        return int(self.values["norm"].shape[0])

    def __getitem__(self, name: str) -> Array:
        """All values of a quantity, (T, B, G)."""
        if name not in self.values:
            raise ValueError(f"toys have no {name!r}; they have {', '.join(self.values)}")
        return np.asarray(self.values[name][:])

    def mean(self, name: str = "norm") -> Array:
        """Mean over the toys, (B, G), of the fits that did not fail."""
        with _without_failed():
            return np.nanmean(self[name], axis=0)

    def std(self, name: str = "norm") -> Array:
        """Standard deviation over the toys, (B, G)."""
        with _without_failed():
            return np.nanstd(self[name], axis=0, ddof=1)

    def quantiles(self, levels: Any, name: str = "norm") -> Array:
        """Quantiles over the toys, (..., B, G) for levels of the shape (...,)."""
        with _without_failed():
            return np.nanquantile(self[name], levels, axis=0)

    def coverage(self) -> dict[str, Array]:
        """Part of the toys whose intervals hold the truth, (B, G).

        Returns
        -------
        dict of ndarray
            ``"norm_err"``, and ``"errn-errp"`` and ``"ul"`` where these were asked for. Errors that
            do not exist (NaN) hold everything on their side.
        """
        return _parts(_inside(self.values, self.truth, self.n_sigma))

    def p_values(self, *, look_elsewhere: bool = False) -> Array:
        """Part of the toys with a signed root of ts as large as that of the data, (B, G).

        Parameters
        ----------
        look_elsewhere : bool
            Whether to compare with the largest of all bins and energy groups of each toy: the
            probability that any of them would be as significant.

        Returns
        -------
        ndarray, shape (B, G)
            Of toys without a signal it is the significance. At least ``1 / (T + 1)``, as the data
            count as one of the toys (Davison & Hinkley 1997, Bootstrap Methods, 4.2).
        """
        name = "any ts" if look_elsewhere else "ts"
        own = {each: self[each] for each in ("norm", "ts")}
        return _tail(_above(own, self.observed)[name], self.observed["ts"])

    def goodness(self) -> Array:
        """Part of the toys that fit as badly as the data, (G,): a p-value at any counts.

        Of the deviance, the statistic above that of a perfect prediction. Toys must be those of the
        fit (``truth="fit"``); On-Off data have one too.
        """
        own = _numbers_above(self["deviance"], self.observed["deviance"])
        return _tail(own, self.observed["deviance"])


@dataclass(frozen=True, kw_only=True)
class ToySummary:
    """What toys come to, without the toys: memory does not grow with their number.

    The methods are those of `Toys`, but for quantiles and single values, which need all toys.

    Attributes
    ----------
    truth, observed, n_sigma, cl, interval
        As of `Toys`.
    sums : dict of array
        What has been added up, by names of what it is for.
    """

    truth: Array
    observed: dict[str, Array]
    n_sigma: float
    cl: float
    interval: str = "profile"
    sums: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        return _in_words(self, self.sums.get("known", {}))

    def __len__(self) -> int:
        return int(self.sums["number"]["toys"]) if self.sums else 0

    def add(self, values: Mapping[str, Array]) -> None:
        """Add toys: all quantities of some of them."""
        self._add("number", {"toys": len(values["norm"])})
        self._add("inside", _inside(values, self.truth, self.n_sigma))
        self._add("above", _above(values, self.observed))
        for name, value in values.items():
            # From the observed value: sums of large numbers would lose the scatter.
            shift = np.nan_to_num(self.observed[name])
            known = np.isfinite(value)
            off = np.where(known, value - shift, 0.0)
            self._add("known", {name: known.sum(axis=0)})
            self._add("first", {name: off.sum(axis=0)})
            self._add("second", {name: np.sum(off**2, axis=0)})

    def join(self, *others: ToySummary) -> ToySummary:
        """The summary of these toys and those of others, from other processes for instance.

        Raises
        ------
        ValueError
            For toys of another truth or other data.
        """
        found = replace(self, sums={kind: dict(sums) for kind, sums in self.sums.items()})
        for other in others:
            same = other.observed.keys() == self.observed.keys() and all(
                np.array_equal(a, b, equal_nan=True)
                for a, b in [
                    (other.truth, self.truth),
                    *((other.observed[name], self.observed[name]) for name in self.observed),
                ]
            )
            levels = [(each.n_sigma, each.cl, each.interval) for each in (self, other)]
            if not same or levels[0] != levels[1]:
                raise ValueError("others: toys of other data, truths, quantities or levels")
            for kind, sums in other.sums.items():
                found._add(kind, sums)
        return found

    def _add(self, kind: str, found: Mapping[str, Any]) -> None:
        old = self.sums.setdefault(kind, {})
        for name, value in found.items():
            old[name] = old[name] + value if name in old else value

    def _of(self, kind: str, name: str) -> Array:
        if name not in self.sums[kind]:
            raise ValueError(f"toys have no {name!r}; they have {', '.join(self.sums['known'])}")
        return np.asarray(self.sums[kind][name])

    def mean(self, name: str = "norm") -> Array:
        """Mean over the toys, (B, G), of the fits that did not fail."""
        number = np.where(self._of("known", name) > 0, self._of("known", name), np.nan)
        return np.nan_to_num(self.observed[name]) + self._of("first", name) / number

    def std(self, name: str = "norm") -> Array:
        """Standard deviation over the toys, (B, G)."""
        number = np.where(self._of("known", name) > 1, self._of("known", name), np.nan)
        first, second = self._of("first", name), self._of("second", name)
        return np.sqrt(np.maximum(second - first**2 / number, 0.0) / (number - 1))

    def quantiles(self, levels: Any, name: str = "norm") -> Array:
        """A ValueError: quantiles need all toys."""
        raise ValueError("quantiles need all toys: make them with keep=True, or with a store")

    def coverage(self) -> dict[str, Array]:
        """Part of the toys whose intervals hold the truth, (B, G): see `Toys.coverage`."""
        return _parts(self.sums["inside"])

    def p_values(self, *, look_elsewhere: bool = False) -> Array:
        """Part of the toys as significant as the data, (B, G): see `Toys.p_values`."""
        above = self._of("above", "any ts" if look_elsewhere else "ts")
        return _tail(above, self.observed["ts"])

    def goodness(self) -> Array:
        """Part of the toys that fit as badly as the data, (G,): see `Toys.goodness`."""
        return _tail(self._of("above", "deviance"), self.observed["deviance"])


def _in_words(toys: Toys | ToySummary, names: Iterable[str]) -> str:
    """What toys are, without their numbers."""
    n_bins, n_groups = toys.truth.shape
    kind = "" if toys.interval == "profile" else f", interval={toys.interval!r}"
    return (
        f"{type(toys).__name__}({len(toys)} toys of {n_bins} bins x {n_groups} energy groups: "
        f"{', '.join(names)}; n_sigma={toys.n_sigma:g}, cl={toys.cl:.4g}{kind})"
    )


def _inside(values: Mapping[str, Any], truth: Array, n_sigma: float) -> dict[str, Array]:
    """Numbers of intervals that hold the truth, and of those that exist, (2, B, G)."""
    norm = np.asarray(values["norm"][:])
    known = np.isfinite(norm)

    def numbers(inside: Array) -> Array:
        return np.stack([np.sum(inside & known, axis=0), known.sum(axis=0)])

    err = n_sigma * np.asarray(values["norm_err"][:])
    found = {"norm_err": numbers(np.abs(norm - truth) <= err)}
    if "norm_errn" in values:
        down, up = (np.asarray(values[name][:]) for name in ("norm_errn", "norm_errp"))
        below = np.isnan(down) | (truth >= norm - down)
        found["errn-errp"] = numbers(below & (np.isnan(up) | (truth <= norm + up)))
    if "norm_ul" in values:
        found["ul"] = numbers(truth <= np.asarray(values["norm_ul"][:]))
    return found


def _parts(inside: Mapping[str, Array]) -> dict[str, Array]:
    return {
        name: held / np.where(known > 0, known, np.nan) for name, (held, known) in inside.items()
    }


def _above(values: Mapping[str, Any], observed: Mapping[str, Array]) -> dict[str, Array]:
    """Numbers of toys at least as far out as the data, and of those that are known, (2, ...)."""
    found = {}
    if "ts" in values:
        root, own = (
            np.sign(v["norm"][:]) * np.sqrt(np.maximum(v["ts"][:], 0.0)) for v in (values, observed)
        )
        # Where no fit of a toy is known there is no largest one.
        some = np.isfinite(root).any(axis=(1, 2), keepdims=True)
        largest = np.max(np.where(np.isfinite(root), root, -np.inf), axis=(1, 2), keepdims=True)
        found["ts"] = _numbers_above(root, own)
        found["any ts"] = _numbers_above(np.where(some, largest, np.nan), own)
    if "deviance" in values:
        found["deviance"] = _numbers_above(values["deviance"][:], observed["deviance"])
    return found


def _numbers_above(values: Array, observed: Array) -> Array:
    same = 1e-9 * (1.0 + np.abs(observed))
    known = np.broadcast_to(np.isfinite(values), (len(values), *observed.shape))
    return np.stack([np.sum(known & (values >= observed - same), axis=0), known.sum(axis=0)])


def _tail(above: Array, observed: Array) -> Array:
    known = np.isfinite(observed) & (above[1] > 0)
    return np.where(known, (above[0] + 1.0) / (above[1] + 1.0), np.nan)
