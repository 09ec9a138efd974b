"""The legend of a figure: at a free place, or above the axes; never over data."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.cbook import CallbackRegistry
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

ARROW_POINTS = 14.0
"""Length of the arrow of an upper limit."""

NARROW = 3.5
"""Width [inches] of axes below which letters are small."""

LIMITS = "Upper limits, "
"""What the legend entry with the level of limits begins with."""
AT_THE_EDGE = "Upper limit not positive"
"""Legend entry of limits that are drawn at the edge."""

_PLACES: dict[Any, tuple[float, float]] = {
    "upper right": (1, 1),
    "upper left": (0, 1),
    "lower left": (0, 0),
    "lower right": (1, 0),
    "center right": (1, 0.5),
    "center left": (0, 0.5),
    "upper center": (0.5, 1),
    "lower center": (0.5, 0),
}
BIN_MARKS = ("misfit", "partly-seen")
"""What marks bins at the upper edge."""
ROW = 0.035
"""Share of the height that a row of these takes."""
_MOST = 0.45
"""Share of the height of the axes that a legend may make room for itself."""


_SMALLEST = 6.0
"""Size of letters [points] of legends that would be a tall column with larger ones."""
# By the callbacks of axes, which are others when these are cleared.
_followed: WeakKeyDictionary[CallbackRegistry, bool] = WeakKeyDictionary()
_placed: WeakKeyDictionary[CallbackRegistry, Any] = WeakKeyDictionary()
_TIGHT = {"handlelength": 1.4, "columnspacing": 1.0, "handletextpad": 0.5}


def update_legend(ax: Axes, also: Iterable[Axes] = ()) -> None:
    """Draw the legend of everything with a label where it covers nothing, also later.

    Entries of the axes in `also` follow. At the first place that is free; otherwise the y axis
    grows at the top, or the legend stands above the axes. A place that the user chose in
    ``rcParams["legend.loc"]`` is kept. When scales or limits are set afterwards, the legend finds
    another place, unless it has become one of the user's own.
    """
    also = tuple(also)
    _placed.pop(ax.callbacks, None)
    above = _place(ax, also)
    before = ax.get_window_extent().bounds
    lay_out(ax)
    if not above and not np.allclose(before, ax.get_window_extent().bounds, atol=1.0):
        _place(ax, also)
    _placed[ax.callbacks] = _shown(ax)
    if ax.callbacks not in _followed:
        _followed[ax.callbacks] = True

        def follow(ax: Axes) -> None:
            legend, known = ax.get_legend(), _placed.pop(ax.callbacks, None)
            if known is None:  # it is being placed
                return
            if legend is not None and legend.get_gid() == "legend" and _shown(ax) != known:
                _place(ax, also)
                known = _shown(ax)
            _placed[ax.callbacks] = known

        ax.callbacks.connect("xlim_changed", follow)
        ax.callbacks.connect("ylim_changed", follow)


def lay_out(ax: Axes) -> None:
    """Give the axes the size that they will have, which labels and colour bars take from."""
    engine = ax.figure.get_layout_engine()
    if engine is not None:
        with warnings.catch_warnings():
            # What does not fit yet may do so when all is drawn; drawing says it again.
            warnings.simplefilter("ignore")
            engine.execute(ax.figure.figure)


def _shown(ax: Axes) -> tuple[Any, ...]:
    """Scales of the axes, and limits that were set by hand; those of data come and go."""
    x = None if ax.get_autoscalex_on() else tuple(ax.viewLim.intervalx)
    y = None if ax.get_autoscaley_on() else tuple(ax.viewLim.intervaly)
    return ax.get_xscale(), ax.get_yscale(), x, y


def _place(ax: Axes, also: tuple[Axes, ...]) -> bool:
    """Draw the legend; return whether it stands above the axes."""
    handles, labels = ax.get_legend_handles_labels()
    for other in also:
        more = zip(*other.get_legend_handles_labels(), strict=True)
        new = [pair for pair in more if pair[1] not in labels]
        handles, labels = handles + [h for h, _ in new], labels + [t for _, t in new]
    if not handles:
        return False
    order = np.argsort(
        [_rank(handle, text) for handle, text in zip(handles, labels, strict=True)], kind="stable"
    )
    handles, labels = [handles[k] for k in order], [labels[k] for k in order]
    n = len(labels)
    narrow = ax.get_window_extent().width / ax.figure.dpi < NARROW
    style: dict[str, Any] = {"fontsize": "small"} if n > 4 or narrow else {}
    if narrow and n > 2:
        style |= {"fontsize": "x-small", **_TIGHT}
    style |= {"ncols": 1 + n // 9, "framealpha": 0.85}
    if rcParams["legend.loc"] != "best":
        ax.legend(handles, labels, **style)
        return False
    _clear_marks(ax)
    for _ in range(4):
        legend = ax.legend(handles, labels, loc="upper right", **style)
        legend.set_gid("legend")
        ax.get_ylim()  # carries out a pending autoscale, which the transform does not
        ax.get_xlim()
        box, frame = legend.get_window_extent(), ax.get_window_extent()
        pad = frame.x1 - box.x1
        rows = sum(line.get_gid() in BIN_MARKS for line in ax.lines)
        marks = rows and 0.025 + ROW * rows
        height = (1 - marks) * frame.height
        points = _drawn(ax)
        for place, (right, top) in _PLACES.items():
            x0 = frame.x0 + pad + right * (frame.width - box.width - 2 * pad)
            y0 = frame.y0 + pad + top * (height - box.height - 2 * pad)
            low, high = (x0 - 6, y0 - 6), (x0 + box.width + 6, y0 + box.height + 6)
            if not ((points > low) & (points < high)).all(axis=1).any():
                if marks:
                    legend.set_bbox_to_anchor((0, 0, 1, 1 - marks), transform=ax.transAxes)
                legend.set_loc(place)
                return False
        share = (box.height + 2 * pad) / frame.height + marks
        if share > _MOST or box.width > frame.width or not ax.get_autoscaley_on():
            break
        _grow(ax, share)
    _above(ax, handles, labels, style)
    return True


def _clear_marks(ax: Axes) -> None:
    """Make room for the marks of bins at the upper edge, above what is drawn."""
    rows = sum(line.get_gid() in BIN_MARKS for line in ax.lines)
    for _ in range(3 * bool(rows)):
        ax.get_ylim()  # carries out a pending autoscale
        frame = ax.get_window_extent()
        edge = frame.y0 + (0.975 - ROW * rows) * frame.height
        if not ax.get_autoscaley_on() or not (_drawn(ax)[:, 1] > edge).any():
            return
        _grow(ax, ROW * (rows + 1))


def _rank(handle: Any, label: str) -> int:
    """Place of an entry: what is drawn first, then limits, then marks."""
    if label.startswith(LIMITS):
        return 1
    if label == AT_THE_EDGE:
        return 2
    gid = handle.get_gid() if hasattr(handle, "get_gid") else None
    return 3 * str(gid or "").endswith("-entry")


def _drawn(ax: Axes) -> NDArray[np.float64]:
    """Points on the screen that belong to data, (n, 2)."""
    found = [np.zeros((0, 2))]
    shaft = ARROW_POINTS * ax.figure.dpi / 72
    for line in ax.lines:
        if line.get_gid() in ("zero-line", "one-sigma", *BIN_MARKS) or not line.get_visible():
            continue
        path = line.get_transform().transform_path(line.get_path())
        points = np.asarray(path.vertices, dtype=float)
        found.append(points)
        drawn = line.get_linestyle() not in ("None", "none", "", " ")
        if line.get_gid() == "upper-limits":
            found += [points - [0, step * shaft] for step in (0.5, 1.0)]
        elif len(points) > 1 and (drawn or line.get_gid() == "obstacles"):
            steps = np.linspace(0, 1, 12)[:, np.newaxis, np.newaxis]
            found.append((points[:-1] + steps * (points[1:] - points[:-1])).reshape(-1, 2))
    points = np.concatenate(found)
    return points[np.isfinite(points).all(axis=1)]


def _grow(ax: Axes, share: float) -> None:
    """Make room at the top; as part of the data limits it survives a change of scale or size."""
    (x0, _), (_, y1) = ax.dataLim.get_points()
    transform = ax.yaxis.get_transform()
    bottom, top = transform.transform(np.array(ax.get_ylim()))
    raised = transform.transform(np.array([y1]))[0] + 0.6 * share * (top - bottom)
    above = float(transform.inverted().transform(np.array([raised]))[0])
    ax.update_datalim([(x0, above)])
    ax.autoscale_view(scalex=False)


def _above(ax: Axes, handles: Any, labels: list[str], style: dict[str, Any]) -> None:
    """The legend above the axes, their title and the power of ten of the y axis.

    It may reach over the labels of the y axis, to the left end of the figure.
    """
    figure, frame = ax.figure, ax.get_window_extent()
    lift = ScaledTranslation(0, _room_above(ax) / 72, figure.dpi_scale_trans)
    style = {"fontsize": "small", **_TIGHT, **style, "borderaxespad": 0.0}
    style |= {"bbox_transform": ax.transAxes + lift}
    sizes = [style["fontsize"], *([_SMALLEST] if len(labels) > 3 else [])]
    trials = [(size, n) for size in sizes for n in range(min(4, len(labels)), 1, -1)]
    height = 0.0
    for size, columns in (*trials, (sizes[0], 1)):
        own = style | {"fontsize": size, "ncols": columns, "loc": "lower left"}
        box = ax.legend(handles, labels, **own, bbox_to_anchor=(0.0, 1.0)).get_window_extent()
        height = box.height
        if box.width > frame.width:
            own["loc"] = "lower right"
            ax.legend(handles, labels, **own, bbox_to_anchor=(1.0, 1.0))
        if box.width <= frame.x1 - figure.bbox.x0:
            break
    if (legend := ax.get_legend()) is not None:
        legend.set_gid("legend")
    if figure.get_layout_engine() is not None and ax.get_autoscaley_on():
        # The layout makes the axes lower, in which what hangs from points is longer.
        lower = max(1.0 - height / frame.height, 0.3)
        margin = (ax.margins() or (0.0, 0.05))[1]
        share = min(margin / (1 + 2 * margin) / lower, 0.3)
        ax.margins(y=share / (1 - 2 * share))


def _room_above(ax: Axes) -> float:
    """Height [points] of the title and of the power of ten above the axes."""
    size = float(ax.title.get_fontsize())
    left, *others = (1.5 * size * bool(ax.get_title(loc)) for loc in ("left", "center", "right"))
    formatter = ax.yaxis.get_major_formatter()
    formatter.format_ticks(list(ax.get_yticks()))
    power = 1.4 * float(ax.yaxis.get_offset_text().get_fontsize()) * bool(formatter.get_offset())
    # Both stand on the left, one on the other.
    return max(3.0, left + power, *others)
