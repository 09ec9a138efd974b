"""What is compared with the counts: terms, predicted counts, statistics without cancellation."""

from jaxprof.likelihood.bin_geometry import BinGeometry as BinGeometry
from jaxprof.likelihood.constraints import Constraints as Constraints
from jaxprof.likelihood.constraints import FreeParameters as FreeParameters
from jaxprof.likelihood.constraints import Gaussian as Gaussian
from jaxprof.likelihood.likelihood import Likelihood as Likelihood
from jaxprof.likelihood.spectra import Spectra as Spectra
from jaxprof.likelihood.terms import CountsBins as CountsBins
from jaxprof.likelihood.terms import OnOff as OnOff
from jaxprof.likelihood.terms import Poisson as Poisson
