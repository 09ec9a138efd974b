"""Where spectral models stood: `jaxprof.models.spectral`."""

from jaxprof.models.spectral import spectral_model_from_dict as spectral_model_from_dict
