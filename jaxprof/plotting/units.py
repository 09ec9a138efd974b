"""Units of axes: what is drawn is converted when an axis is given another unit later."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from astropy import units as u
from matplotlib.cbook import CallbackRegistry
from matplotlib.collections import LineCollection, PathCollection, PolyCollection, QuadMesh
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle, StepPatch
from matplotlib.text import Text

from jaxprof.plotting.style import unit_label

#: Unit in which everything in the axes is drawn, by the callbacks of the axis: clearing the axes
#: makes new ones.
_drawn_in: WeakKeyDictionary[CallbackRegistry, u.UnitBase] = WeakKeyDictionary()


_DRAWN = (
    *(Line2D, LineCollection, PathCollection, PolyCollection, QuadMesh),
    *(Polygon, Rectangle, StepPatch, Text),
)


def keep_unit(axis: Any, unit: Any) -> None:
    """Let an axis know its unit: what is drawn later is converted to it, and ``set_units`` works.

    Parameters
    ----------
    axis : `~matplotlib.axis.Axis`
        An x or y axis with all that is drawn.
    unit : str or Unit
        Unit in which it is drawn; none for plain numbers.
    """
    unit = u.Unit(unit)
    if unit == u.dimensionless_unscaled or axis.callbacks in _drawn_in:
        return
    # Not by set_units, which would also find the limits of the axes anew from what is drawn.
    axis.units = unit
    _drawn_in[axis.callbacks] = unit
    kept: list[Any] = []
    axis.callbacks.connect("units", lambda: _convert(axis, *kept))
    first = axis.callbacks.connect("units", lambda: kept.__setitem__(slice(None), _limits(axis)))
    # Before matplotlib's own callback, which makes the limits of the data anew from lines alone.
    called = axis.callbacks.callbacks["units"]
    order = {first: called.pop(first), **called}
    called.clear()
    called.update(order)


def drawn_in(axis: Any) -> u.UnitBase | None:
    """Unit in which everything is drawn along an axis, None if it has none yet."""
    return _drawn_in.get(axis.callbacks)


def _limits(axis: Any) -> list[Any]:
    """What is shown of an axis; limits of the data in its axes, and the least above zero."""
    shown = axis.axes.get_xlim() if axis.axis_name == "x" else axis.axes.get_ylim()
    data = axis.axes.dataLim
    return [np.array(shown), data.get_points().copy(), data.minpos.copy()]


def _convert(axis: Any, shown: Any, data: Any, least: Any) -> None:
    """Draw everything in the unit that the axis has now, with the same limits.

    Raises
    ------
    ValueError
        If what is drawn does not convert to it; the axis keeps its unit then.
    """
    old = _drawn_in[axis.callbacks]
    try:
        new = old if axis.units is None else u.Unit(axis.units)
        factor = float(old.to(new))
    except (ValueError, TypeError, u.UnitConversionError) as error:
        wanted, axis.units = axis.units, old
        raise ValueError(
            f"set_units: what is drawn in {old.to_string()!r} does not convert to {str(wanted)!r}"
        ) from error
    axis.units = _drawn_in[axis.callbacks] = new
    if factor == 1 and new.to_string() == old.to_string():
        return
    ax, which = axis.axes, 0 if axis.axis_name == "x" else 1
    for artist in ax.get_children():
        if isinstance(artist, _DRAWN):
            _scale(artist, ax.transData, which, factor)
    data[:, which] *= factor
    least[which] *= factor
    ax.dataLim.set_points(data)
    ax.dataLim.minpos[:] = least
    # Axes that share this one are converted by themselves.
    [ax.set_xlim, ax.set_ylim][which](*(factor * shown), emit=False, auto=None)
    label = axis.get_label_text()
    for text in (unit_label, u.UnitBase.to_string):
        label = label.replace(f"[{text(old)}]", f"[{text(new)}]")
    axis.set_label_text(label)


def _scale(artist: Any, data: Any, which: int, factor: float) -> None:
    """Multiply the positions of an artist along an axis, unless they are no data."""

    def scaled(values: Any) -> Any:
        found = np.array(values, dtype=float)
        found[..., which] *= factor
        return found

    by_offsets = isinstance(artist, PathCollection)
    transform = artist.get_offset_transform() if by_offsets else artist.get_transform()
    if not transform.contains_branch_seperately(data)[which]:
        return
    if isinstance(artist, Line2D):
        axis = "xy"[which]
        values = getattr(artist, f"get_{axis}data")(orig=True)
        if not hasattr(values, "unit"):  # quantities convert themselves
            getattr(artist, f"set_{axis}data")(factor * np.asarray(values, dtype=float))
    elif by_offsets:
        artist.set_offsets(scaled(artist.get_offsets()))
    elif isinstance(artist, LineCollection):
        artist.set_segments([scaled(path.vertices) for path in artist.get_paths()])
    elif isinstance(artist, PolyCollection):
        artist.set_verts([scaled(path.vertices) for path in artist.get_paths()], closed=False)
    elif isinstance(artist, QuadMesh):
        coordinates: Any = artist.get_coordinates()
        coordinates[..., which] *= factor
    elif isinstance(artist, Rectangle):
        size = scaled([artist.get_width(), artist.get_height()])
        artist.set(xy=scaled(artist.get_xy()), width=size[0], height=size[1])
    elif isinstance(artist, Polygon):
        artist.set_xy(scaled(artist.get_xy()))
    elif isinstance(artist, StepPatch):
        values, edges, baseline = artist.get_data()
        if which:
            low: Any = None if baseline is None else factor * np.asarray(baseline)
            artist.set_data(values=factor * np.asarray(values), baseline=low)
        else:
            artist.set_data(edges=factor * np.asarray(edges))
    elif isinstance(artist, Text):
        artist.set_position(scaled(artist.get_position()))
