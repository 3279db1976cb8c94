"""The clock of a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefectish.engine.clock import RunClock

START = datetime(2026, 1, 1, tzinfo=UTC)


class Ticking:
    """A source of time that goes on by a second with each look at it."""

    def __init__(self) -> None:
        self.looked = 0

    def seconds(self) -> float:
        self.looked += 1
        return float(self.looked)

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.looked)


def test_wall_clock_that_is_read_late_is_that_of_the_seconds():
    source = Ticking()
    now = RunClock(source).moment()
    source.looked += 100  # another thread had its turn
    assert now.wall <= START + timedelta(seconds=now.seconds)
