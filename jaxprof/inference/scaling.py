"""Joint fits of spectra and exposures in units that are far from those of the counts.

Curvatures and covariances hold squares of norms, which overflow where these are beyond about 1e150.
Such norms are fitted in a unit of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from jaxprof.compilation import jit_quickly
from jaxprof.likelihood.joint_data import JointData, JointFit
from jaxprof.likelihood.joint_model import coefficients
from jaxprof.likelihood.true_energies import template_index
from jaxprof.types import Array

USUAL = 1e30
"""Expected counts at norm one, and one over these, within which norms are fitted as they are."""


@jit_quickly("dataset")
def _free_coefficients(data: JointData, points: Any, dataset: int) -> Any:
    return jax.vmap(lambda z: coefficients(data, z, dataset))(points)


def coefficients_at(data: JointData, points: Array, dataset: int) -> Array:
    """Coefficients (M, C, Q) of the templates of a dataset at some points (M, Z)."""
    if data.spectra is None:
        return points[:, : data.n_components, np.newaxis]
    return np.asarray(_free_coefficients(data, points, dataset))


def norm_positions(data: JointData) -> Array:
    """`JointData.norm_index` outside of compiled code, (C,)."""
    return np.arange(data.n_components) * (1 + data.n_shape)


@dataclass(frozen=True)
class Units:
    """Units in which the parameters of a joint fit are counted, (Z,): one but for some norms."""

    values: Array

    @property
    def trivial(self) -> bool:
        """Whether all are one."""
        return bool(np.all(self.values == 1.0))

    def data(self, data: JointData) -> JointData:
        """The same problem in these units."""
        if self.trivial:
            return data
        norms = self.values[norm_positions(data)]
        blocks = data.blocks
        spectra = data.spectra
        if spectra is None:
            blocks = tuple(
                replace(b, templates=b.templates * norms[np.asarray(b.components)][..., None, None])
                for b in blocks
            )
        else:
            spectra = replace(spectra, scale=norms)
        with np.errstate(over="ignore", invalid="ignore"):
            precision = np.asarray(data.precision) * np.outer(self.values, self.values)
        changed: dict[str, Any] = {
            name: np.asarray(getattr(data, name)) / self.values
            for name in ("start", "lower", "upper", "penalty_start")
        }
        return replace(
            data, blocks=blocks, spectra=spectra, precision=np.nan_to_num(precision), **changed
        )

    def fit(self, fit: JointFit) -> JointFit:
        """A fit in these units with its numbers in the original ones; arrays are numpy's."""
        if self.trivial:
            return fit
        with np.errstate(over="ignore"):
            covariance = fit.covariance * self.values[:, None] * self.values
        return replace(
            fit,
            values=fit.values * self.values,
            covariance=covariance,
            other_minimum=fit.other_minimum * self.values,
        )


def units_of(data: JointData) -> Units:
    """Units in which norms that are far from one for a count are about that.

    They are powers of two, which round nothing.
    """
    at = norm_positions(data)
    point = np.array(data.start)
    point[at] = 1.0
    signal = np.zeros(data.n_components)
    for block in data.blocks:
        phi = coefficients_at(data, point[np.newaxis], block.dataset)[0]
        block = jax.tree.map(np.asarray, block)
        sums = np.einsum("nkqs,ns->nkq", block.templates, block.mask)
        own = (sums * phi[template_index(block)]).sum(axis=-1)
        np.add.at(signal, block.components, own)
    values = np.ones(len(point))
    extreme = (signal > 0) & ((signal > USUAL) | (signal < 1.0 / USUAL))
    exponent = np.frexp(np.where(extreme, signal, 1.0))[1]
    values[at] = np.where(extreme, np.ldexp(1.0, -exponent), 1.0)
    return Units(values)
