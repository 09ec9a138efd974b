"""Sky regions of profiles: makers, geometry, the profile's axis.

The names that users need; the room itself is `jaxprof.sky.regions`.
"""

from jaxprof.sky.regions import ProfileAxis as ProfileAxis
from jaxprof.sky.regions import RegionGeom as RegionGeom
from jaxprof.sky.regions import axis_of_regions as axis_of_regions
from jaxprof.sky.regions import (
    make_concentric_annulus_sky_regions as make_concentric_annulus_sky_regions,
)
from jaxprof.sky.regions import make_grid_rectangle_sky_regions as make_grid_rectangle_sky_regions
from jaxprof.sky.regions import (
    make_orthogonal_rectangle_sky_regions as make_orthogonal_rectangle_sky_regions,
)
from jaxprof.sky.regions import make_sector_sky_regions as make_sector_sky_regions
from jaxprof.sky.regions import profile_axis as profile_axis
from jaxprof.sky.regions import region_centers as region_centers
from jaxprof.sky.regions import region_solid_angles as region_solid_angles
