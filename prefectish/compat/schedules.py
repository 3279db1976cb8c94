"""`prefect.schedules`: schedules, and naive dates, which are UTC."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from prefectish import schedules
from prefectish.compat.clocks import ClockEvent, CronClock, DatesClock, IntervalClock, in_utc
from prefectish.schedules import clocks
from prefectish.schedules.adjustments import Adjustment
from prefectish.schedules.clocks import Clock
from prefectish.schedules.filters import Filter

#: Takes the place of the clocks of a schedule that has none.
NEVER = DatesClock([datetime(1970, 1, 1)])


class Schedule(schedules.Schedule):
    """When a flow runs; see :class:`prefectish.schedules.Schedule`.

    A subclass may have a `next` of its own, and no clocks.
    """

    def __init__(
        self,
        clocks: Iterable[Clock],
        filters: Iterable[Filter] | None = None,
        or_filters: Iterable[Filter] | None = None,
        not_filters: Iterable[Filter] | None = None,
        adjustments: Iterable[Adjustment] | None = None,
    ) -> None:
        clocks = list(clocks)
        super().__init__(clocks or [NEVER], filters, or_filters, not_filters, adjustments, self._has_own_next())
        self.clocks = clocks

    def _has_own_next(self) -> bool:
        return type(self).next is not Schedule.next

    def events(self, after: datetime | None = None) -> Iterator[clocks.ClockEvent]:
        """Yield the events in order."""
        return self._asked() if self._has_own_next() else super().events(in_utc(after))

    def _asked(self) -> Iterator[clocks.ClockEvent]:
        """Yield what the `next` of a subclass returns, one by one."""
        while found := self.next(1, return_events=True):
            for event in found:
                yield event if isinstance(event, clocks.ClockEvent) else ClockEvent(event)

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
