"""A schedule: events of clocks, filtered, adjusted, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from heapq import heappop, heappush, merge
from itertools import count, islice
from operator import attrgetter
from typing import Any, Literal, overload

from prefectish.engine.clock import now
from prefectish.errors import FlowDefinitionError
from prefectish.schedules.adjustments import Adjustment, reach_of
from prefectish.schedules.clocks import Clock, ClockEvent, CronClock, IntervalClock
from prefectish.schedules.filters import Filter
from prefectish.schedules.zones import aware

#: Number of events in a row that may be filtered out before a schedule counts as ended.
MAX_FILTERED_EVENTS = 3_000_000


class Schedule:
    """When a flow runs: ``Flow(..., schedule=Schedule([...]))``.

    Events of all clocks are merged in order. Events with the same time and parameters count once; with the same
    time and different parameters they are two events.

    Parameters
    ----------
    clocks
        One or more clocks.
    filters, or_filters, not_filters
        Functions of the aware datetime of an event: all `filters`, at least one of `or_filters` (if there are any) and
        none of `not_filters` must be true for the event to be kept.
    adjustments
        Functions from the datetime of an event to another one, applied in order after the filters.
    catch_up
        Whether to run all events that were missed, because the machine was suspended or a run took too long,
        one after the other. Otherwise only the last of them is run, once for each set of parameter defaults.

    Raises
    ------
    FlowDefinitionError
        If there are no clocks.
    TypeError
        If a clock or a function has another type.

    Examples
    --------
    >>> from prefectish.schedules.clocks import DatesClock
    >>> one, two = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC)
    >>> schedule = Schedule([DatesClock([one, two]), DatesClock([one], parameter_defaults={"region": "eu"})])
    >>> [str(moment) for moment in schedule.next(3, after=datetime(2026, 4, 30, tzinfo=UTC))]
    ['2026-05-01 00:00:00+00:00', '2026-05-01 00:00:00+00:00', '2026-05-02 00:00:00+00:00']
    """

    def __init__(
        self,
        clocks: Iterable[Clock],
        filters: Iterable[Filter] | None = None,
        or_filters: Iterable[Filter] | None = None,
        not_filters: Iterable[Filter] | None = None,
        adjustments: Iterable[Adjustment] | None = None,
        catch_up: bool = False,
    ) -> None:
        if isinstance(clocks, Clock):
            raise TypeError(f"clocks must be a list of clocks, got {clocks!r}")
        self.clocks = list(clocks)
        for clock in self.clocks:
            if not isinstance(clock, Clock):
                raise TypeError(f"clocks: expected a clock, got {clock!r}; see prefectish.schedules.clocks")
        if not self.clocks:
            raise FlowDefinitionError("clocks must have at least one clock, got []")
        self.filters = _functions("filters", filters)
        self.or_filters = _functions("or_filters", or_filters)
        self.not_filters = _functions("not_filters", not_filters)
        self.adjustments = _functions("adjustments", adjustments)
        self.catch_up = catch_up

    def events(self, after: datetime | None = None) -> Iterator[ClockEvent]:
        """Yield the events in order, strictly after `after`, an aware datetime; default: now."""
        start = now() if after is None else aware("after", after).astimezone(UTC)
        reach = sum(map(reach_of, self.adjustments), timedelta(0))
        if not self.adjustments:
            return each_once(self._filtered(start))
        return each_once(event for event in self.adjusted(start - reach, reach) if event.instant > start)

    @overload
    def next(self, n: int, after: datetime | None = None, return_events: Literal[False] = False) -> list[datetime]: ...
    @overload
    def next(self, n: int, after: datetime | None = None, *, return_events: Literal[True]) -> list[ClockEvent]: ...

    def next(self, n: int, after: datetime | None = None, return_events: bool = False) -> Sequence[Any]:
        """Return the times of the next events: aware datetimes in the zones of their clocks.

        Parameters
        ----------
        n
            Maximum number of events; fewer if the schedule ends.
        after
            Aware; events lie strictly after it. Default: now.
        return_events
            Return events, with `start_time` and `parameter_defaults`, instead of times.

        Raises
        ------
        FlowDefinitionError
            If `after` has no time zone, or the filters reject all events.
        ValueError
            If `n` is negative.
        """
        if n < 0:
            raise ValueError(f"n must be >= 0, got {n!r}")
        found = list(islice(self.events(after), n))
        return found if return_events else [event.start_time for event in found]

    def _filtered(self, after: datetime) -> Iterator[ClockEvent]:
        refused = 0
        for event in merge(*(clock.events(after) for clock in self.clocks), key=attrgetter("instant")):
            if self._stays(event.start_time):
                refused = 0
                yield event
                continue
            refused += 1
            if refused == MAX_FILTERED_EVENTS:
                raise FlowDefinitionError(
                    f"none of {refused:,} events passes the filters of {self!r}, up to {event.start_time}"
                )

    def _stays(self, moment: datetime) -> bool:
        return (
            all(keep(moment) for keep in self.filters)
            and (not self.or_filters or any(keep(moment) for keep in self.or_filters))
            and not any(drop(moment) for drop in self.not_filters)
        )

    def adjusted(self, after: datetime, reach: timedelta) -> Iterator[ClockEvent]:
        """Yield moved events in order: each is held back until no later event can have been moved before it."""
        held: list[tuple[datetime, int, ClockEvent]] = []
        number = count()
        for event in self._filtered(after):
            while held and held[0][0] <= event.instant - reach:
                yield heappop(held)[2]
            moved = self._moved(event, reach)
            heappush(held, (moved.instant, next(number), moved))
        while held:
            yield heappop(held)[2]

    def _moved(self, event: ClockEvent, reach: timedelta) -> ClockEvent:
        moment = event.start_time
        for adjust in self.adjustments:
            moment = aware(f"the time that {adjust!r} returned for {moment}", adjust(moment))
            moment = moment.astimezone(UTC).astimezone(moment.tzinfo)  # it may be a time skipped by daylight saving
        moved = event.moved_to(moment)
        if abs(moved.instant - event.instant) > reach:
            raise FlowDefinitionError(
                f"adjustments moved {event.start_time} to {moment}, farther than {reach}; give the function an "
                f"attribute reach: the maximum timedelta by which it moves an event"
            )
        return moved

    def __repr__(self) -> str:
        return f"<Schedule: {', '.join(map(repr, self.clocks))}>"


class IntervalSchedule(Schedule):
    """A schedule of one :class:`~prefectish.schedules.clocks.IntervalClock`.

    Parameters
    ----------
    interval, start_date, end_date, timezone, parameter_defaults
        As for the clock.
    catch_up
        As for :class:`Schedule`.
    """

    def __init__(
        self,
        interval: timedelta,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        timezone: str | tzinfo | None = None,
        parameter_defaults: dict[str, Any] | None = None,
        catch_up: bool = False,
    ) -> None:
        super().__init__(
            [IntervalClock(interval, start_date, end_date, timezone, parameter_defaults)], catch_up=catch_up
        )


class CronSchedule(Schedule):
    """A schedule of one :class:`~prefectish.schedules.clocks.CronClock`.

    Parameters
    ----------
    cron, start_date, end_date, timezone, parameter_defaults
        As for the clock.
    catch_up
        As for :class:`Schedule`.

    Examples
    --------
    >>> standup = CronSchedule("0 9 * * 1-5", timezone="America/New_York")
    >>> [str(moment) for moment in standup.next(2, after=datetime(2026, 10, 30, 12, tzinfo=UTC))]
    ['2026-10-30 09:00:00-04:00', '2026-11-02 09:00:00-05:00']
    """

    def __init__(
        self,
        cron: str,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        timezone: str | tzinfo | None = None,
        parameter_defaults: dict[str, Any] | None = None,
        catch_up: bool = False,
    ) -> None:
        super().__init__([CronClock(cron, start_date, end_date, timezone, parameter_defaults)], catch_up=catch_up)


def each_once(events: Iterable[ClockEvent]) -> Iterator[ClockEvent]:
    """Drop events with the same time and parameters as an earlier one."""
    same_time: list[ClockEvent] = []
    for event in events:
        if same_time and same_time[0].instant != event.instant:
            same_time.clear()
        if not any(event.is_for(other) for other in same_time):
            same_time.append(event)
            yield event


def _functions(name: str, given: Iterable[Callable[..., Any]] | None) -> list[Callable[..., Any]]:
    functions = list(given or ())
    for function in functions:
        if not callable(function):
            raise TypeError(f"{name} must be a list of functions of a datetime, got {function!r} in it")
    return functions
