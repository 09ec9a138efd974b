"""Whether a response that was kept is that of what is fitted now."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxprof.datasets import MapDataset
from jaxprof.models.units import is_concrete
from jaxprof.sky.models import SkyModel
from jaxprof.sky.regions.shapes import sky_shapes
from jaxprof.sky.template_map import TemplateSpatialModel

if TYPE_CHECKING:
    from jaxprof.reduce.joint.components import Components


def dataset_fingerprints(dataset: MapDataset) -> dict[str, str]:
    """Digests of what the response of a dataset was made from, by the name of the part."""
    geom = dataset.geom
    found = {
        "pixels": _digest(geom.wcs.to_header_string(), geom.npix_shape),
        "energies": _digest(dataset.energy_axis.edges_tev()),
        "true energies": _digest(dataset.energy_axis_true.edges_tev()),
    }
    exposure = dataset.exposure
    assert exposure is not None
    sky = exposure.geom.wcs.to_header_string()
    found["exposure"] = _digest(exposure.data, exposure.unit.to_string(), sky)
    for name in ("psf", "edisp"):
        part = getattr(dataset, name)
        if part is None:
            found[name] = ""
            continue
        sky = "" if part.geom is None else part.geom.wcs.to_header_string()
        axes = [edge for axis in part.axes for edge in (axis.edges.value, axis.unit.to_string())]
        found[name] = _digest(type(part).__name__, part.data, sky, *axes)
    return found


def _digest(*parts: Any) -> str:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype}{part.shape}".encode())
            found.update(np.ascontiguousarray(part).data)
        else:
            found.update(str(part).encode())
    return found.hexdigest()


def component_fingerprints(components: Components) -> dict[str, Any]:
    """What tells that regions were changed in place, by the name of the option."""
    return {
        "regions": sky_shapes(components.regions).fingerprint(),
        "guard_bins": sky_shapes(components.guards).fingerprint() if components.guards else None,
    }


def changed_component(made: Components, wanted: Components) -> str | None:
    """Name of the first option of the estimator that made other components; None if none did."""
    options = {"guards": "guard_bins", "models": "spectral_model"}
    for name, old in vars(made).items():
        if not _same(old, getattr(wanted, name)):
            return options.get(name, name)
    return None


def _same(old: Any, new: Any) -> bool:
    if old is new:
        return True
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return len(old) == len(new) and all(map(_same, old, new))
    if type(old) is not type(new):
        return False
    if isinstance(old, SkyModel):
        return (old.name, old.free) == (new.name, new.free) and _same(
            [old.spectral_model, old.spatial_model], [new.spectral_model, new.spatial_model]
        )
    if isinstance(old, TemplateSpatialModel):
        cubes = [() if c is None else (c.log_nodes, c.planes) for c in (old.cube, new.cube)]
        return (
            _same(old.image, new.image)
            and len(cubes[0]) == len(cubes[1])
            and all(map(np.array_equal, *cubes))
        )
    if hasattr(old, "geom"):
        same_data = np.array_equal(old.data, new.data)
        return same_data and old.geom == new.geom
    if hasattr(old, "parameters"):
        (leaves, structure), (others, other_structure) = map(jax.tree.flatten, (old, new))
        # Traced parameters may be anything.
        return structure == other_structure and all(  # type: ignore[operator]
            not (is_concrete(a) and is_concrete(b)) or np.array_equal(a, b)
            for a, b in zip(leaves, others, strict=True)
        )
    try:
        return bool(old == new)
    except (TypeError, ValueError):
        return False
