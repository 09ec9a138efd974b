"""Templates of the true energies that counts bins see, instead of all.

Pixels of one reconstructed energy see few true energies where the energy dispersion is narrow. Fits
with free spectra spend most of their time on reading templates: those of zero are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxprof.compilation import is_traced
from jaxprof.likelihood.terms import OnOff, Poisson, Term

PART = 0.7
"""Part of all true energies up to which it is worth the indices."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class SeenPoisson(Poisson):
    """A term whose templates are those of some true energies.

    Parameters
    ----------
    true_energies : array of int, shape (G, N, Q)
        True energies that the templates (G, N, K, Q, S) of each disjoint region are of. Padding
        repeats any of them, with templates of zero.
    """

    true_energies: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class SeenOnOff(OnOff):
    """The same of a background measured in OFF regions."""

    true_energies: Any


def seen_true_energies(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Terms of the same predictions, with templates of the true energies that are seen alone.

    Parameters
    ----------
    terms : sequence of Poisson or OnOff
        Terms with templates (G, N, K, Q, S) of all true energies.

    Returns
    -------
    terms : tuple of Poisson or OnOff
        With templates (G, N, K, Q', S), Q' being the most that a disjoint region sees; those that
        are traced, or see most of them, as they are.
    """
    return tuple(_of_term(term) for term in terms)


def _of_term(term: Term) -> Term:
    if is_traced(term.templates) or term.templates.shape[-2] == 1:
        return term
    templates = np.asarray(term.templates)
    seen = np.any(templates != 0, axis=(2, 4))
    most = max(1, int(np.max(np.sum(seen, axis=-1))))
    if most > PART * seen.shape[-1]:
        return term
    energies = np.argsort(~seen, axis=-1, kind="stable")[..., :most]
    own = np.take_along_axis(templates, energies[:, :, None, :, None], axis=3)
    kind = SeenPoisson if isinstance(term, Poisson) else SeenOnOff
    return kind(**{**vars(term), "templates": own}, true_energies=energies)


def template_index(term: Term) -> Any:
    """Index of arrays (C, Q, ...), of components and true energies, by templates.

    What it gives for a term of one group has the shape (N, K, Q', ...).
    """
    if isinstance(term, SeenPoisson | SeenOnOff):
        return term.components[:, :, None], term.true_energies[:, None, :]
    return term.components
