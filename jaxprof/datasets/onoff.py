"""Counts with a background that is measured in Off counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from jaxprof.datasets.mapdataset import MapDataset, map_of_part, models_or_none
from jaxprof.datasets.operations import poisson_map, random_generator
from jaxprof.irf import EDispKernelMap, EDispMap, PSFMap
from jaxprof.sky import WcsNDMap
from jaxprof.user_warning import warn_user

#: Part of a map's maximum below which values of Off maps are rounding: ring backgrounds come
#: from convolutions by FFT, which leave small values of either sign where there is nothing.
OFF_ROUNDING = 1e-5
MAPS_ON_OFF = ("counts", "counts_off", "acceptance", "acceptance_off")


def _refused(part: str, value: Any) -> Any:
    """Nothing, None or an empty list; raise for what On-Off data have no place for."""
    if value is not None and value != []:
        raise ValueError(
            f"{part} of an On-Off dataset: its background is measured in the Off counts, and "
            "nothing can join it; give other sources to ForwardFoldingProfileEstimator as sources="
        )
    return value


class MapDatasetOnOff(MapDataset):
    """Counts with a background measured in Off counts.

    Parameters
    ----------
    counts, exposure, edisp, psf, mask_safe, mask_fit, gti, meta_table, name
        As for `MapDataset`.
    counts_off : WcsNDMap, optional
        Off counts, as `counts`.
    acceptance, acceptance_off : WcsNDMap, optional
        Relative acceptance to background of the On and Off counts, as `counts`.

    Raises
    ------
    ValueError
        If pixels, axes or units of the parts do not fit together, or a part is not one. Also for
        ``background``, ``npred_sources`` and ``models`` that are set later: all of the background
        is what the Off counts tell.
    AttributeError
        Later, if an attribute is set that a dataset does not have.
    """

    counts_off: WcsNDMap | None
    acceptance: WcsNDMap | None
    acceptance_off: WcsNDMap | None
    _checks: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        **MapDataset._checks,
        **{part: partial(map_of_part, part) for part in MAPS_ON_OFF[1:]},
        "background": partial(_refused, "background"),
        "npred_sources": partial(_refused, "npred_sources"),
        "models": lambda models: _refused("models", models_or_none(models)),
    }
    stat_type = "wstat"
    _counts_like = (*MAPS_ON_OFF, "mask_safe", "mask_fit")

    def __init__(
        self,
        *,
        counts: WcsNDMap | None = None,
        counts_off: WcsNDMap | None = None,
        acceptance: WcsNDMap | None = None,
        acceptance_off: WcsNDMap | None = None,
        exposure: WcsNDMap | None = None,
        edisp: EDispKernelMap | EDispMap | None = None,
        psf: PSFMap | None = None,
        mask_safe: WcsNDMap | None = None,
        mask_fit: WcsNDMap | None = None,
        gti: Any = None,
        meta_table: Table | None = None,
        name: str | None = None,
    ) -> None:
        self.counts_off = counts_off
        self.acceptance = acceptance
        self.acceptance_off = acceptance_off
        super().__init__(
            counts=counts,
            exposure=exposure,
            edisp=edisp,
            psf=psf,
            mask_safe=mask_safe,
            mask_fit=mask_fit,
            gti=gti,
            meta_table=meta_table,
            name=name,
        )

    @property
    def alpha(self) -> WcsNDMap:
        """On over Off acceptance, 0 where either is absent, nothing but rounding, or no number."""
        self._require("acceptance", "acceptance_off")
        assert self.acceptance is not None and self.acceptance_off is not None
        on = self.acceptance.data.astype(np.float64)
        off = self.acceptance_off.data.astype(np.float64)
        usable = (off > OFF_ROUNDING * np.max(off, initial=0.0, where=np.isfinite(off))) & (on > 0)
        usable &= np.isfinite(on) & np.isfinite(off)
        return WcsNDMap(self.geom, np.divide(on, off, out=np.zeros_like(on), where=usable))

    def npred_background(self) -> WcsNDMap:
        """Background expected from the Off counts: alpha times Off counts, in float64."""
        if self.counts_off is None or self.acceptance is None or self.acceptance_off is None:
            return WcsNDMap(self.geom)
        alpha = self.alpha.data
        # Off counts that no acceptance belongs to may be anything.
        return WcsNDMap(self.geom, np.where(alpha > 0, alpha * self.counts_off.data, 0.0))

    def fake(self, random_state: Any = None, *, npred_background: WcsNDMap | None = None) -> None:
        """Replace On and Off counts by Poisson random numbers of a background.

        Parameters
        ----------
        random_state : int, `numpy.random.Generator` or `numpy.random.RandomState`, optional
            Where the random numbers come from; by default different ones each time.
        npred_background : WcsNDMap, optional
            Expected background in the On counts; that in the Off counts is larger by
            1 / `alpha`. By default what the Off counts tell, which then stay.

        Raises
        ------
        ValueError
            If a prediction inside the masks is negative or not a number.
        """
        generator = random_generator(random_state)
        background = self.npred_background() if npred_background is None else npred_background
        counts = poisson_map(background, generator, self.mask)
        if npred_background is not None:
            alpha = self.alpha.data
            off = np.divide(background.data, alpha, out=np.zeros_like(alpha), where=alpha > 0)
            self.counts_off = poisson_map(WcsNDMap(self.geom, off), generator, self.mask)
        self.counts = counts

    def _value_parts(self) -> tuple[str, ...]:
        return MAPS_ON_OFF

    def _mask_of_values(self) -> NDArray[np.bool_]:
        """Where values matter: not where an acceptance is none, which is said."""
        mask = self.mask
        bad = np.zeros_like(mask)
        named = []
        for part in ("acceptance", "acceptance_off"):
            data = getattr(self, part).data
            # NaN fails the comparison too.
            own = ~((data >= self._lowest_allowed(part, data)) & (data < np.inf)) & mask
            if own.any():
                named.append(part)
                bad |= own
        if named:
            warn_user(
                f"{' and '.join(named)} of dataset {self.name!r}: negative, NaN or infinite in "
                f"{np.count_nonzero(bad)} of {np.count_nonzero(mask)} bins inside the mask; these "
                "have no OFF information and are left out"
            )
        return mask & ~bad

    def _lowest_allowed(self, part: str, data: NDArray[Any]) -> float:
        if part == "counts":
            return 0.0
        return -OFF_ROUNDING * float(np.max(data, initial=0.0, where=np.isfinite(data)))

    def check(self) -> None:
        """As `MapDataset.check`, for the Off counts too.

        Bins with an acceptance that is negative (beyond rounding), NaN or infinite tell nothing of
        the background. They are left out with a warning, as those without any acceptance are.
        """
        self._require("counts_off", "acceptance", "acceptance_off")
        super().check()
