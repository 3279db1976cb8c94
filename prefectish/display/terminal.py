"""Progress in a terminal: one live line for each map, in the last rows of the screen."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from time import monotonic
from typing import Any, ClassVar

from rich.console import Console, Group
from rich.text import Text

from prefectish.display import views, words
from prefectish.display.fitting import fitted
from prefectish.display.pace import PaceLine, RateMeter, Scene
from prefectish.display.region import Region
from prefectish.engine.driver.progress_view import RunProgress
from prefectish.engine.state import State
from prefectish.safe_repr import printable

#: Number of rows of the terminal that are not used for maps.
OTHER_ROWS = 6
#: Causes of failures that are shown during a run, and at its end.
CAUSES, CAUSES_AT_END = 4, 10
#: Bodies that say themselves how far they are.
INSIDE = 4


class Terminal:
    """Draws the progress of a run with rich.

    Only one run at a time uses the last rows of the terminal; others only print their final state.
    """

    shows_causes = True
    _drawing: ClassVar[Terminal | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, pace: RateMeter) -> None:
        self._pace = pace
        self._console = Console(stderr=True, highlight=False)
        self._region = Region(sys.stderr)

    @property
    def can_draw(self) -> bool:
        """Whether the terminal supports it, and is large enough."""
        console = self._console
        if not console.is_terminal or console.is_dumb_terminal or console.legacy_windows:
            return False
        return self._region.size()[1] > OTHER_ROWS

    def refresh(self, progress: RunProgress) -> None:
        """Draw the lines."""
        if self._has_the_rows():
            columns, rows = self._region.size()
            scene = self._pace.scene(progress, monotonic())
            causes = min(CAUSES, len(scene.causes), (rows - OTHER_ROWS) // 2)
            drawn = self._drawn(
                scene, columns, causes, room=rows - OTHER_ROWS - causes - min(INSIDE, len(scene.inside))
            )
            with self._console.capture() as captured:
                self._console.print(drawn, width=columns, no_wrap=True, overflow="ellipsis", crop=True)
            self._region.draw(captured.get().splitlines())

    def release_screen(self) -> None:
        """Remove the lines."""
        self._region.release()
        with Terminal._lock:
            if Terminal._drawing is self:
                Terminal._drawing = None

    def ended(self, progress: RunProgress, state: State | None, stop: str | None = None) -> None:
        """Print all final lines, as ordinary output."""
        self.release_screen()
        drawn = self._drawn(
            self._pace.scene(progress, monotonic()), self._console.width, CAUSES_AT_END, words.ending(state, stop)
        )
        self._console.print(drawn, no_wrap=True, overflow="ellipsis", crop=True)

    def _has_the_rows(self) -> bool:
        """Reserve the last rows of the terminal, if no other run uses them."""
        with Terminal._lock:
            if Terminal._drawing is None:
                Terminal._drawing = self
            return Terminal._drawing is self

    def _drawn(
        self, scene: Scene, columns: int, causes: int, ending: str | None = None, room: int | None = None
    ) -> Group:
        """Return what is shown: during the run as many maps as fit, at the end all."""
        shown = list(scene.maps) if room is None else chosen(scene.maps, room)
        stroke = "-" if self._console.options.ascii_only else "━"
        parts: list[Any] = [_head(scene, ending)]
        if shown:
            parts.append(fitted(shown, columns, stroke))
        if hidden := len(scene.maps) - len(shown):
            parts.append(Text(f"and {hidden:,} more maps", style="dim"))
        if others := words.singles(scene):
            parts.append(Text(printable(others), style="dim"))
        for body in scene.inside[:INSIDE]:
            parts.append(Text(printable(words.inside(body)), style="blue", no_wrap=True, overflow="ellipsis"))
        told, rest = words.chosen_causes(scene, causes)
        for count in told:
            color = "red" if count.is_final else "yellow"
            parts.append(Text(printable(words.cause(count)), style=color, no_wrap=True, overflow="ellipsis"))
        if rest and room is None:
            parts.append(Text(f"and {rest:,} more causes", style="dim"))
        return Group(*parts)


def chosen(lines: Sequence[PaceLine], room: int) -> list[PaceLine]:
    """Return the lines that fit, in order, preferring running maps over waiting ones, and those over finished ones."""
    ranked = sorted(range(len(lines)), key=lambda n: (_rank(lines[n]), n))
    return [lines[n] for n in sorted(ranked[:room])]


def _rank(line: PaceLine) -> int:
    if line.counts.final:
        return 2
    return 0 if line.seconds is not None else 1


def _head(scene: Scene, ending: str | None) -> Text:
    head = Text(printable(scene.title, 60), style="bold")
    if ending is not None:
        kind = ending.partition(":")[0]
        color = views.color_of(kind) if kind in views.STATE_ORDER else "red"
        head.append(f"  {ending}", style=f"not bold {color}")
    elif scene.paused:
        head.append("  paused", style="not bold magenta")
    return head.append(f"  {words.clock(scene.seconds)}", style="not bold dim")
