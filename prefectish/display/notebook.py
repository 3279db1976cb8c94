"""Progress in a notebook: one output that is replaced while the run goes on, and saved with the notebook as it ends."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import Context
from time import monotonic
from typing import Any

from prefectish.display import words
from prefectish.display.pace import PaceLine, RateMeter, Scene
from prefectish.display.page import rendered
from prefectish.display.views import Count, color_of
from prefectish.engine.driver.progress_view import StepCounts
from prefectish.engine.state import State

#: Shortest time between two messages to the page, in seconds.
UPDATE_INTERVAL = 0.4
#: Maps that are shown, at most.
MAX_MAPS = 60


class Notebook:
    """Shows a run in the output of the cell that started it."""

    def __init__(self, pace: RateMeter) -> None:
        self._pace = pace
        self._handle: Any = None
        self._due = 0.0

    def refresh(self, counts: Sequence[StepCounts], paused: bool = False) -> None:
        """Replace what is shown, if that is some time ago."""
        now = monotonic()
        scene = self._pace.scene(counts, now, paused)
        if now >= self._due:
            self._due = now + UPDATE_INTERVAL
            self._show(drawn(scene, None, last=False))

    def release_screen(self) -> None:
        """Do nothing: the output is in nobody's way."""

    def ended(self, counts: Sequence[StepCounts], state: State | None) -> None:
        """Show how it ended."""
        self._show(drawn(self._pace.scene(counts, monotonic()), state, last=True))

    def _show(self, html: str) -> None:
        from importlib import import_module

        shell: Any = import_module("IPython.display")  # without types
        if self._handle is None:
            self._handle = shell.display(shell.HTML(html), display_id=True)
        else:
            # In a context of its own: a run in the background goes on beside other cells, and some programs take
            # only what is sent as part of the cell that runs now.
            Context().run(self._handle.update, shell.HTML(html))


def drawn(scene: Scene, state: State | None, last: bool) -> str:
    """Return a run as HTML."""
    now = "Paused" if scene.paused else "Running"
    kind = type(state).__name__ if state is not None else "broke off" if last else now
    color = state.color if state is not None else color_of("Failed" if last else now)
    rows = [(line, _parts(line), words.how_many(line), words.pace(line), _left(line)) for line in scene.maps[:MAX_MAPS]]
    return rendered(
        "progress.html",
        scene=scene,
        kind=kind,
        color=color,
        rows=rows,
        hidden=len(scene.maps) - len(rows),
        others=words.singles(scene),
        took=words.clock(scene.seconds or None),
    )


def _left(line: PaceLine) -> str:
    if line.left is not None:
        return f"{words.clock(line.left)} left"
    return words.clock(line.seconds)


def _parts(line: PaceLine) -> list[Count]:
    """Return how much of the bar is for children of each kind."""
    counts = line.counts
    whole = max(counts.width or 0, line.expected or 0) or 1
    kinds = (
        ("Success", line.done - counts.cached),
        ("Cached", counts.cached),
        ("Skipped", counts.skipped),
        ("Cancelled", counts.cancelled),
        ("Failed", counts.failed),
        ("Retrying", counts.retrying),
        ("Paused", counts.paused),
        ("Running", counts.running),
    )
    return [Count(kind, color_of(kind), number, number / whole) for kind, number in kinds if number > 0]
