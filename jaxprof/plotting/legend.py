"""The legend of a figure: at a free place, or above the axes; never over data."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from numpy.typing import NDArray

ARROW_POINTS = 14.0
"""Length of the arrow of an upper limit."""

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
_MARKS = 0.06
"""Share of the height, at the top, that marks of bins take that the model does not describe."""
_MOST = 0.45
"""Share of the height of the axes that a legend may make room for itself."""


def update_legend(ax: Axes) -> None:
    """Draw the legend of everything with a label where it covers nothing.

    At the first place that is free; otherwise the y axis grows at the top, or the legend stands
    above the axes. A place that the user chose in ``rcParams["legend.loc"]`` is kept.
    """
    handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return
    last = [2 * (text == AT_THE_EDGE) + text.startswith(LIMITS) for text in labels]
    order = np.argsort(last, kind="stable")
    handles, labels = [handles[k] for k in order], [labels[k] for k in order]
    n = len(labels)
    narrow = ax.get_window_extent().width / ax.figure.dpi < 3.5
    style: dict[str, Any] = {"fontsize": "small"} if n > 4 or narrow else {}
    if narrow and n > 2:
        style |= {"fontsize": "x-small", "handlelength": 1.4, "columnspacing": 1.0}
    style |= {"ncols": 1 + n // 9, "framealpha": 0.85}
    if rcParams["legend.loc"] != "best":
        ax.legend(handles, labels, **style)
        return
    for _ in range(4):
        legend = ax.legend(handles, labels, loc="upper right", **style)
        legend.set_gid("legend")
        ax.get_ylim()  # carries out a pending autoscale, which the transform does not
        ax.get_xlim()
        box, frame = legend.get_window_extent(), ax.get_window_extent()
        pad = frame.x1 - box.x1
        marks = _MARKS * any(line.get_gid() == "misfit" for line in ax.lines)
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
                return
        share = (box.height + 2 * pad) / frame.height + marks
        if share > _MOST or box.width > frame.width or not ax.get_autoscaley_on():
            break
        _grow(ax, share)
    _above(ax, handles, labels, style)


def _drawn(ax: Axes) -> NDArray[np.float64]:
    """Points on the screen that belong to data, (n, 2)."""
    found = [np.zeros((0, 2))]
    shaft = ARROW_POINTS * ax.figure.dpi / 72
    for line in ax.lines:
        if line.get_gid() in ("zero-line", "one-sigma", "misfit") or not line.get_visible():
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
    """The legend above the axes and their title."""
    frame = ax.get_window_extent()
    title = float(ax.title.get_fontsize()) * 1.6 * ax.figure.dpi / 72 if ax.get_title() else 0.0
    style |= {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0 + title / frame.height)}
    style = {"fontsize": "small", **style, "borderaxespad": 0.3}
    for columns in range(min(4, len(labels)), 0, -1):
        legend = ax.legend(handles, labels, **(style | {"ncols": columns}))
        legend.set_gid("legend")
        if legend.get_window_extent().width <= frame.width or columns == 1:
            return
