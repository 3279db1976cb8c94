"""What time it is, asked once a turn of the loop."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime


class Moment:
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
