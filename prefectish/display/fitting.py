"""Fit the progress lines of a run into a terminal: a narrow one omits columns instead of cutting them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from prefectish.display import words
from prefectish.display.pace import PaceLine
from prefectish.safe_repr import printable

#: Short words for kinds of children.
SHORT_WORDS = {
    "running": "run",
    "retrying": "retry",
    "paused": "pause",
    "skipped": "skip",
    "failed": "fail",
    "not run": "not run",
}
#: Width for measuring.
UNLIMITED_WIDTH = 10_000


class LineLayout(NamedTuple):
    """Which parts of a line are shown."""

    #: Maximum length of the name; width of the bar.
    name: int
    bar: int
    #: Whether these are shown.
    percent: bool = True
    pace: bool = True
    left: bool = True
    words: bool = True  # whether kinds of children are shown in full words
    kinds: frozenset[str] | None = None  # which kinds are shown; None: all


#: From the widest to the narrowest; the first that fits is used, or else the last.
LAYOUTS = (
    LineLayout(28, 24),
    LineLayout(28, 12),
    LineLayout(22, 12, percent=False),
    LineLayout(22, 8, percent=False),
    LineLayout(22, 8, percent=False, words=False),
    LineLayout(16, 8, percent=False, words=False),
    LineLayout(16, 8, percent=False, pace=False, words=False),
    LineLayout(16, 0, percent=False, pace=False, words=False),
    LineLayout(16, 0, False, False, False, False, frozenset({"running", "retrying", "paused", "failed"})),
    LineLayout(10, 0, False, False, False, False, frozenset({"failed"})),
)


def fitted(lines: Sequence[PaceLine], columns: int, stroke: str) -> Table:
    """Return lines of a run as a table, with as many parts as fit; bars are made of `stroke`."""
    console = Console(width=UNLIMITED_WIDTH, file=None, stderr=True, highlight=False)
    for look in LAYOUTS:
        table = _table(lines, look, stroke)
        if Measurement.get(console, console.options, table).maximum <= columns:
            break
    return table


def _table(lines: Sequence[PaceLine], look: LineLayout, stroke: str) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    rows = [_cells(line, look, stroke) for line in lines]
    empty = [not any(cells) for cells in zip(*rows, strict=True)]
    for justify, unused in zip(("left", "left", "right", "right", "right", "right", "left"), empty, strict=True):
        if not unused:
            table.add_column(justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(cell for cell, unused in zip(row, empty, strict=True) if not unused))
    return table


def _cells(line: PaceLine, look: LineLayout, stroke: str) -> list[Text]:
    left = f"{words.clock(line.left)} left" if line.left is not None else words.clock(line.seconds)
    percent = "" if line.share is None or line.counts.width is None else f"{int(100 * line.share)}%"
    return [
        Text(printable(line.name, look.name)),
        bar(line, look.bar, stroke),
        Text(words.how_many(line)),
        Text(percent if look.percent else ""),
        Text(words.pace(line) if look.pace else "", style="dim"),
        Text(left if look.left else "", style="" if line.left is not None else "dim"),
        _others(line, look),
    ]


def _others(line: PaceLine, look: LineLayout) -> Text:
    text = Text()
    for kind, number, color in words.others(line):
        if look.kinds is None or kind in look.kinds:
            word = kind if look.words else SHORT_WORDS.get(kind, kind)
            text.append("" if not text else "  " if look.words else " ").append(f"{number:,} {word}", style=color)
    return text


def bar(line: PaceLine, width: int, stroke: str) -> Text:
    """Return a bar with the shares of successful, skipped, failed, and other children: those cancelled did not end.

    Examples
    --------
    >>> from prefectish.engine.driver.progress_view import StepCounts
    >>> counts = StepCounts("a-1", "a", True, 1000, True, 500, 1, 250, 0, 0, 1, 0, 0, False)
    >>> drawn = bar(PaceLine("a", counts, 1.0, None, None, None), 24, "-")
    >>> [(span.end - span.start, span.style) for span in drawn.spans]
    [(5, 'green'), (6, 'bright_black'), (1, 'red'), (12, 'bright_black dim')]
    """
    counts = line.counts
    whole = max(counts.width or 0, line.expected or 0, 1)
    failed = _pieces(counts.failed, whole, width)
    aside = min(_pieces(counts.skipped + counts.not_run, whole, width), width - failed)
    ended = min(width * line.ended // whole, width) if line.share is not None else 0
    drawn = Text()
    sizes = (max(ended - failed - aside, 0), "green"), (aside, "bright_black"), (failed, "red")
    for size, style in sizes if line.share is not None else ():
        drawn.append(stroke * size, style=style)
    return drawn.append(stroke * (width - len(drawn)), style="bright_black dim")


def _pieces(number: int, whole: int, width: int) -> int:
    """Return the number of characters for a number of children, at least one if it is not 0."""
    return min(max(round(width * number / whole), 1), width) if number else 0
