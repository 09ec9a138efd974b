"""Access to the quantities of a flux profile by name."""

from __future__ import annotations

from typing import Any

import astropy.units as u
import numpy as np

from jaxprof.inference.levels import confidence_level
from jaxprof.likelihood.data import Data, Status, blocks
from jaxprof.profile import quantities as quantities_
from jaxprof.profile.quantities import Array
from jaxprof.sky.regions.positions import positions_text

_ASKED_FOR = {
    "errn": "errn-errp",
    "errp": "errn-errp",
    "ul": "ul",
    "sensitivity": "sensitivity",
    "scan": "scan",
}
"""What gives quantities with these endings."""
_NUISANCE_ROWS = 4
"""Most nuisance parameters that a summary shows."""


class StatusArray(np.ndarray):
    """Statuses of fits as integers, which are printed as words.

    They compare with `~jaxprof.likelihood.data.Status` and integers; ``labels`` are the words.
    """

    @property
    def labels(self) -> Array:
        """The words, an array of text."""
        words = np.array([status.label for status in Status])
        return np.asarray(words[np.asarray(self)])

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        plain = [np.asarray(x) if isinstance(x, StatusArray) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **kwargs)

    def __str__(self) -> str:
        if self.ndim == 0 or self.dtype.kind not in "iu":
            return str(np.asarray(self))
        return np.array2string(self.labels, formatter={"all": str})

    def __repr__(self) -> str:
        if self.ndim == 0 or self.dtype.kind not in "iu":
            return repr(np.asarray(self))
        return f"StatusArray({self})"


class ProfileQuantity:
    """One quantity of a profile, as ``profile["npred"]`` gives it.

    Attributes
    ----------
    name : str
        Name of the quantity.
    data : ndarray
        Values, first axes (bins, energy groups).
    unit : str
        Their unit, "" if they have none.
    profile : FluxProfile
        What it belongs to.
    """

    def __init__(self, name: str, data: Array, unit: str, profile: QuantityAccess) -> None:
        self.name = name
        self.data = data
        self.unit = unit
        self.profile = profile

    @property
    def quantity(self) -> u.Quantity:
        """Values with their unit."""
        return u.Quantity(self.data, self.unit)

    def plot(self, ax: Any = None, *, label: str | None = None, **kwargs: Any) -> Any:
        """Draw the quantity along the profile.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Where to draw; the current axes by default.
        label : str, optional
            Name in the legend.
        **kwargs
            Passed to `jaxprof.plotting.plot_quantity`.

        Returns
        -------
        `~matplotlib.axes.Axes`
        """
        from jaxprof.plotting import plot_quantity

        return plot_quantity(self.profile, self.name, ax=ax, label=label, **kwargs)

    def __repr__(self) -> str:
        unit = f" [{self.unit}]" if self.unit else ""
        return f"<ProfileQuantity {self.name!r}{unit}, shape {self.data.shape}>"


