import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from jaxprof.solvers.many_roots import finish_apart


@pytest.mark.parametrize("n, share", [(1, 1.0), (50, 0.0), (50, 0.3), (300, 1.0), (5000, 0.3)])
def test_hard_problems_are_solved_and_others_left(n, share):
    """Some at a time: all of few, a fraction of many."""
    rng = np.random.default_rng(n)
    hard = rng.uniform(size=n) < share
    numbers, results = rng.uniform(size=(3, n)), np.full(n, -1.0)
    together = []

    def solve(numbers):
        together.append(numbers.shape[-1])
        return numbers[0] + numbers[2]

    found = finish_apart(
        jnp.asarray(hard), solve, jnp.asarray(numbers), jnp.asarray(results), size=32
    )
    assert_array_equal(found, np.where(hard, numbers[0] + numbers[2], -1.0))
    assert set(together) == {min(n, max(32, n // 16))}
