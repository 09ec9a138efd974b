"""Forward-folded profiles: all bins of a profile in one fit, with the point-spread function."""

from jaxprof.forward.estimator import (
    ForwardFoldingProfileEstimator as ForwardFoldingProfileEstimator,
)
from jaxprof.forward.response import ForwardResponse as ForwardResponse
