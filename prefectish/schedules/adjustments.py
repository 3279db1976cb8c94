"""Adjustments of schedules: functions that move an event's time. Any function of an aware datetime to another is one.

An adjustment moves an event by at most its attribute `reach`, a timedelta; one without the attribute by at most
``DEFAULT_REACH``. By that a schedule knows how far to look back and ahead so that moved events come in order, and once.

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

#: How far an adjustment that does not say so moves an event at most.
DEFAULT_REACH = timedelta(days=7)


class _Add:
    """Moves by elapsed time; a class, so that it can be pickled."""

    __slots__ = ("interval", "reach")

    def __init__(self, interval: timedelta) -> None:
        self.interval = interval
        self.reach = abs(interval)

    def __call__(self, moment: datetime) -> datetime:
        if moment.tzinfo is None:
            return moment + self.interval
        return (moment.astimezone(UTC) + self.interval).astimezone(moment.tzinfo)

    def __repr__(self) -> str:
        return f"add({self.interval!r})"


def add(interval: timedelta) -> Adjustment:
    """Return an adjustment by an interval, forward or, if it is negative, back; of elapsed time."""
    if not isinstance(interval, timedelta):
        raise TypeError(f"interval must be a timedelta, got {interval!r}")
    return _Add(interval)


def next_weekday(dt: datetime) -> datetime:
    """Move a Saturday or Sunday to the Monday after it, at the same time on the wall; leave other days."""
    return dt + timedelta(days=7 - dt.weekday()) if dt.weekday() >= 5 else dt


next_weekday.reach = timedelta(days=2, hours=1)  # type: ignore[attr-defined]  # two days on the wall


def reach_of(adjustment: Adjustment) -> timedelta:
    """Return how far an adjustment moves an event at most."""
    reach: timedelta = getattr(adjustment, "reach", DEFAULT_REACH)
    return reach
