"""Maximum-likelihood fits of any parameters of any function of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import forget, is_traced, jit_by_size
from jaxprof.inference.double_precision import in_double_precision, is_followed
from jaxprof.inference.fit_result import Fit
from jaxprof.inference.parameters import (
    Layout,
    bound_vectors,
    fixed_names,
    layout_of,
    names_given,
    numpy_of,
)
from jaxprof.inference.profile_fit import Structure, fit_profile, structure_of
from jaxprof.likelihood import Likelihood
from jaxprof.likelihood.data import Status, float_dtype
from jaxprof.likelihood.named import complete
from jaxprof.solvers.minimise import minimise
from jaxprof.user_warning import warn_user


def negative_log_prob(
    log_prob: Callable, layout: Layout, args: tuple[Any, ...]
) -> Callable[[jax.Array], jax.Array]:
    """Minus a log probability, as a function of the flat vector of its parameters (N,)."""

    def negative(x: jax.Array) -> jax.Array:
        value = jnp.asarray(log_prob(layout.unflatten(x), *args))
        if value.shape or not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(
                "log_prob must return one real number, "
                f"not an array of shape {value.shape} and dtype {value.dtype}"
            )
        return -value.astype(x.dtype)

    return negative


@dataclass(frozen=True)
class _Problem:
    """What a fit is compiled for, besides the shapes of its arrays."""

    log_prob: Callable
    layout: Layout
    fixed: tuple[bool, ...]

    def __call__(
        self, starts: jax.Array, lower: jax.Array, upper: jax.Array, args: tuple[Any, ...]
    ) -> Fit:
        """Fit from several starts, shape (S, N), within bounds, shape (N,)."""
        free = np.flatnonzero(~np.array(self.fixed))
        whole = starts[0]

        negative = negative_log_prob(self.log_prob, self.layout, args)

        def of_free(x: jax.Array) -> jax.Array:
            return negative(whole.at[free].set(x))

        found = minimise(of_free, starts[:, free], lower[free], upper[free])
        known = found.converged & jnp.all(jnp.isfinite(found.x)) & jnp.isfinite(found.value)

        def where_known(value: jax.Array) -> jax.Array:
            return jnp.where(known, value, jnp.nan)

        def filled(values: jax.Array, filler: Any) -> Any:
            vector = jnp.broadcast_to(filler, whole.shape).astype(whole.dtype)
            return self.layout.unflatten(vector.at[free].set(values))

        degenerate = jnp.any(jnp.isnan(found.errors) & ~found.active)
        status = jnp.where(jnp.any(found.active), Status.BOUNDARY, Status.OK)
        status = jnp.where(degenerate, Status.DEGENERATE, status)
        status = jnp.where(known, status, Status.NOT_CONVERGED)
        covariance = jnp.zeros((whole.size, whole.size), whole.dtype)
        other = found.other
        return Fit(
            params=filled(where_known(found.x), whole),
            covariance=covariance.at[np.ix_(free, free)].set(where_known(found.covariance)),
            errors=filled(where_known(found.errors), 0.0),
            stat=2.0 * where_known(found.value),
            status=status.astype(jnp.int32),
            other_minimum=filled(other, jnp.where(jnp.isnan(other[0]), jnp.nan, whole)),
            lower=lower,
            upper=upper,
            last=whole.at[free].set(jax.lax.stop_gradient(found.x)),
            names=self.layout.names,
            fixed=self.fixed,
        )


def _call(params: Any, function: Callable, *args: Any) -> Any:
    return function(params, *args)


def _log_prob_of(params: Any, likelihood: Any, *args: Any) -> Any:
    return likelihood.log_prob(params, *args)


def split_function(log_prob: Any, args: tuple[Any, ...]) -> tuple[Callable, tuple[Any, ...]]:
    """A function and its arguments, among these what ``log_prob`` holds itself if it is a pytree.

    So it is compiled once for all likelihoods of the same shapes, and can be mapped over and
    differentiated.

    Raises
    ------
    TypeError
        For what is neither a function nor has a method ``log_prob``.
    """
    if not isinstance(args, tuple):
        raise TypeError(f"args must be a tuple, got {type(args).__name__}")
    is_pytree = not jax.tree_util.all_leaves([log_prob])
    if hasattr(log_prob, "log_prob"):
        return (_log_prob_of, (log_prob, *args)) if is_pytree else (log_prob.log_prob, args)
    if not callable(log_prob):
        raise TypeError(
            "log_prob must be a function of the parameters or have a method log_prob, "
            f"got {type(log_prob).__name__}"
        )
    return (_call, (log_prob, *args)) if is_pytree else (log_prob, args)


def random_starts(key: jax.Array, start: Any, scale: Any, number: int) -> Any:
    """Draw more starts of a fit around the first.

    Parameters
    ----------
    key : array
        Random key, ``jax.random.key(seed)``.
    start : pytree
        The first start.
    scale : pytree
        Standard deviations of the normal distribution of each parameter, in its structure.
    number : int
        How many to draw.

    Returns
    -------
    starts : pytree
        As `start`, with an axis of this length in front of each parameter.

    Raises
    ------
    ValueError
        If the two structures differ.
    """
    leaves, structure = jax.tree.flatten(start)
    keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))

    def drawn(value: Any, width: Any, own_key: jax.Array) -> jax.Array:
        return value + width * jax.random.normal(own_key, (number, *np.shape(value)))

    return jax.tree.map(drawn, start, scale, keys)


def fit(
    log_prob: Any,
    start: Any = None,
    *,
    args: tuple[Any, ...] = (),
    bounds: Mapping[str, Any] | None = None,
    fixed: str | Iterable[str] = (),
    starts: Any = None,
) -> Fit:
    """Find the parameters of the highest probability.

    Parameters
    ----------
    log_prob : callable or object
        ``log_prob(params, *args)`` is the logarithm of the likelihood, or of its product with
        priors: a scalar, written in JAX, twice differentiable inside of its domain and -inf (or
        NaN) outside. An object with a method ``log_prob`` will do as well.
    start : pytree
        The parameters from which to start: a number, an array, a spectral or spatial model, dicts,
        tuples or lists of these. By default, those of a `Likelihood`, ``likelihood.params()``: some
        of these will do, in their shapes, and the others keep their nominal values.
    args : tuple of pytree
        Further arguments of `log_prob`. Data given here, rather than closed over, do not make the
        fit compile again.
    bounds : dict, optional
        ``(min, max)`` by the name of a parameter, either of them None where there is none; nested
        as the parameters or with names joined by dots (``"spectrum.index"``). A bound of an array
        is for all of its elements or an array itself. A start beyond a bound is moved there. A
        `Likelihood` has bounds of its own, which are kept as well.
    fixed : str or list of str
        Names of parameters that keep their values. Models have some that no data determine, such
        as the ``reference`` energy of a power law. Also of elements, as ``"background[0, 1]"``;
        those that a `Likelihood` has among its parameters but holds fixed are.
    starts : pytree, optional
        More starts: as `start`, with an axis for these in front of each parameter. See
        `random_starts`. The lowest minimum is taken.

    Returns
    -------
    Fit
        Parameters, covariance, errors, stat and status. The first four have derivatives in
        forward and reverse mode and of any order, by all arrays in `args`, by what the function
        closes over, by fixed parameters, and by bounds that hold a parameter.

    Raises
    ------
    TypeError
        For a `log_prob` that is no function, or `args` that are no tuple.
    ValueError
        Without a `start` that is needed; for parameters that are not finite real numbers, names
        that are not among them, bounds that do not increase, or a `log_prob` that does not return
        one real number.

    Warns
    -----
    UserWarning
        If another minimum is almost as low, unless this is inside of jit, grad or vmap; if the
        fit is in float32 although nothing asks for it.

    Notes
    -----
    Newton steps with the exact second derivatives, in a trust region and in scaled parameters, go
    on until the gradient vanishes to rounding. The log probability's changes of order one must
    matter, as they do for the logarithm of a likelihood. A minimum where the domain ends is not
    found without a bound there.

    A `Likelihood` by itself, with all of its own parameters and no further bounds, is fitted as
    `run` of its estimator does, which also finds minima where predicted counts vanish; the start
    is not used then.

    The computation is in float64 whatever the global setting of JAX, unless a parameter of
    `start` is in float32 or something is traced by jit, vmap or a derivative, which are followed.
    Where float64 is disabled, a function that closes over numpy arrays is compiled again for each
    fit, because JAX could not use these arrays elsewhere otherwise: give data in `args`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from jaxprof import fit
    >>> def log_prob(params, counts):
    ...     npred = params["norm"] * jnp.array([1.0, 2.0])
    ...     return jnp.sum(counts * jnp.log(npred) - npred)
    >>> result = fit(log_prob, {"norm": 1.0}, args=(jnp.array([3.0, 9.0]),))
    >>> print(f"{result.params['norm']:.6f} +- {result.errors['norm']:.6f}")
    4.000000 +- 1.154701
    """
    own = log_prob if isinstance(log_prob, Likelihood) else None
    if own is not None and start is not None:
        _check_start(own, start)
    if start is None:
        if own is None:
            split_function(log_prob, args)  # what is no function at all is told first
            raise ValueError("start is needed: only a Likelihood has parameters of its own")
        start = own.params()
    structure, held = Structure.GENERAL, names_given("fixed", fixed)
    if own is not None and bounds is None and starts is None and not args and not held:
        structure = structure_of(own, start)
    function, args = split_function(log_prob, args)
    options = (bounds, fixed, starts, own)
    if own is not None and structure is not Structure.GENERAL:
        result = fit_profile(own, structure)
    elif is_followed(start, (args, bounds, starts)):
        result = _fit(function, start, args, options)
    else:
        result = in_double_precision(
            lambda lasting: _fit(function, start, args, options, lasting=lasting),
            function,
            (start, *args),
        )
    leaf = jax.tree.leaves(result.other_minimum)[0]
    if not is_traced(result) and np.ndim(result.stat) == 0 and np.all(np.isfinite(leaf)):
        warn_user(
            "fit: another minimum is almost as low, less than 1 higher in stat; its parameters are "
            "the result's other_minimum"
        )
    return result


def _check_start(likelihood: Likelihood, start: Any) -> None:
    """Raise for a start that is none of a likelihood, also where it is not used."""
    if isinstance(start, Mapping):
        layout_of(start, finite=False)
    complete(likelihood.nominal, start, "start")


def _check_not_shared(likelihood: Likelihood, layout: Layout) -> None:
    """Raise for one number in the place of several, which would be one parameter for all."""
    nominal = layout_of(likelihood.nominal, finite=False)
    shapes = dict(zip(nominal.leaves, nominal.shapes, strict=True))
    for name, own in zip(layout.leaves, layout.shapes, strict=True):
        whole = shapes.get(name, ())
        if own == () and np.prod(whole) > 1 and not name.startswith("spectrum."):
            raise ValueError(
                f"start: {name!r} is one number for {np.prod(whole)} of this likelihood; give an "
                f"array of shape {whole}, or fit a function in which all share it"
            )


def _fit(
    function: Callable,
    start: Any,
    args: tuple[Any, ...],
    options: tuple,
    *,
    lasting: bool = True,
) -> Fit:
    bounds, fixed, starts, own = options
    layout = layout_of(start)
    if own is not None:
        _check_not_shared(own, layout)
    dtype = float_dtype(start)
    vectors = layout.flatten(start, dtype)[None]
    if starts is not None:
        xp, more = numpy_of((start, starts)), layout.flatten(starts, dtype, "starts")
        vectors = xp.concatenate([vectors, xp.atleast_2d(more)])
    lower, upper = bound_vectors(layout, bounds, dtype)
    if own is not None:
        kept = (name for name in own.fixed() if name in layout.names)
        fixed = (*names_given("fixed", fixed), *kept)
        low, high = bound_vectors(layout, own.bounds(layout.leaves), dtype)
        xp = numpy_of((lower, upper, low, high))
        lower, upper = xp.maximum(lower, low), xp.minimum(upper, high)
    problem = _Problem(function, layout, fixed_names(layout, fixed))
    result = jit_by_size(problem)(vectors, lower, upper, args)
    if not lasting:
        forget(problem)
    return result
