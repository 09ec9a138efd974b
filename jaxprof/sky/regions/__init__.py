"""Sky regions: makers, the profile's axis, and the pixels that belong to a region."""

from jaxprof.sky.regions.axis import AXES as AXES
from jaxprof.sky.regions.axis import ProfileAxis as ProfileAxis
from jaxprof.sky.regions.axis import axis_of_regions as axis_of_regions
from jaxprof.sky.regions.axis import profile_axis as profile_axis
from jaxprof.sky.regions.centers import region_centers as region_centers
from jaxprof.sky.regions.centers import region_name as region_name
from jaxprof.sky.regions.conversion import region_list as region_list
from jaxprof.sky.regions.conversion import regions_to_frame as regions_to_frame
from jaxprof.sky.regions.geom import RegionGeom as RegionGeom
from jaxprof.sky.regions.makers import (
    make_concentric_annulus_sky_regions as make_concentric_annulus_sky_regions,
)
from jaxprof.sky.regions.makers import (
    make_grid_rectangle_sky_regions as make_grid_rectangle_sky_regions,
)
from jaxprof.sky.regions.makers import (
    make_orthogonal_rectangle_sky_regions as make_orthogonal_rectangle_sky_regions,
)
from jaxprof.sky.regions.makers import make_sector_sky_regions as make_sector_sky_regions
from jaxprof.sky.regions.pixels import RegionPixels as RegionPixels
from jaxprof.sky.regions.pixels import region_pixels as region_pixels
from jaxprof.sky.regions.solid_angles import region_solid_angles as region_solid_angles
