"""Progress where there is no terminal: a line for each map every few seconds, and at the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import monotonic

from prefectish.display import words
from prefectish.display.pace import PaceLine, RateMeter, Scene
from prefectish.engine.driver.progress_view import RunProgress
from prefectish.engine.state import State
from prefectish.safe_repr import printable

#: Time between two updates, in seconds.
INTERVAL = 5.0


class ProgressLines:
    """Writes lines to the standard error; failures are among them as they are logged."""

    shows_causes = False

    def __init__(self, pace: RateMeter) -> None:
        self._pace = pace
        self._due = monotonic() + INTERVAL

    def refresh(self, progress: RunProgress) -> None:
        """Write a round of lines, if the last is some time ago."""
        now = monotonic()
        scene = self._pace.scene(progress, now)
        if now >= self._due:
            self._due = now + INTERVAL
            _write(scene, [line for line in scene.maps if line.seconds is not None and not line.counts.final])
            for body in scene.inside:
                _say(scene, words.inside(body))

    def release_screen(self) -> None:
        """Do nothing: lines do not interfere with other output."""

    def ended(self, progress: RunProgress, state: State | None, stop: str | None = None) -> None:
        """Write a line for each map, and one for the run."""
        scene = self._pace.scene(progress, monotonic())
        _write(scene, scene.maps)
        _say(scene, words.ending(state, stop))


def _write(scene: Scene, lines: Sequence[PaceLine]) -> None:
    for line in lines:
        parts = [words.how_many(line), *(f"{number:,} {kind}" for kind, number, _ in words.others(line))]
        if line.rate is not None:
            parts.append(words.pace(line))
        if line.left is not None:
            parts.append(f"about {words.clock(line.left)} left")
        _say(scene, f"{line.name}: {', '.join(parts)}")
    if others := words.singles(scene):
        _say(scene, others)


def _say(scene: Scene, text: str) -> None:
    head = f"{scene.title} {words.clock(scene.seconds)}{' paused' if scene.paused else ''}"
    sys.stderr.write(f"{printable(f'{head} {text}')}\n")
    sys.stderr.flush()
