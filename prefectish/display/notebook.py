"""Progress in a notebook: one output that is updated during the run, and saved with the notebook."""

from __future__ import annotations

from contextvars import Context
from time import monotonic
from typing import Any

from prefectish.display import words
from prefectish.display.pace import PaceLine, RateMeter, Scene
from prefectish.display.page import rendered
from prefectish.display.views import Count, color_of
from prefectish.engine.driver.progress_view import RunProgress
from prefectish.engine.state import State

#: Minimum time between two updates, in seconds.
UPDATE_INTERVAL = 0.4
#: Maximum number of maps that are shown.
MAX_MAPS = 60
#: Maximum number of causes of failures that are shown.
MAX_CAUSES = 8


class Notebook:
    """Shows the progress of a run in the output of its cell."""

    shows_causes = True

    def __init__(self, pace: RateMeter) -> None:
        self._pace = pace
        self._handle: Any = None
        self._due = 0.0

    def refresh(self, progress: RunProgress) -> None:
        """Update the output, if the last update was some time ago."""
        now = monotonic()
        scene = self._pace.scene(progress, now)
        if now >= self._due:
            self._due = now + UPDATE_INTERVAL
            self._show(drawn(scene, None, last=False))

    def release_screen(self) -> None:
        """Do nothing: the output does not interfere with others."""

    def ended(self, progress: RunProgress, state: State | None, stop: str | None = None) -> None:
        """Show the final state."""
        self._show(drawn(self._pace.scene(progress, monotonic()), state, last=True, stop=stop))

    def _show(self, html: str) -> None:
        from importlib import import_module

        shell: Any = import_module("IPython.display")  # without types
        if self._handle is None:
            self._handle = shell.display(shell.HTML(html), display_id=True)
        else:
            # In a new context: a background run continues during other cells, and some frontends only accept
            # messages that belong to the current cell.
            Context().run(self._handle.update, shell.HTML(html))


def show_link(title: str, link: str) -> None:
    """Show a link in the output of the cell."""
    from importlib import import_module

    shell: Any = import_module("IPython.display")  # without types
    shell.display(shell.HTML(rendered("link.html", title=title, link=link)))


def drawn(scene: Scene, state: State | None, last: bool, stop: str | None = None) -> str:
    """Return a run as HTML."""
    now = "Paused" if scene.paused else "Running"
    kind = type(state).__name__ if state is not None else "aborted" if last else now
    kind, _, told = (words.ending(state, stop) if last else kind).partition(": ")
    color = state.color if state is not None else color_of("Failed" if last else now)
    rows = [(line, _parts(line), words.how_many(line), words.pace(line), _left(line)) for line in scene.maps[:MAX_MAPS]]
    causes, rest = words.chosen_causes(scene, MAX_CAUSES)
    return rendered(
        "progress.html",
        scene=scene,
        kind=kind,
        told=told,
        color=color,
        rows=rows,
        causes=causes,
        inside=[words.inside(body) for body in scene.inside[:MAX_CAUSES]],
        more_causes=rest,
        hidden=len(scene.maps) - len(rows),
        others=words.singles(scene),
        took=words.clock(scene.seconds or None),
    )


def _left(line: PaceLine) -> str:
    if line.left is not None:
        return f"{words.clock(line.left)} left"
    return words.clock(line.seconds)


def _parts(line: PaceLine) -> list[Count]:
    """Return the share of the bar for each kind of children."""
    counts = line.counts
    whole = max(counts.width or 0, line.expected or 0) or 1
    kinds = (
        ("Success", line.done - counts.cached),
        ("Cached", counts.cached),
        ("Skipped", counts.skipped),
        ("Cancelled", counts.cancelled),
        ("TriggerFailed", counts.not_run),
        ("Failed", counts.failed),
        ("Retrying", counts.retrying),
        ("Paused", counts.paused),
        ("Running", counts.running),
    )
    return [Count(kind, color_of(kind), number, number / whole) for kind, number in kinds if number > 0]
