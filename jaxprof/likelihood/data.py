"""What a fit takes and what it gives: pytrees of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.html import facts, table, titled


class Status(IntEnum):
    """Outcome of the fit of one bin and group; the first three are successes."""

    OK = 0
    """A regular minimum."""
    ZERO_COUNTS = 1
    """No counts: the statistic is flat to the left, the norm is its largest minimiser."""
    BOUNDARY = 2
    """The minimum is at a kink (an empty counts bin reaches zero) or at a bound of the norm."""
    FULLY_MASKED = 3
    """No counts bin is left by the mask: nothing to fit."""
    NO_EXPOSURE = 4
    """No predicted signal: the norm cannot be constrained."""
    NOT_CONVERGED = 5
    """The solver stopped before its tolerance was met, or data that are traced are invalid."""
    DEGENERATE = 6
    """Not identifiable: other norms of the same joint fit can make up for this one."""

    @property
    def label(self) -> str:
        """The status in words, as tables show it."""
        return self.name.lower().replace("_", " ")

    @property
    def success(self) -> bool:
        """Whether the norm is an estimate."""
        return self <= Status.BOUNDARY


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class ProfileData:
    """Counts with a predicted background, for the cash statistic.

    Shapes are ``(B, G, E)``: bins of the profile, energy groups, and counts bins of a group (its
    reconstructed energies; with ``likelihood="pixel"`` each pixel of each energy). Several data
    sets that share the norm stand one behind the other on the last axis. Counts bins that pad the
    last axis are masked; what they hold never changes a result.

    Parameters
    ----------
    counts : array, shape (B, G, E)
        Observed counts.
    background : array, shape (B, G, E)
        Predicted background counts, not negative.
    npred_ref : array, shape (B, G, E)
        Predicted signal counts at norm one, not negative.
    mask : array of bool, shape (B, G, E)
        True for the counts bins to use. By default all.
    """

    counts: Any
    background: Any
    npred_ref: Any
    mask: Any = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class OnOffData:
    """Counts with a background measured in OFF regions, for the wstat statistic.

    Parameters
    ----------
    n_on, n_off : array, shape (B, G, E)
        Counts in the ON and the OFF region; axes as in `ProfileData`.
    alpha : array, shape (B, G, E)
        Acceptance ON over acceptance OFF, positive.
    npred_ref : array, shape (B, G, E)
        Predicted signal counts in the ON region at norm one, not negative.
    mask : array of bool, shape (B, G, E)
        True for the counts bins to use. By default all.
    """

    n_on: Any
    n_off: Any
    alpha: Any
    npred_ref: Any
    mask: Any = None


Block = ProfileData | OnOffData
Data = Block | tuple[Block, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class NormFit:
    """Fitted norms; every array has shape ``(B, G)``.

    Attributes
    ----------
    norm : array
        The norm that minimises the statistic; NaN where there is none (see ``status``).
    norm_err : array
        One standard deviation from the curvature of the statistic at the minimum; NaN where it has
        none (zero counts, a kink, a bound).
    stat, stat_null : array
        The fit statistic at the minimum and at norm zero.
    ts : array
        ``stat_null - stat``, summed without cancellation.
    status : array of int
        `Status` of each fit.
    """

    norm: Any
    norm_err: Any
    stat: Any
    stat_null: Any
    ts: Any
    status: Any

    def _repr_html_(self) -> str:
        norms = [getattr(self, name) for name in ("norm", "norm_err", "ts")]
        rows = []
        if not isinstance(self.status, jax.core.Tracer) and np.ndim(self.status) == 2:
            for at in np.ndindex(np.shape(self.status)):
                values = (f"{float(array[at]):.4g}" for array in norms)
                rows.append([*at, *values, Status(int(self.status[at])).label])
        heads = ("bin", "group", "norm", "norm_err", "ts", "status")
        shown = table(heads, rows, max_rows=20) if rows else ""
        return titled(type(self).__name__, facts(status_facts(self.status)), shown)


def status_facts(status: Any) -> dict[str, Any]:
    """How many fits there are, and how they ended, for HTML."""
    if isinstance(status, jax.core.Tracer):
        return {"shape": np.shape(status), "status": "traced"}
    codes, counts = np.unique(np.asarray(status), return_counts=True)
    found = (f"{n} {Status(int(c)).label}" for c, n in zip(codes, counts, strict=True))
    return {"shape": np.shape(status), "status": ", ".join(found)}


def blocks(data: Data) -> tuple[Block, ...]:
    """The data sets of one statistic each that are fitted jointly."""
    return data if isinstance(data, tuple) else (data,)


def _names(block: Block) -> tuple[str, ...]:
    if isinstance(block, OnOffData):
        return ("n_on", "n_off", "alpha", "npred_ref")
    return ("counts", "background", "npred_ref")


@jax.jit
def _extremes_on_device(values: Any, mask: Any) -> tuple[Any, Any]:
    used = jnp.where(mask, values, 1)
    return jnp.min(used), jnp.max(used)


def check_values(name: str, values: Any, mask: Any) -> None:
    """Raise for values that no fit can use.

    Only arrays that are known here can be looked at; those on other devices are where they are.
    """
    arrays = [a for a in (values, mask) if isinstance(a, jax.Array)]
    if any(isinstance(a, jax.core.Tracer) or not a.is_fully_addressable for a in arrays):
        return
    if values.size == 0:
        return
    if all(_is_on_host(a) for a in arrays):
        values, mask = np.asarray(values), np.asarray(mask, bool)
        used = values if mask.all() else np.where(mask, values, 1)
        lowest, highest = used.min(), used.max()
    else:
        # They may be constants of somebody's jit.
        with jax.ensure_compile_time_eval():
            lowest, highest = (np.asarray(a) for a in _extremes_on_device(values, mask))
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ValueError(
            f"{name} has NaN or infinite values in unmasked counts bins; mask them out"
        )
    if name == "alpha" and lowest <= 0:
        raise ValueError("alpha must be positive in every unmasked counts bin")
    if lowest < 0:
        negative = int(((values < 0) & mask).sum())
        raise ValueError(
            f"{name} has {negative} negative values in unmasked counts bins "
            f"(the lowest is {lowest:g}); counts and predictions are never negative"
        )


def _is_on_host(array: jax.Array) -> bool:
    """Whether numpy can read an array where it is."""
    devices: list[Any] = list(array.sharding.device_set)
    return len(devices) == 1 and devices[0].platform == "cpu"


def prepare(data: Data) -> tuple[Block, ...]:
    """Check the data and complete them with a boolean mask; no arithmetic is done, see `neutral`.

    Raises
    ------
    TypeError
        For anything but ProfileData, OnOffData or a tuple of these, which are fitted jointly.
    ValueError
        For arrays that are not of one shape ``(B, G, E)`` or without counts bins, and for NaN or
        negative values in unmasked counts bins of arrays that are not traced.
    """
    prepared = []
    for block in blocks(data):
        if not isinstance(block, ProfileData | OnOffData):
            raise TypeError(
                "data must be ProfileData, OnOffData or a tuple of these, "
                f"not {type(block).__name__}"
            )
        arrays = {name: _as_array(getattr(block, name)) for name in _names(block)}
        shape = arrays["npred_ref"].shape
        if shape and shape[-1] == 0:
            raise ValueError(f"data have no counts bins: arrays of the shape {shape}")
        mask = _all_true(arrays["npred_ref"]) if block.mask is None else _as_array(block.mask)
        mask = mask if mask.dtype == bool else mask.astype(bool)
        for name, array in {**arrays, "mask": mask}.items():
            if array.ndim != 3 or array.shape != shape:
                raise ValueError(
                    f"{name} has shape {array.shape}; all arrays of the data must have one shape "
                    f"(bins, groups, counts bins), npred_ref has {shape}"
                )
        for name, array in arrays.items():
            check_values(name, array, mask)
        prepared.append(type(block)(**arrays, mask=mask))
    first = prepared[0].npred_ref.shape[:2]
    for block in prepared[1:]:
        if block.npred_ref.shape[:2] != first:
            raise ValueError(
                f"jointly fitted data have {block.npred_ref.shape[:2]} and {first} bins and groups"
            )
    return tuple(prepared)


def _all_true(like: Any) -> Any:
    """A mask that masks nothing, sharded as an array of many devices is."""
    if isinstance(like, jax.Array) and not isinstance(like, jax.core.Tracer):
        if not _is_on_host(like):
            return jnp.ones(like.shape, bool, device=like.sharding if like.committed else None)
    return np.ones(like.shape, bool)


def _as_array(values: Any) -> Any:
    """The values as they are if they are a JAX array, otherwise as a numpy array."""
    if isinstance(values, jax.Array):
        return values
    array = np.asarray(values)
    # Arrays from FITS files are big-endian, which JAX does not take.
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def float_dtype(tree: Any) -> np.dtype:
    """Floating dtype in which arrays are fitted: theirs, or the default one if none has any."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    floats = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    # Without x64 a float64 array is fitted in float32, as everywhere in JAX.
    return jax.dtypes.canonicalize_dtype(np.result_type(*floats) if floats else float)


def neutral(data: tuple[Block, ...]) -> tuple[Block, ...]:
    """Give prepared data one floating dtype, and masked counts bins values that change no result.

    Zeros everywhere but for ``alpha``: a counts bin without counts and without prediction adds
    nothing. What `prepare` refuses where it is not traced is NaN, and so is all that depends on it.
    """
    dtype = float_dtype(data)
    cleaned = []
    for block in data:
        mask = jnp.asarray(block.mask, bool)
        arrays = {}
        for name in _names(block):
            values = jnp.asarray(getattr(block, name), dtype)
            valid = (values > 0 if name == "alpha" else values >= 0) & (values < jnp.inf)
            arrays[name] = jnp.where(
                mask, jnp.where(valid, values, jnp.nan), float(name == "alpha")
            )
        cleaned.append(type(block)(**arrays, mask=mask))
    return tuple(cleaned)
