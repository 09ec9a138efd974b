"""Sky regions of a profile as one object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from regions import SkyRegion

from jaxprof.sky.regions.axis import profile_axis
from jaxprof.sky.regions.centers import region_centers
from jaxprof.sky.regions.conversion import region_list


class RegionGeom:
    """Regions of a profile as one object that can be listed and drawn.

    Parameters
    ----------
    regions : SkyRegion, Regions or iterable of SkyRegion
        Sky regions.
    """

    def __init__(self, regions: Any) -> None:
        self.regions: list[SkyRegion] = region_list(regions)

    @classmethod
    def create(cls, region: Any) -> RegionGeom:
        """Make a RegionGeom from one region, a list, or `regions.Regions`.

        Parameters
        ----------
        region : SkyRegion, Regions or iterable of SkyRegion
            Sky regions.

        Returns
        -------
        RegionGeom
        """
        return cls(region)

    def plot_region(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the outlines of the regions.

        Parameters
        ----------
        ax : WCSAxes, optional
            Where to draw; a new map around the regions by default.
        **kwargs
            Passed to `jaxprof.plotting.plot_regions`.

        Returns
        -------
        WCSAxes
        """
        from jaxprof.plotting import plot_regions

        return plot_regions(self.regions, ax=ax, **kwargs)

    def __len__(self) -> int:
        return len(self.regions)

    def __iter__(self) -> Iterator[SkyRegion]:
        return iter(self.regions)

    def __eq__(self, other: object) -> bool:
        """Whether another one has equal regions, in the same order."""
        return self.regions == other.regions if isinstance(other, RegionGeom) else NotImplemented

    def __hash__(self) -> int:
        return hash((RegionGeom, len(self.regions)))

    def __str__(self) -> str:
        names = [type(region).__name__ for region in self.regions]
        kinds = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
        centers = region_centers(self.regions)
        lon, lat = centers.spherical.lon.deg, centers.spherical.lat.deg
        first, last = (f"{lon[k]:.3f}, {lat[k]:.3f}" for k in (0, -1))
        axis = profile_axis(self.regions)
        unit = f" {axis.unit}" if axis.unit else ""
        return (
            "RegionGeom\n\n"
            f"  regions : {kinds}\n"
            f"  frame   : {centers.frame.name}\n"
            f"  first   : {first} deg\n"
            f"  last    : {last} deg\n"
            f"  axis    : {axis.name}, {axis.min[0]:.4g} to {axis.max[-1]:.4g}{unit}"
        )

    def __repr__(self) -> str:
        return f"<RegionGeom: {len(self)} region{'s' if len(self) != 1 else ''}>"
