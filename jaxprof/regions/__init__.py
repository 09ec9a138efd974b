"""Sky regions: makers, the profile's axis, and the pixels that belong to a region."""

from jaxprof.regions.conversion import region_list as region_list
from jaxprof.regions.conversion import regions_to_frame as regions_to_frame
from jaxprof.regions.geom import ProfileAxis as ProfileAxis
from jaxprof.regions.geom import RegionGeom as RegionGeom
from jaxprof.regions.geom import profile_axis as profile_axis
from jaxprof.regions.geom import region_centers as region_centers
from jaxprof.regions.makers import (
    make_concentric_annulus_sky_regions as make_concentric_annulus_sky_regions,
)
from jaxprof.regions.makers import (
    make_grid_rectangle_sky_regions as make_grid_rectangle_sky_regions,
)
from jaxprof.regions.makers import (
    make_orthogonal_rectangle_sky_regions as make_orthogonal_rectangle_sky_regions,
)
from jaxprof.regions.makers import make_sector_sky_regions as make_sector_sky_regions
from jaxprof.regions.pixels import RegionPixels as RegionPixels
from jaxprof.regions.pixels import region_pixels as region_pixels
from jaxprof.regions.solid_angles import region_solid_angles as region_solid_angles
