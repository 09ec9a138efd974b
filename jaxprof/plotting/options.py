"""Options that figures take: series that can be told apart, units, names of what is unknown."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from astropy import units as u
from matplotlib import rcParams, rcParamsDefault
from matplotlib.artist import ArtistInspector
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from jaxprof.plotting.units import drawn_in

#: Colours that colour-blind eyes tell apart (Okabe and Ito), in an order of changing lightness.
COLORS = ("#0072B2", "#E69F00", "#000000", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
#: Markers, filled and open in turn, that tell series apart in grey.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_drawn: WeakKeyDictionary[Axes, int] = WeakKeyDictionary()


def next_series(ax: Axes) -> dict[str, Any]:
    """Colour and marker of the next series of points in these axes.

    Colours are those of `COLORS`, or of the user's property cycle if that is not matplotlib's.
    """
    number = _drawn.get(ax, 0)
    _drawn[ax] = number + 1
    return series_style(number)


def skip_first_series(ax: Axes) -> None:
    """Leave the colour of the first series out in axes that have none yet."""
    _drawn.setdefault(ax, 1)


def series_style(number: int) -> dict[str, Any]:
    """Colour and marker of a series by its number."""
    cycle = rcParams["axes.prop_cycle"]
    colors = COLORS if cycle == rcParamsDefault["axes.prop_cycle"] else None
    if colors is None:
        colors = tuple(cycle.by_key().get("color", COLORS))
    style = {"color": colors[number % len(colors)], "marker": MARKERS[number % len(MARKERS)]}
    return style | ({"markerfacecolor": "white"} if number % 2 else {})


def check_options(
    given: Iterable[str], function: Callable[..., Any], artist: Any = Line2D, also: Any = ()
) -> None:
    """Raise a TypeError, with the valid names, for options that neither we nor matplotlib know.

    Parameters
    ----------
    given : iterable of str
        Names that were given beyond those of the function.
    function : callable
        Function of a figure, of which the options are named.
    artist : class
        Artist of matplotlib that gets the options.
    also : iterable of str
        Further options of matplotlib's function.
    """
    inspector = ArtistInspector(artist)
    setters = {*inspector.get_setters(), *(a for v in inspector.aliasd.values() for a in v), *also}
    unknown = [name for name in given if name not in setters]
    if not unknown:
        return
    own = [
        name
        for name, value in inspect.signature(function).parameters.items()
        if value.kind is value.KEYWORD_ONLY or value.default is not value.empty
    ]
    near = difflib.get_close_matches(unknown[0], [*own, *setters], 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    usual = [name for name in _USUAL if name in setters]
    raise TypeError(
        f"{function.__name__} has no option {unknown[0]!r}{hint}; valid are {', '.join(own)}, and "
        f"those of matplotlib's {artist.__name__}: {', '.join(usual)}, ..."
    )


#: Options that messages name where an artist has them.
_USUAL = ("color", "marker", "cmap", "norm", "edgecolor", "linewidth", "alpha", "label", "zorder")
ERRORBAR = (
    *("fmt", "ecolor", "elinewidth", "capsize", "barsabove", "lolims", "uplims", "xlolims"),
    *("xuplims", "errorevery", "capthick", "data"),
)
#: Options of pcolormesh that are not of its artist.
PCOLORMESH = ("shading", "vmin", "vmax", "norm", "cmap", "alpha", "antialiased", "edgecolors")
#: The same of imshow.
IMSHOW = ("aspect", "interpolation", "origin", "extent", "filternorm", "filterrad", "resample")


def chosen_unit(axis: Any, unit: Any, own: Any, what: str) -> u.UnitBase:
    """Unit to draw in: what was asked for, what the axis has, or the quantity's own.

    Parameters
    ----------
    axis : `~matplotlib.axis.Axis`
        May have a unit, by ``ax.yaxis.set_units(...)`` or because something with one is drawn. That
        is converted if another one is asked for.
    unit : str, Unit or None
        What was asked for.
    own : str or Unit
        That of the values.
    what : str
        What is drawn, for messages.

    Raises
    ------
    ValueError
        If the unit is none, or not one of this quantity.
    """
    own = u.Unit(own)
    if unit is None:
        wanted = axis.get_units()
        if not isinstance(wanted, str | u.UnitBase):
            return own
        return unit_for(wanted, own, what, "the axis has the unit")
    found = unit_for(unit, own, what)
    if drawn_in(axis) is not None:
        axis.set_units(found)
    return found


def unit_for(unit: Any, own: Any, what: str, whose: str = "unit is") -> u.UnitBase:
    """The unit that was asked for, if a quantity in its own unit converts to it.

    Raises
    ------
    ValueError
        If it does not.
    """
    own = u.Unit(own)
    try:
        found = u.Unit(unit)
        own.to(found)
    except (ValueError, TypeError, u.UnitConversionError):
        raise ValueError(
            f"{whose} {str(unit)!r}, but {what} is in {own.to_string() or 'plain numbers'!r}; "
            "give a unit that it converts to, or other axes"
        ) from None
    return found
