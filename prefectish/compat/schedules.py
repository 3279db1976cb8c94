"""`prefect.schedules`: schedules that may have no clocks, or a `next` of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from prefectish import schedules
from prefectish.compat.clocks import ClockEvent, CronClock, DatesClock, IntervalClock, RRuleClock
from prefectish.engine.clock import now
from prefectish.errors import FlowDefinitionError
from prefectish.schedules import clocks
from prefectish.schedules.adjustments import Adjustment, reach_of
from prefectish.schedules.as_json import to_json
from prefectish.schedules.clocks import Clock
from prefectish.schedules.filters import Filter
from prefectish.schedules.schedule import each_once
from prefectish.schedules.zones import aware

#: Takes the place of the clocks of a schedule that has none.
NEVER = DatesClock([datetime(1970, 1, 1, tzinfo=UTC)])


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
        has_own_next = type(self).next is not Schedule.next
        super().__init__(clocks or [NEVER], filters, or_filters, not_filters, adjustments, has_own_next)
        self.clocks = clocks

    @property
    def start_date(self) -> datetime | None:
        """The first date at which one of its clocks starts."""
        return min((clock.start_date for clock in self.clocks if clock.start_date is not None), default=None)

    @property
    def end_date(self) -> datetime | None:
        """The last date at which its clocks end; None if one of them does not."""
        dates = [clock.end_date for clock in self.clocks]
        return max(dates, default=None) if None not in dates else None  # type: ignore[type-var]

    def __init_subclass__(cls) -> None:
        if "next" in vars(cls) and "events" not in vars(cls):
            cls.events = _asked  # type: ignore[assignment, method-assign]  # what a run asks a schedule for

    def next(self, n: int, after: datetime | None = None, return_events: bool = False) -> Sequence[Any]:  # type: ignore[override]
        """Return the times of the next events, or the events: those whose clocks come after `after`, then adjusted."""
        if not self.adjustments:
            return super().next(n, after, return_events=return_events)  # type: ignore[call-overload, no-any-return]
        start = now() if after is None else aware("after", after).astimezone(UTC)
        reach = sum(map(reach_of, self.adjustments), timedelta(0))
        found = list(islice(each_once(self.adjusted(start, reach)), n))
        return found if return_events else [event.start_time for event in found]

    def serialize(self) -> dict[str, Any]:
        """Return what the schedule is as plain values; FlowDefinitionError for one that has functions of one's own."""
        return {"type": "Schedule", **to_json(self)}


def schedule_as_json(schedule: Any) -> Any:
    """Return a schedule as plain values; as text, if it has functions of one's own; None for none."""
    if schedule is None:
        return None
    try:
        return {"type": "Schedule", **to_json(schedule)}
    except FlowDefinitionError:
        return repr(schedule)


def _asked(schedule: Schedule, after: datetime | None = None) -> Iterator[clocks.ClockEvent]:
    """Yield what the `next` of a subclass returns, one by one."""
    while found := schedule.next(1, return_events=True):
        for event in found:
            yield event if isinstance(event, clocks.ClockEvent) else ClockEvent(event)


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


def RRuleSchedule(
    rrule_obj: Any, start_date: datetime | None = None, end_date: datetime | None = None, **options: Any
) -> Schedule:
    """Return a schedule of one clock of a recurrence rule."""
    return Schedule([RRuleClock(rrule_obj, start_date, end_date, **options)])
