"""Values of counts bins as maps: where on the sky the counts decide what is fitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxprof.datasets import MapDataset
from jaxprof.inference.influence import influence
from jaxprof.inference.model_fit import Fit
from jaxprof.likelihood import CountsBins, Likelihood
from jaxprof.sky import WcsGeom, WcsNDMap


def influence_map(
    likelihood: Likelihood,
    result: Fit,
    quantity: str | Callable[[Any], Any],
    dataset: MapDataset,
    *,
    log_prob: Callable[[Any, Likelihood], Any] | None = None,
) -> WcsNDMap:
    """Map of how much one more count in each pixel and energy changes what was fitted.

    Parameters
    ----------
    likelihood, result, log_prob
        As for `jaxprof.influence`.
    quantity : str or callable
        As there: the name of one parameter, or a function of the parameters that gives a number.
    dataset : MapDataset
        One of those that were reduced.

    Returns
    -------
    WcsNDMap
        On the geometry of the counts; ``.sum_over_axes()`` would add up energies, a plane such as
        ``data[0]`` is what counts of one energy do. NaN where no counts were used. Of On-Off data
        that of the ON counts.

    Raises
    ------
    ValueError
        As `jaxprof.influence`; if `quantity` is an array, if the likelihood has no data set of
        this name, or if its counts bins are sums over pixels or energies.
    """
    numbers = [n for n, own in enumerate(likelihood.bins) if own.dataset == dataset.name]
    if len(numbers) != 1:
        names = ", ".join(repr(own.dataset) for own in likelihood.bins)
        raise ValueError(
            f"dataset: {dataset.name!r} must be the name of one data set; there are {names}"
        )
    [number] = numbers
    values = influence(likelihood, result, quantity, log_prob=log_prob)[number]
    own = np.asarray(values[0] if isinstance(values, tuple) else values)
    if own.ndim != 3:
        raise ValueError(f"quantity must be one number to draw a map, got shape {own.shape[:-3]}")
    mask = np.asarray(likelihood.terms[number].mask)
    return counts_bins_map(own, likelihood.bins[number], mask, dataset.geom)


def counts_bins_map(values: Any, bins: CountsBins, mask: Any, geom: WcsGeom) -> WcsNDMap:
    """Map of one value (G, N, S) for each counts bin that the mask has; NaN where there is none.

    Where regions of separate fits share a pixel, values are added up.

    Raises
    ------
    ValueError
        If counts bins are sums over pixels or energies.
    """
    energy, pixel = np.asarray(bins.energy)[mask], np.asarray(bins.pixel)[mask]
    for origin, what, instead in (
        (pixel, "pixels", 'likelihood="pixel"'),
        (energy, "energies", "sum_over_energy_groups=False"),
    ):
        if np.any(origin < 0):
            raise ValueError(
                f"likelihood: its counts bins are sums over {what}; give the estimator {instead}"
            )
    data = np.full(geom.data_shape, np.nan)
    flat = data.reshape(len(data), -1)
    flat[energy, pixel] = 0.0
    np.add.at(flat, (energy, pixel), np.asarray(values)[mask])
    return WcsNDMap(geom, data)
