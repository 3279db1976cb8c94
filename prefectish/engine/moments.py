"""What time it is, asked once a turn of the loop."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from prefectish.engine import clock as clocks
from prefectish.engine.clock import Clock, later


class Now:
    """Now: seconds of a monotonic clock, and the wall clock that states show, asked only if a state shows it."""

    __slots__ = ("_read_wall", "_wall", "seconds")

    def __init__(self, seconds: float, read_wall: Callable[[], datetime]) -> None:
        self.seconds = seconds
        self._read_wall = read_wall
        self._wall: datetime | None = None

    @property
    def wall(self) -> datetime:
        """Return the aware time now, the same however often it is asked."""
        if self._wall is None:
            self._wall = self._read_wall()
        return self._wall


class RunClock:
    """The time of one run: the clock of the process, save that recorded times never run backwards.

    A wall clock that is set back under a run goes on from where it was.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.source = clock or clocks.current
        self._last: tuple[float, datetime] | None = None

    def moment(self) -> Now:
        """Return the time now."""
        return Now(self.source.seconds(), self._wall)

    def _wall(self) -> datetime:
        seconds, wall = self.source.seconds(), self.source.wall()
        if self._last is not None and wall < self._last[1]:
            wall = later(self._last[1], seconds - self._last[0])
        self._last = seconds, wall
        return wall
