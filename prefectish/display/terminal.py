"""Progress in a terminal: one live line for each map, kept below whatever else is printed meanwhile."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Any, ClassVar

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from prefectish.display import words
from prefectish.display.pace import Line, Pace, Scene
from prefectish.engine.onlooking import StepCounts
from prefectish.engine.state import State
from prefectish.printable import printable

#: Longest name of a task, in letters; width of the bar.
NAME, BAR = 28, 24


class Terminal:
    """Draws the lines of a run with rich.

    Handlers of the logging module that write to the terminal are led through rich for as long as the lines are there,
    and so are prints: what they write appears above the lines. One run at a time has lines; others show how they ended.
    """

    _drawing: ClassVar[Terminal | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._console = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._led: list[tuple[Any, Any]] = []

    def look(self, counts: Sequence[StepCounts]) -> None:
        """Draw the lines."""
        if self._owner() is self:
            self._draw(self._drawn(self._pace.scene(counts, monotonic()), None))

    def rest(self) -> None:
        """Take the lines away."""
        if self._live is not None:
            self._live.transient = True
            self._stop()

    def ended(self, counts: Sequence[StepCounts], state: State | None) -> None:
        """Draw the lines for the last time, all of them."""
        drawn = self._drawn(self._pace.scene(counts, monotonic()), state, last=True)
        owner = self._owner()
        if owner is self:
            self._draw(drawn, last=True)
            self._stop()
        else:
            owner._console.print(drawn)

    def _owner(self) -> Terminal:
        """Take the terminal, if no other run has it; return who has it."""
        with Terminal._lock:
            if Terminal._drawing is None:
                Terminal._drawing = self
            return Terminal._drawing

    def _draw(self, drawn: Group, last: bool = False) -> None:
        if self._live is None:
            self._live = Live(
                drawn,
                console=self._console,
                auto_refresh=False,
                redirect_stdout=_is_terminal(sys.stdout),
                vertical_overflow="visible" if last else "crop",
            )
            streams = {stream for stream in (sys.stdout, sys.stderr) if _is_terminal(stream)}
            self._live.start(refresh=True)
            self._console.show_cursor(True)  # a debugger in a body needs it
            self._led = list(_led(streams))
        else:
            self._live.vertical_overflow = "visible" if last else "crop"
            self._live.update(drawn, refresh=True)

    def _stop(self) -> None:
        live, self._live = self._live, None
        with Terminal._lock:
            if Terminal._drawing is self:
                Terminal._drawing = None
        for handler, stream in self._led:
            handler.setStream(stream)
        self._led = []
        if live is not None:
            live.stop()

    def _drawn(self, scene: Scene, state: State | None, last: bool = False) -> Group:
        table = Table.grid(padding=(0, 2, 0, 0))
        for justify in ("left", "left", "right", "right", "right", "right", "left"):
            table.add_column(justify=justify, no_wrap=True)
        room = max(self._console.size.height - 4, 3)
        shown = list(scene.maps) if last else chosen(scene.maps, room)
        stroke = "-" if self._console.options.ascii_only else "━"
        for line in shown:
            table.add_row(*_cells(line, stroke))
        parts: list[Any] = [_head(scene, state, last), table]
        if hidden := len(scene.maps) - len(shown):
            parts.append(Text(f"and {hidden:,} more maps", style="dim"))
        if others := words.singles(scene):
            parts.append(Text(printable(others), style="dim"))
        return Group(*parts)


def chosen(lines: Sequence[Line], room: int) -> list[Line]:
    """Return the lines that fit, in order: those that go on first, then those that wait, then those that ended."""
    ranked = sorted(range(len(lines)), key=lambda n: (_rank(lines[n]), n))
    return [lines[n] for n in sorted(ranked[:room])]


def _rank(line: Line) -> int:
    if line.counts.final:
        return 2
    return 0 if line.seconds is not None else 1


def _head(scene: Scene, state: State | None, last: bool) -> Text:
    head = Text(printable(scene.title, 60), style="bold")
    if state is not None:
        head.append(f"  {type(state).__name__}", style=f"not bold {state.color}")
    elif last:
        head.append("  broke off", style="not bold red")
    return head.append(f"  {words.clock(scene.seconds)}", style="not bold dim")


def _cells(line: Line, stroke: str) -> list[Any]:
    counts = line.counts
    share = line.share
    rest = Text()
    for kind, number, color in words.others(line):
        rest.append("  " if rest else "").append(f"{number:,} {kind}", style=color)
    left = f"{words.clock(line.left)} left" if line.left is not None else words.clock(line.seconds)
    percent = "" if share is None or counts.width is None else f"{int(100 * share)}%"
    return [
        Text(printable(line.name, NAME)),
        bar(line, stroke),
        Text(words.how_many(line)),
        Text(percent),
        Text(words.pace(line), style="dim"),
        Text(left, style="" if line.left is not None else "dim"),
        rest,
    ]


def bar(line: Line, stroke: str) -> Text:
    """Return a bar: what ended well, what was skipped or cancelled, what failed, and what is left; nothing is lost.

    Examples
    --------
    >>> from prefectish.engine.onlooking import StepCounts
    >>> counts = StepCounts("a-1", "a", True, 1000, True, 500, 1, 250, 0, 0, 1, 0, 0, False)
    >>> drawn = bar(Line("a", counts, 1.0, None, None, None), "-")
    >>> [(span.end - span.start, span.style) for span in drawn.spans]
    [(5, 'green'), (6, 'bright_black'), (1, 'red'), (12, 'bright_black dim')]
    """
    counts = line.counts
    whole = max(counts.width or 0, line.expected or 0, 1)
    failed = _pieces(counts.failed, whole)
    aside = min(_pieces(counts.skipped + counts.cancelled, whole), BAR - failed)
    ended = min(BAR * counts.ended // whole, BAR) if line.share is not None else 0
    drawn = Text()
    sizes = (max(ended - failed - aside, 0), "green"), (aside, "bright_black"), (failed, "red")
    for size, style in sizes if line.share is not None else ():
        drawn.append(stroke * size, style=style)
    return drawn.append(stroke * (BAR - len(drawn)), style="bright_black dim")


def _pieces(number: int, whole: int) -> int:
    """Return how much of the bar stands for some of the whole; a few are not nothing."""
    return min(max(round(BAR * number / whole), 1), BAR) if number else 0


def _led(streams: set[Any]) -> Iterator[tuple[Any, Any]]:
    """Lead the handlers that write to the terminal to the streams that rich has put in its place; yield what was."""
    loggers = [logging.root, *(found for found in logging.root.manager.loggerDict.values())]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            stream = getattr(handler, "stream", None)
            if isinstance(handler, logging.StreamHandler) and stream in streams:
                new = sys.stdout if stream is getattr(sys.stdout, "rich_proxied_file", None) else sys.stderr
                handler.setStream(new)
                yield handler, stream


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False
