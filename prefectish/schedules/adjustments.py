"""Adjustments of schedules: functions that move the time of an event. Any function between aware datetimes is one.

An adjustment moves an event by at most its attribute `reach`, a timedelta; without the attribute by at most
`DEFAULT_REACH`. A schedule needs it to yield moved events in order, and once.

Examples
--------
>>> next_weekday(datetime(2026, 5, 2, 9))  # a Saturday
datetime.datetime(2026, 5, 4, 9, 0)
>>> add(timedelta(minutes=30))(datetime(2026, 5, 2, 9))
datetime.datetime(2026, 5, 2, 9, 30)
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Adjustment = Callable[[datetime], datetime]

#: Maximum distance by which an adjustment without the attribute `reach` moves an event.
DEFAULT_REACH = timedelta(days=7)


class Add:
    """Adjustment by elapsed time; a class, so that it can be pickled."""

    __slots__ = ("interval", "reach")

    def __init__(self, interval: timedelta) -> None:
        self.interval = interval
        self.reach = abs(interval)

    def __call__(self, moment: datetime) -> datetime:
        """Return the time, moved."""
        if moment.tzinfo is None:
            return moment + self.interval
        return (moment.astimezone(UTC) + self.interval).astimezone(moment.tzinfo)

    def __repr__(self) -> str:
        return f"add({self.interval!r})"


def add(interval: timedelta) -> Adjustment:
    """Return an adjustment by an interval of elapsed time, backward if negative."""
    if not isinstance(interval, timedelta):
        raise TypeError(f"interval must be a timedelta, got {interval!r}")
    return Add(interval)


def next_weekday(dt: datetime) -> datetime:
    """Move a Saturday or Sunday to the following Monday at the same wall time; leave other days."""
    return dt + timedelta(days=7 - dt.weekday()) if dt.weekday() >= 5 else dt


next_weekday.reach = timedelta(days=2, hours=1)  # type: ignore[attr-defined]  # two days of wall time


def reach_of(adjustment: Adjustment) -> timedelta:
    """Return the maximum distance by which an adjustment moves an event."""
    reach: timedelta = getattr(adjustment, "reach", DEFAULT_REACH)
    return reach
