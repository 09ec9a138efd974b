"""Forward-folded profiles: all bins of a profile in one fit, with the point-spread function."""

from jaxprof.forward.estimator import (
    ForwardFoldingProfileEstimator as ForwardFoldingProfileEstimator,
)
from jaxprof.forward.expectation import expected_dataset as expected_dataset
from jaxprof.forward.expectation import predicted_counts as predicted_counts
from jaxprof.forward.response import ForwardResponse as ForwardResponse
