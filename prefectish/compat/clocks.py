"""`prefect.schedules.clocks`: clocks with labels. Naive dates are UTC, as :func:`prefectish.compat.install` says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from prefectish.schedules import clocks
from prefectish.schedules.zones import aware


class ClockEvent(clocks.ClockEvent):
    """A time at which a flow runs, with values for parameters, and labels.

    Attributes
    ----------
    labels
        Labels of its clock.
    """

    __slots__ = ("labels",)

    def __init__(
        self,
        start_time: datetime,
        parameter_defaults: Mapping[str, Any] | None = None,
        labels: list[str] | None = None,
    ) -> None:
        super().__init__(aware("start_time", start_time), parameter_defaults)
        self.labels = labels

    def is_for(self, other: clocks.ClockEvent) -> bool:
        """Whether both events have the same parameters and labels."""
        return super().is_for(other) and self.labels == getattr(other, "labels", None)

    def moved_to(self, start_time: datetime) -> ClockEvent:
        """Return the event at another time."""
        return ClockEvent(start_time, self.parameter_defaults, self.labels)

    def __lt__(self, other: clocks.ClockEvent) -> bool:
        return self.instant < other.instant

    def __gt__(self, other: clocks.ClockEvent) -> bool:
        return self.instant > other.instant

    def __le__(self, other: clocks.ClockEvent) -> bool:
        return self.instant <= other.instant

    def __ge__(self, other: clocks.ClockEvent) -> bool:
        return self.instant >= other.instant


class Clock(clocks.Clock):
    """Base class of clocks.

    Parameters
    ----------
    start_date, end_date
        Events are between them; without a time zone they are UTC.
    parameter_defaults
        Values of parameters for runs at this clock's events.
    labels
        Labels of its events.
    """

    labels: list[str] | None = None

    def __init__(
        self,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        parameter_defaults: Mapping[str, Any] | None = None,
        labels: list[str] | None = None,
    ) -> None:
        clocks.Clock.__init__(self, start_date, end_date, None, parameter_defaults)
        self.labels = labels

    def events(self, after: datetime | None = None) -> Iterator[clocks.ClockEvent]:
        """Return the events, in order."""
        if type(self) is Clock:
            raise NotImplementedError("a clock has a method events(after)")
        found = super().events(after)
        return (ClockEvent(event.start_time, event.parameter_defaults, self.labels) for event in found)


class IntervalClock(Clock, clocks.IntervalClock):
    """Events at regular intervals; see :class:`prefectish.schedules.clocks.IntervalClock`."""

    def __init__(
        self,
        interval: timedelta,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        parameter_defaults: Mapping[str, Any] | None = None,
        labels: list[str] | None = None,
    ) -> None:
        clocks.IntervalClock.__init__(self, interval, start_date, end_date, parameter_defaults=parameter_defaults)
        self.labels = labels


#: Expressions that have a name.
NAMED = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip


class CronClock(Clock, clocks.CronClock):
    """Events by a cron expression; see :class:`prefectish.schedules.clocks.CronClock`."""

    def __init__(
        self,
        cron: str,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        parameter_defaults: Mapping[str, Any] | None = None,
        labels: list[str] | None = None,
        day_or: bool = True,
    ) -> None:
        cron = NAMED.get(cron, cron) if isinstance(cron, str) else cron
        if isinstance(cron, str) and len(cron.split()) < 5:
            raise ValueError(f"Invalid cron string: {cron!r}")
        clocks.CronClock.__init__(
            self, cron, start_date, end_date, parameter_defaults=parameter_defaults, day_or=day_or
        )
        self.labels = labels


class DatesClock(Clock, clocks.DatesClock):
    """Events at fixed times; see :class:`prefectish.schedules.clocks.DatesClock`."""

    def __init__(
        self,
        dates: Iterable[datetime],
        parameter_defaults: Mapping[str, Any] | None = None,
        labels: list[str] | None = None,
    ) -> None:
        clocks.DatesClock.__init__(self, dates, parameter_defaults=parameter_defaults)
        self.labels = labels


class RRuleClock(Clock, clocks.RRuleClock):
    """Events by a recurrence rule; see :class:`prefectish.schedules.clocks.RRuleClock`."""

    def __init__(
        self,
        rrule_obj: Any,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        parameter_defaults: Mapping[str, Any] | None = None,
        labels: list[str] | None = None,
    ) -> None:
        clocks.RRuleClock.__init__(self, rrule_obj, start_date, end_date, parameter_defaults=parameter_defaults)
        self.rrule_obj = self.rule
        self.labels = labels
