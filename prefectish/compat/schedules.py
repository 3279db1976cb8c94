"""`prefect.schedules`: schedules, and naive dates, which are UTC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from prefectish import schedules
from prefectish.compat.clocks import CronClock, IntervalClock, in_utc
from prefectish.schedules.clocks import ClockEvent


class Schedule(schedules.Schedule):
    """When a flow runs; see :class:`prefectish.schedules.Schedule`."""

    def events(self, after: datetime | None = None) -> Iterator[ClockEvent]:
        """Yield the events in order."""
        return super().events(in_utc(after))

    def next(self, n: int, after: datetime | None = None, return_events: bool = False) -> Sequence[Any]:  # type: ignore[override]
        """Return the times of the next events, or the events."""
        return super().next(n, in_utc(after), return_events=return_events)  # type: ignore[call-overload, no-any-return]


def IntervalSchedule(
    interval: Any = None, start_date: Any = None, end_date: datetime | None = None, **options: Any
) -> Schedule:
    """Return a schedule of one interval clock.

    Parameters
    ----------
    interval, start_date
        In any order.
    end_date, **options
        As for the clock.
    """
    if isinstance(start_date, timedelta):
        interval, start_date = start_date, interval
    return Schedule([IntervalClock(interval, start_date, end_date, **options)])


def CronSchedule(
    cron: str, start_date: datetime | None = None, end_date: datetime | None = None, **options: Any
) -> Schedule:
    """Return a schedule of one cron clock."""
    return Schedule([CronClock(cron, start_date, end_date, **options)])
