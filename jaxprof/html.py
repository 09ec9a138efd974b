"""HTML of tables and facts: what notebooks show of objects, and what reports are made of.

Text is escaped in here, and nowhere else.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def escaped(value: Any) -> str:
    """The text of a value, for HTML."""
    return html.escape(str(value))


def number(value: Any, digits: int = 3) -> str:
    """A number with few digits; "nan" where there is none."""
    value = float(value)
    return f"{value:#.{digits}g}".rstrip(".") if math.isfinite(value) else str(value)


def facts(rows: Mapping[str, Any]) -> str:
    """Table of two columns, a row for each key and value."""
    lines = (
        f'<tr><th style="text-align:left">{escaped(key)}</th>'
        f'<td style="text-align:left">{escaped(value)}</td></tr>'
        for key, value in rows.items()
    )
    return f'<table class="facts">{"".join(lines)}</table>'


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    max_rows: int | None = None,
    numeric: bool = True,
) -> str:
    """Table with a head.

    Parameters
    ----------
    columns : sequence of str
        The head.
    rows : iterable of sequences
        Values, a sequence for each row; they are shown by ``str``.
    max_rows : int, optional
        How many rows to show; a last line says how many more there are.
    numeric : bool
        Whether columns are aligned to the right.
    """
    rows = list(rows)
    shown = rows[:max_rows]
    side = "right" if numeric else "left"

    def line(tag: str, values: Sequence[Any]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escaped(value)}</{tag}>" for value in values) + "</tr>"

    more = ""
    if len(rows) > len(shown):
        text = f"... and {len(rows) - len(shown)} more rows"
        more = f'<tr><td colspan="{len(columns)}">{text}</td></tr>'
    return (
        f'<table class="values" style="text-align:{side}"><thead>{line("th", columns)}</thead>'
        f"<tbody>{''.join(line('td', row) for row in shown)}{more}</tbody></table>"
    )


def titled(title: str, *parts: str) -> str:
    """A titled part of a notebook's output; `parts` are HTML already."""
    return f"<div><p><b>{escaped(title)}</b></p>{''.join(parts)}</div>"
