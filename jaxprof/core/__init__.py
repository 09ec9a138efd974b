"""The pure JAX core: arrays in, arrays out; no units, files or plots."""

from .data import NormFit as NormFit
from .data import OnOffData as OnOffData
from .data import ProfileData as ProfileData
from .data import Status as Status
from .fit import fit_norms as fit_norms
from .intervals import Limits as Limits
from .intervals import limits as limits
from .intervals import sensitivity as sensitivity
from .scan import scan as scan
from .statistics import cash as cash
from .statistics import wstat as wstat
