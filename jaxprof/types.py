"""Types that annotations share."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
"""A numpy array."""
