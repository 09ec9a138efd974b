"""The precision in which users get arrays."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import numpy as np

from jaxprof.user_warning import warn_user

T = TypeVar("T")

PRECISIONS = ("float64", "float32")
"""What estimators may fit in."""


def in_precision(tree: T, precision: str) -> T:
    """A pytree with its floating-point arrays in a precision."""

    def cast(leaf: Any) -> Any:
        floating = np.issubdtype(np.result_type(leaf), np.floating)
        return leaf.astype(precision) if floating and hasattr(leaf, "astype") else leaf

    return tree if precision == "float64" else jax.tree.map(cast, tree)


def in_default_precision(tree: T) -> T:
    """A pytree in JAX's default precision; one warning if that cuts float64 to float32."""
    enabled = jax.config.read("jax_enable_x64")
    leaves = [leaf for leaf in jax.tree.leaves(tree) if not isinstance(leaf, jax.core.Tracer)]
    if not enabled and any(np.result_type(leaf) == np.float64 for leaf in leaves):
        warn_user(
            "the likelihood is cut to float32, which keeps seven digits: "
            'jax.config.update("jax_enable_x64", True) at the start of a program enables float64'
        )
    return jax.tree.map(_put, tree)


def _put(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.core.Tracer) else jax.device_put(np.asarray(leaf))
