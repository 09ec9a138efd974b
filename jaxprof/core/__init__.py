"""The functions on arrays, by the names that they have always had here; nothing but re-exports."""

from jaxprof.inference.fit import fit_norms as fit_norms
from jaxprof.inference.intervals import Limits as Limits
from jaxprof.inference.intervals import limits as limits
from jaxprof.inference.joint_fit import fit_joint as fit_joint
from jaxprof.inference.joint_intervals import joint_limits as joint_limits
from jaxprof.inference.joint_scan import joint_scan as joint_scan
from jaxprof.inference.joint_ts import joint_ts as joint_ts
from jaxprof.inference.scan import scan as scan
from jaxprof.inference.sensitivity import sensitivity as sensitivity
from jaxprof.likelihood.data import NormFit as NormFit
from jaxprof.likelihood.data import OnOffData as OnOffData
from jaxprof.likelihood.data import ProfileData as ProfileData
from jaxprof.likelihood.data import Status as Status
from jaxprof.likelihood.goodness import cash_expectation as cash_expectation
from jaxprof.likelihood.joint_data import JointBlock as JointBlock
from jaxprof.likelihood.joint_data import JointData as JointData
from jaxprof.likelihood.joint_data import JointFit as JointFit
from jaxprof.likelihood.joint_data import JointOnOffBlock as JointOnOffBlock
from jaxprof.likelihood.statistics import cash as cash
from jaxprof.likelihood.statistics import wstat as wstat
