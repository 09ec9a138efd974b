"""Every figure; each function takes ``ax=None`` and returns the axes."""

from jaxprof.plotting.forward import plot_comparison as plot_comparison
from jaxprof.plotting.laws import plot_law as plot_law
from jaxprof.plotting.likelihood import plot_ts_profiles as plot_ts_profiles
from jaxprof.plotting.maps import plot_map as plot_map
from jaxprof.plotting.maps import plot_regions as plot_regions
from jaxprof.plotting.matrices import plot_correlation as plot_correlation
from jaxprof.plotting.matrices import plot_leakage as plot_leakage
from jaxprof.plotting.parameters import plot_parameter as plot_parameter
from jaxprof.plotting.profiles import plot_profile as plot_profile
from jaxprof.plotting.quantity import plot_quantity as plot_quantity
from jaxprof.plotting.spectra import plot_spectral_model as plot_spectral_model
from jaxprof.plotting.stacks import plot_light_curve as plot_light_curve
from jaxprof.plotting.stacks import plot_stack_map as plot_stack_map
