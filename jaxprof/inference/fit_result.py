"""What a fit of parameters gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxprof.html import facts, table, titled
from jaxprof.likelihood.data import Status

_MOST = 4
"""Parameters without an error that a title names."""


def _flat(tree: Any) -> Any:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Fit:
    """Fitted parameters; a pytree.

    Attributes
    ----------
    params : pytree
        The parameters of the highest probability, in the structure of the start; NaN where the fit
        did not converge.
    covariance : array, shape (N, N)
        Their covariance, the inverse of minus the second derivatives of the log probability. Its
        rows are ``names``. It is zero for fixed parameters and NaN for those that have none:
        at active bounds, where nothing tells parameters from each other, or where the log
        probability has no curvature.
    errors : pytree
        Standard deviations, in the structure of ``params``.
    stat : array, shape ()
        Minus twice the log probability.
    status : array of int, shape ()
        `Status`: ok; boundary, if a bound holds a parameter; degenerate, if a parameter is not
        determined; not converged, also where the log probability is NaN or where the start lies
        outside of its domain.
    other_minimum : pytree
        Parameters of the lowest other minimum that was found, if its stat is less than one higher;
        otherwise NaN. Of a `Likelihood`, norms whose spectra (or backgrounds whose tilts) are the
        same within their errors keep the values of ``params``.
    lower, upper : array, shape (N,)
        Bounds within which the fit was, infinite where there are none.
    norm_status : array of int, shape (B, G), or None
        `Status` of each norm, for a `Likelihood` that was fitted by itself.
    last : array, shape (N,), or None
        Where the search ended, converged or not; None for a `Likelihood` that was fitted by itself.
    names : tuple of str
        A name for each of the N parameters.
    fixed : tuple of bool
        Whether each of them kept its value.
    """

    params: Any
    covariance: Any
    errors: Any
    stat: Any
    status: Any
    other_minimum: Any
    lower: Any
    upper: Any
    norm_status: Any = None
    last: Any = None
    names: tuple[str, ...] = field(metadata={"static": True})
    fixed: tuple[bool, ...] = field(metadata={"static": True})

    @property
    def success(self) -> Any:
        """Whether the parameters are estimates: status ok or boundary."""
        return self.status <= Status.BOUNDARY

    def _rows(self) -> list[tuple[str, str, str]]:
        """Name, value and error of each parameter, in words."""
        values, errors = map(_flat, (self.params, self.errors))
        why_none = self._why_no_error(values, errors)
        rows = zip(self.names, values, errors, self.fixed, why_none, strict=True)
        return [
            (name, f"{value:.6g}", "fixed" if fixed else why or f"+- {error:.2g}")
            for name, value, error, fixed, why in rows
        ]

    def _why_no_error(self, values: Any, errors: Any) -> list[str]:
        """Why a parameter that varies has no error; "" for others."""
        found = []
        for value, error, fixed, low, high in zip(
            values, errors, self.fixed, np.ravel(self.lower), np.ravel(self.upper), strict=True
        ):
            if fixed or np.isfinite(error) or not np.isfinite(value):
                found.append("")
            elif np.isclose(value, [low, high], rtol=1e-9, atol=1e-12).any():
                found.append(f"at its {'lower' if value - low < high - value else 'upper'} bound")
            elif self.status == Status.BOUNDARY:
                found.append("at the end of the domain")
            else:
                found.append("not determined")
        return found

    def _title(self) -> str:
        status = Status(int(self.status)).label
        why = self._why_no_error(_flat(self.params), _flat(self.errors))
        lost = [f"{name} {words}" for name, words in zip(self.names, why, strict=True) if words]
        if len(lost) > _MOST:
            lost[_MOST:] = [f"{len(lost) - _MOST} more"]
        if not lost and self.status == Status.BOUNDARY:
            lost = ["a prediction is zero, the end of the domain"]
        named = f" ({', '.join(lost)})" if lost else ""
        return f"{type(self).__name__}: {status}{named}, stat {self.stat:.6g}"

    def __str__(self) -> str:
        if np.ndim(self.stat) or isinstance(self.stat, jax.core.Tracer):
            return repr(self)
        width = max(map(len, self.names))
        lines = [f"{name:{width}}  {value} {error}" for name, value, error in self._rows()]
        return "\n".join([self._title(), *lines])

    def _repr_html_(self) -> str:
        if np.ndim(self.stat) or isinstance(self.stat, jax.core.Tracer):
            return titled(type(self).__name__, facts({"fits": np.shape(self.stat)}))
        return titled(self._title(), table(("parameter", "value", "error"), self._rows()))
