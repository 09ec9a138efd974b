"""The pure JAX core: arrays in, arrays out; no units, files or plots."""

from .data import NormFit as NormFit
from .data import OnOffData as OnOffData
from .data import ProfileData as ProfileData
from .data import Status as Status
from .fit import fit_norms as fit_norms
from .goodness import cash_expectation as cash_expectation
from .intervals import Limits as Limits
from .intervals import limits as limits
from .intervals import sensitivity as sensitivity
from .joint_data import JointBlock as JointBlock
from .joint_data import JointData as JointData
from .joint_data import JointFit as JointFit
from .joint_data import JointOnOffBlock as JointOnOffBlock
from .joint_fit import fit_joint as fit_joint
from .joint_intervals import joint_limits as joint_limits
from .joint_intervals import joint_scan as joint_scan
from .joint_intervals import joint_ts as joint_ts
from .scan import scan as scan
from .statistics import cash as cash
from .statistics import wstat as wstat
