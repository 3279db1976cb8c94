"""`prefect.schedules.filters`: the filters, with naive dates, which are UTC."""

from __future__ import annotations

from datetime import datetime

from prefectish.compat.clocks import in_utc
from prefectish.schedules import filters
from prefectish.schedules.filters import (
    Filter,
    at_time,
    between_dates,
    between_times,
    is_month_end,
    is_month_start,
    is_weekday,
    is_weekend,
    on_date,
)

__all__ = [
    "at_time", "between_dates", "between_datetimes", "between_times", "is_day_of_week", "is_month_end",
    "is_month_start", "is_weekday", "is_weekend", "on_date", "on_datetime",
]  # fmt: skip


def between_datetimes(start: datetime, end: datetime) -> Filter:
    """Return a filter for times from one datetime to another."""
    return filters.between_datetimes(in_utc(start), in_utc(end))


def on_datetime(dt: datetime) -> Filter:
    """Return a filter for one datetime."""
    return filters.on_datetime(in_utc(dt))


class _DayOfWeek:
    """Filter for one day of the week; a class, so that it can be pickled."""

    def __init__(self, day: int) -> None:
        self.day = day

    def __call__(self, dt: datetime) -> bool:
        return dt.weekday() == self.day


def is_day_of_week(day_of_week: int) -> Filter:
    """Return a filter for one day of the week; Monday is 0."""
    return _DayOfWeek(day_of_week)
