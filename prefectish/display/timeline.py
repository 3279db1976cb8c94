"""A timeline as SVG: one row per task or worker, with an area that shows the activity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from prefectish.display.page import seconds
from prefectish.safe_repr import printable

#: Width of names, chart and notes, and height of a row, in pixels.
NAMES_WIDTH, CHART_WIDTH, NOTES_WIDTH, ROW_HEIGHT = 190, 700, 150, 24


class Row(NamedTuple):
    """A row of a timeline."""

    name: str  # name of the row
    values: Sequence[float]  # activity in intervals of equal length
    bad: Sequence[float]  # share of failures, drawn over it
    behind: str  # note at the end of the row


def timeline(rows: Sequence[Row], length: float, color: str, bad: str, alike: bool) -> str:
    """Return an SVG element, `length` seconds wide; if `alike`, all rows have the same scale."""
    if not rows:
        return ""
    tops = [max([*row.values, 0]) for row in rows]
    scales = [max(tops)] * len(rows) if alike else tops
    height = ROW_HEIGHT * len(rows) + 24
    inner = "".join(
        [
            *_axis(length, ROW_HEIGHT * len(rows)),
            *(_row(row, n, scale or 1.0, color, bad) for n, (row, scale) in enumerate(zip(rows, scales, strict=True))),
        ]
    )
    width = NAMES_WIDTH + CHART_WIDTH + NOTES_WIDTH
    return (
        f'<svg class="pf-timeline" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="timeline" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-size="11" '
        f'style="max-width:100%;min-width:680px;height:auto">{inner}</svg>'
    )


def _row(row: Row, number: int, scale: float, color: str, bad: str) -> str:
    bottom = ROW_HEIGHT * (number + 1) - 3
    name = escape(printable(row.name, 30))
    return (
        f"<g><title>{escape(printable(row.name))}: {escape(row.behind)}</title>"
        f'<text x="{NAMES_WIDTH - 8}" y="{bottom - 5}" text-anchor="end" fill="currentColor">{name}</text>'
        f'<line x1="{NAMES_WIDTH}" x2="{NAMES_WIDTH + CHART_WIDTH}" y1="{bottom}" y2="{bottom}" stroke="currentColor" '
        f'stroke-opacity=".18"/>'
        f'<path d="{_shape(row.values, scale, bottom)}" fill="{color}" fill-opacity=".75"/>'
        f'<path d="{_shape(row.bad, scale, bottom)}" fill="{bad}"/>'
        f'<text x="{NAMES_WIDTH + CHART_WIDTH + 8}" y="{bottom - 5}" fill="currentColor" fill-opacity=".65">'
        f"{escape(row.behind)}</text></g>"
    )


def _shape(values: Sequence[float], scale: float, bottom: float) -> str:
    """Return a path along the values, with steps; runs of equal values take one piece."""
    wide = CHART_WIDTH / (len(values) or 1)
    parts: list[str] = []
    last = 0.0
    for n, value in enumerate(values):
        high = min(value / scale, 1.0) * (ROW_HEIGHT - 6)
        if value > 0:
            high = max(high, 1.5)  # small values stay visible
        high = round(high, 1)
        if high != last:
            parts.append(f"H{NAMES_WIDTH + n * wide:.1f}V{bottom - high:.1f}")
            last = high
    if not parts:
        return ""
    return f"M{NAMES_WIDTH},{bottom}{''.join(parts)}H{NAMES_WIDTH + CHART_WIDTH}V{bottom}z"


def _axis(length: float, height: float) -> Iterable[str]:
    for tick in ticks(length):
        x = NAMES_WIDTH + CHART_WIDTH * tick / length
        yield (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{height}" stroke="currentColor" stroke-opacity=".1"/>'
            f'<text x="{x:.1f}" y="{height + 16}" text-anchor="middle" fill="currentColor" fill-opacity=".65">'
            f"{_tick_label(tick)}</text>"
        )


def _tick_label(tick: float) -> str:
    if not 1 <= tick < 60:
        return seconds(tick) if tick else "0"
    return f"{tick:g} s"


def ticks(length: float, most: int = 8) -> list[float]:
    """Return round numbers of seconds from 0 to `length`.

    Examples
    --------
    >>> ticks(0.05)
    [0.0, 0.01, 0.02, 0.03, 0.04, 0.05]
    >>> ticks(400)
    [0.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0]
    """
    rough = length / most
    unit = 10.0 ** math.floor(math.log10(rough))
    steps = _LONG_TICKS if rough > 5 else [unit * factor for factor in (1, 2, 5, 10)]
    step = next((float(step) for step in steps if step >= rough * 0.999), float(steps[-1]))
    return [round(n * step, 9) for n in range(int(length / step * 1.0000001) + 1)]


#: Distances between ticks, in seconds: from 10 seconds to a year.
_LONG_TICKS = (
    10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 172_800, 604_800, 2_592_000, 31_536_000,
)  # fmt: skip