class QuantityAccess:
    """Gives every quantity, stored or derived, as an attribute and as an item."""

    energy_edges: Array
    energy_unit: str | None
    quantities: dict[str, Array]
    reference: dict[str, Array]
    sqrt_ts_threshold_ul: float
    reference_solid_angle: str
    meta: dict[str, Any]
    likelihood_data: Data | None

    @property
    def mask(self) -> Array | None:
        """True for the counts bins that entered each fit, shape (B, G, E); None without their data.

        Counts bins are the reconstructed energies of a group (their pixels, for the likelihood of
        pixels); those of several datasets follow each other.
        """
        if self.likelihood_data is None:
            return None
        masks = [np.asarray(block.mask, bool) for block in blocks(self.likelihood_data)]
        return np.concatenate(masks, axis=2)

    @property
    def available_quantities(self) -> list[str]:
        """Names of all quantities that this profile has, given and derived."""
        return quantities_.names(self.quantities, self.reference)

    def _data(self, name: str) -> Array | None:
        return quantities_.value(name, self.quantities, self.reference, self.sqrt_ts_threshold_ul)

    def __getattr__(self, name: str) -> Any:
        # Also called for attributes of an object that is being unpickled: without state.
        if name.startswith("_") or "quantities" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        data = self._data(name)
        if data is None:
            needed = quantities_.NEEDED.get(name)
            hint = f" without {needed!r}, which joint fits give" if needed else ""
            start, _, end = name.rpartition("_")
            option = _ASKED_FOR.get(end) if start != "is" else None
            hint = f"; ask for selection_optional=[{option!r}]" if option else hint
            raise AttributeError(
                f"FluxProfile has no {name!r}{hint}; available: "
                f"{', '.join(self.available_quantities)}"
            )
        unit = quantities_.unit(name)
        if name == "status":
            return data.view(StatusArray)
        return u.Quantity(data, unit) if unit else data

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.available_quantities})

    def __getitem__(self, name: str) -> ProfileQuantity:
        data = self._data(name) if isinstance(name, str) else None
        if data is None:
            raise KeyError(
                f"no quantity {name!r}; available: {', '.join(self.available_quantities)}"
            )
        return ProfileQuantity(name, data, quantities_.unit(name, self.norm_unit), self)

    @property
    def norm_unit(self) -> str:
        """Unit of the norms: "" but for those that are ratios to a template.

        ``profile["norm"].quantity`` has it, tables, files and figures too; ``profile.norm`` and
        what comes with it are plain arrays.
        """
        return str(self.meta.get("norm_unit", ""))

    @property
    def is_ul(self) -> Array:
        """Whether tables and figures show an upper limit in place of the value, shape (B, G).

        True where ``sqrt_ts`` is below ``sqrt_ts_threshold_ul``, or what it is set to: an array of
        booleans (B, G). None brings back the rule.
        """
        data = self._data("is_ul")
        if data is None:
            # Then __getattr__ is called, which says what there is.
            raise AttributeError("is_ul")
        return data

    @is_ul.setter
    def is_ul(self, mask: Any) -> None:
        others = {name: array for name, array in self.quantities.items() if name != "is_ul"}
        if mask is not None:
            others["is_ul"] = quantities_.check_is_ul(mask, self.quantities["norm"].shape)
        # A new dict: a shallow copy of the profile stays as it is.
        self.__dict__["quantities"] = others

    @property
    def energy_min(self) -> u.Quantity:
        """Lower edges of the energy groups in ``energy_unit``, shape (G,)."""
        return self._energy(self.energy_edges[:, 0])

    @property
    def energy_max(self) -> u.Quantity:
        """Upper edges of the energy groups in ``energy_unit``, shape (G,)."""
        return self._energy(self.energy_edges[:, 1])

    @property
    def energy_ref(self) -> u.Quantity:
        """Geometric means of the edges of the groups in ``energy_unit``, shape (G,)."""
        return self._energy(np.sqrt(self.energy_edges[:, 0] * self.energy_edges[:, 1]))

    def _energy(self, tev: Array) -> u.Quantity:
        return u.Quantity(tev, u.TeV).to(self.energy_unit or u.TeV)

    @property
    def has_ul(self) -> bool:
        """Whether there are upper limits."""
        return "norm_ul" in self.quantities

    @property
    def has_stat_profiles(self) -> bool:
        """Whether there are likelihood scans."""
        return "stat_scan" in self.quantities

    def surface_brightness(self, sed_type: str = "flux", quantity: str = "") -> u.Quantity:
        """Flux of every bin over the solid angle that it is the flux of.

        Of the flux between energies it is a quantity like others, ``"surface_brightness"`` with
        ``_err``, ``_ul``, ..., which tables and figures take as ``sed_type``.

        That is ``solid_angle``, of the pixels of the region, or ``region_solid_angle`` if
        ``reference_solid_angle`` is "region".

        Parameters
        ----------
        sed_type : {"dnde", "e2dnde", "flux", "eflux", "surface_brightness"}
            Which flux.
        quantity : {"", "err", "errn", "errp", "ul", "sensitivity"}
            The value, or what comes with it.

        Returns
        -------
        Quantity, shape (B, G)
            In the unit of the flux, per sr.

        Raises
        ------
        ValueError
            If there is no such quantity, or the solid angles are not known.
        """
        name = f"{sed_type}_{quantity}".rstrip("_")
        data = self._data(name) if sed_type in quantities_.UNITS and quantity != "ref" else None
        if data is None:
            valid = [n for n in self.available_quantities if n.split("_")[0] in quantities_.UNITS]
            valid = [n for n in valid if not n.endswith("_ref")]
            raise ValueError(
                f"no quantity {name!r} to divide by the solid angle; valid are {', '.join(valid)}"
            )
        needed = quantities_.SOLID_ANGLES[self.reference_solid_angle]
        if needed not in self.quantities:
            raise ValueError(f"surface brightness needs {needed!r}, which this profile lacks")
        solid_angle = self.quantities[needed][:, None] * u.sr
        return u.Quantity(data, quantities_.unit(name)) / solid_angle


