"""Filters of schedules: functions of the time of an event, in the clock's zone, that decide whether it is kept.

Each function here returns a filter, except the last four, which are filters. Any function of a datetime is a filter.

Examples
--------
>>> at_work = between_times(time(9), time(17))
>>> at_work(datetime(2026, 5, 1, 12)), at_work(datetime(2026, 5, 1, 20))
(True, False)
>>> is_weekday(datetime(2026, 5, 1))
True
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING

from prefectish.errors import FlowDefinitionError
from prefectish.missing_names import lead_out
from prefectish.schedules.zones import aware

Filter = Callable[[datetime], bool]


class Within:
    """Filter for a part of a time between two bounds, inclusive; a class, so that it can be pickled.

    A begin after the end spans midnight, or the new year.
    """

    __slots__ = ("begin", "end", "kind")

    def __init__(self, kind: str, begin: object, end: object) -> None:
        self.kind, self.begin, self.end = kind, begin, end

    def __call__(self, moment: datetime) -> bool:
        """Whether the time is within the bounds."""
        begin, value, end = self.begin, _READERS[self.kind](moment), self.end
        if begin <= end:  # type: ignore[operator]  # all three are what one reader gives
            return begin <= value <= end  # type: ignore[operator, no-any-return]
        return value >= begin or value <= end  # type: ignore[operator, no-any-return]

    def __repr__(self) -> str:
        return f"<{self.kind} from {self.begin} to {self.end}>"


_READERS: dict[str, Callable[[datetime], object]] = {
    "datetimes": lambda moment: moment.astimezone(UTC),
    "dates": lambda moment: (moment.month, moment.day),
    "days of the week": datetime.weekday,
    "times": datetime.time,
}


def between_datetimes(start: datetime, end: datetime) -> Filter:
    """Return a filter for times from one aware datetime to another."""
    first, last = aware("start", start).astimezone(UTC), aware("end", end).astimezone(UTC)
    if last < first:
        raise FlowDefinitionError(f"between_datetimes: end must not be before start, got {end} < {start}")
    return Within("datetimes", first, last)


def on_datetime(dt: datetime) -> Filter:
    """Return a filter for one aware datetime."""
    instant = aware("dt", dt).astimezone(UTC)
    return Within("datetimes", instant, instant)


def between_dates(start_month: int, start_day: int, end_month: int, end_day: int) -> Filter:
    """Return a filter for a part of each year; a begin after the end spans the new year."""
    return Within("dates", _checked_day(start_month, start_day), _checked_day(end_month, end_day))


def on_date(month: int, day: int) -> Filter:
    """Return a filter for one day of each year."""
    return between_dates(month, day, month, day)


def between_times(start: time, end: time) -> Filter:
    """Return a filter for a part of each day; a begin after the end spans midnight."""
    return Within("times", _checked_time("start", start), _checked_time("end", end))


def at_time(time: time) -> Filter:
    """Return a filter for one time of each day."""
    return Within("times", _checked_time("time", time), time)


def is_day_of_week(day_of_week: int) -> Filter:
    """Return a filter for one day of the week; Monday is 0."""
    if not isinstance(day_of_week, int) or not 0 <= day_of_week <= 6:
        raise FlowDefinitionError(f"day_of_week must be 0, for Monday, to 6, got {day_of_week!r}")
    return Within("days of the week", day_of_week, day_of_week)


def is_weekday(dt: datetime) -> bool:
    """Whether it is Monday to Friday."""
    return dt.weekday() < 5


def is_weekend(dt: datetime) -> bool:
    """Whether it is Saturday or Sunday."""
    return dt.weekday() >= 5


def is_month_start(dt: datetime) -> bool:
    """Whether it is the first of a month."""
    return dt.day == 1


def is_month_end(dt: datetime) -> bool:
    """Whether it is the last day of a month."""
    return dt.day == monthrange(dt.year, dt.month)[1]


def _checked_day(month: int, day: int) -> tuple[int, int]:
    try:
        datetime(2000, month, day)  # a leap year
    except (TypeError, ValueError) as error:
        raise FlowDefinitionError(f"month={month!r}, day={day!r}: no such day ({error})") from None
    return month, day


def _checked_time(name: str, value: time) -> time:
    if not isinstance(value, time):
        raise TypeError(f"{name} must be a datetime.time, got {value!r}")
    if value.tzinfo is not None:
        raise FlowDefinitionError(
            f"{name} must be a time without a time zone (the clock's zone applies), got {value!r}"
        )
    return value


if not TYPE_CHECKING:
    __getattr__ = lead_out(__name__)
