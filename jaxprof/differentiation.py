"""What cannot be differentiated says so: a silent zero would look like a derivative."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def refuse_derivatives(values: Any, why: str) -> Any:
    """The values as they are, which no derivative passes.

    Parameters
    ----------
    values : pytree of array
        What a function without derivatives is computed from.
    why : str
        What is not differentiable, and what to do.

    Raises
    ------
    TypeError
        If a derivative with respect to the values is asked for.
    """
    return values


@refuse_derivatives.defjvp
def _(why: str, primals: tuple[Any], tangents: tuple[Any]) -> Any:
    raise TypeError(why)