def describe(profile: Any) -> str:
    """Summary of a profile, in the layout of gammapy's."""
    model = profile.reference_model
    models = profile.reference_models or ([] if model is None else [model])
    tags = dict.fromkeys(getattr(model, "tag", type(model).__name__) for model in models)
    tag = ", ".join(tags) or "none, fluxes only"
    tag += "" if profile.reference_models is None else " (one a bin)"
    codes, counts = np.unique(profile.quantities["status"], return_counts=True)
    status = ", ".join(f"{n} {Status(c).label}" for c, n in zip(codes, counts, strict=True))
    level = confidence_level(n_sigma=profile.n_sigma_ul)
    rows = {
        "geom": "regions not known"
        if profile.regions is None
        else f"{len(profile.regions)} regions",
        "axes": [profile.axis.name, "energy"],
        "shape": profile.shape,
        "quantities": list(profile.quantities),
        "ref. model": tag,
        "n_sigma": profile.n_sigma,
        "n_sigma_ul": f"{profile.n_sigma_ul:.6g} ({100 * level:.4g} %)",
        "interval": profile.meta.get("interval", "profile"),
        "sqrt_ts_threshold_ul": profile.sqrt_ts_threshold_ul,
        "reference solid angle": profile.reference_solid_angle,
        "sed type init": profile.sed_type_init,
        "status": status,
    }
    table = [] if profile.nuisance is None else profile.nuisance
    fitted = [row for row in table if not row["fixed"]]
    if fitted:
        shown = [_nuisance_text(row) for row in fitted[:_NUISANCE_ROWS]]
        more = len(fitted) - len(shown)
        rows["nuisance"] = "; ".join(shown) + (f"; {more} more in profile.nuisance" if more else "")
    cut = quantities_.partly_seen(profile).any(axis=1)
    if cut.any():
        named = _bins_text(profile, np.flatnonzero(cut))
        rows["seen in part"] = f"{named}: coverage below {quantities_.PARTLY_SEEN:g}"
    if "misfit" in profile.quantities and profile.quantities["misfit"].any():
        bins = np.flatnonzero(profile.quantities["misfit"].any(axis=1))
        rows["misfit"] = (
            f"{_bins_text(profile, bins)}: not described by the model, what emits there is not "
            "spread as its template says"
        )
    lost = np.flatnonzero(~np.asarray(profile.success, bool).any(axis=1))
    if lost.size:
        kinds = np.unique(profile.quantities["status"][lost])
        why = ", ".join(Status(code).label for code in kinds)
        rows["no estimate"] = f"{_bins_text(profile, lost)}: {why}"
    title = type(profile).__name__
    lines = "".join(f"  {name:<22} : {text}\n" for name, text in rows.items())
    return f"{title}\n{'-' * len(title)}\n\n{lines}"


def _bins_text(profile: Any, bins: Array) -> str:
    """Some bins by number and position."""
    where = positions_text(profile.axis, bins)
    numbers = ", ".join(map(str, bins)) + (f" ({where})" if where else "")
    return f"bin{'s' * (bins.size > 1)} {numbers}"


def _nuisance_text(row: Any) -> str:
    """A nuisance parameter as a summary has it, with its status if it is no plain estimate."""
    text = f"{row['parameter']} {row['value']:.4g} +- {row['error']:.2g}"
    status = row["status"] if "status" in row.colnames else Status.OK.label
    return text if status == Status.OK.label else f"{text} ({status})"
