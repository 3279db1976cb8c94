"""Clocks: the sources of the events of a schedule.

A clock yields its events in strictly increasing order. Times of a wall clock (cron,
intervals of a day and more, recurrence rules) follow the zone across daylight saving changes: a skipped time is
shifted by the length of the gap, a repeated time counts once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import count
from typing import Any

from prefectish.engine import clock as clocks
from prefectish.engine.clock import now
from prefectish.errors import FlowDefinitionError, text_of
from prefectish.optional_deps import load
from prefectish.schedules.zones import DAY, aware, from_wall_times, wall_time, wall_time_before, zone

#: Default start of intervals: a Monday, midnight in the clock's zone.
ANCHOR = datetime(2018, 1, 1)
INSTANT = timedelta(microseconds=1)
_UNTIL_UTC = re.compile(r"UNTIL=[0-9T]*Z", re.IGNORECASE)


class ClockEvent:
    """A time at which a flow runs, with values for parameters.

    Attributes
    ----------
    start_time
        An aware datetime in the zone of its clock.
    parameter_defaults
        Values that replace the defaults of the flow's parameters, by name.
    """

    __slots__ = ("instant", "parameter_defaults", "start_time")

    def __init__(self, start_time: datetime, parameter_defaults: Mapping[str, Any] | None = None) -> None:
        self.start_time = start_time
        self.parameter_defaults = dict(parameter_defaults or {})
        # Datetimes of one zone compare by wall time, so both 1:30 at the end of daylight saving would be equal.
        self.instant = start_time.astimezone(UTC)

    def is_for(self, other: ClockEvent) -> bool:
        """Whether both events have the same parameters."""
        try:
            return bool(self.parameter_defaults == other.parameter_defaults)
        except Exception:  # user values, such as arrays, whose comparison fails
            return False

    def moved_to(self, start_time: datetime) -> ClockEvent:
        """Return the event at another time."""
        return ClockEvent(start_time, self.parameter_defaults)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClockEvent):
            return NotImplemented
        return self.instant == other.instant and self.is_for(other)

    def __hash__(self) -> int:
        return hash(self.instant)

    def __repr__(self) -> str:
        with_ = f", {self.parameter_defaults!r}" if self.parameter_defaults else ""
        return f"<ClockEvent: {self.start_time.isoformat(sep=' ')}{with_}>"


class Clock:
    """Base class of clocks; subclasses implement `moments`.

    Parameters
    ----------
    start_date, end_date
        Aware datetimes; events are between them, inclusive.
    timezone
        Time zone, or its name, of the wall clock; default: that of the start date, else UTC.
    parameter_defaults
        Values of parameters for runs at this clock's events.

    Raises
    ------
    FlowDefinitionError
        If a datetime has no time zone, the end is before the start, or the zone is unknown; a ValueError.
    TypeError
        If an argument has another type.
    """

    def __init__(
        self,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        timezone: str | tzinfo | None = None,
        parameter_defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.timezone = _zone_for(timezone, start_date)
        self.start_date = None if start_date is None else aware("start_date", start_date).astimezone(self.timezone)
        self.end_date = None if end_date is None else aware("end_date", end_date).astimezone(self.timezone)
        first, last = self.start_date, self.end_date
        if first is not None and last is not None and last.astimezone(UTC) < first.astimezone(UTC):
            raise FlowDefinitionError(f"end_date must not be before start_date, got {end_date} < {start_date}")
        if parameter_defaults is not None and not isinstance(parameter_defaults, Mapping):
            raise TypeError(f"parameter_defaults must be a dict of values by name, got {parameter_defaults!r}")
        self.parameter_defaults = dict(parameter_defaults or {})

    def moments(self, after: datetime) -> Iterator[datetime]:
        """Yield aware datetimes in order; those not after `after` are ignored."""
        raise NotImplementedError(f"{type(self).__name__} has no moments()")

    def events(self, after: datetime | None = None) -> Iterator[ClockEvent]:
        """Yield the events, in order.

        Parameters
        ----------
        after
            An aware datetime; events are strictly after it. Default: now.
        """
        last = (now() if after is None else aware("after", after)).astimezone(UTC)
        if self.start_date is not None:
            last = max(last, self.start_date.astimezone(UTC) - INSTANT)
        end = None if self.end_date is None else self.end_date.astimezone(UTC)
        for moment in self.moments(last):
            instant = moment.astimezone(UTC)
            if end is not None and instant > end:
                return
            if instant > last:
                last = instant
                yield ClockEvent(moment, self.parameter_defaults)

    def _described(self, what: str) -> str:
        facts = [what]
        for name in ("start_date", "end_date"):
            value = getattr(self, name)
            if value is not None:
                facts.append(f"{name}={value.isoformat(sep=' ')}")
        if self.timezone is not UTC:
            facts.append(f"timezone={str(self.timezone)!r}")
        return f"<{type(self).__name__}: {', '.join(facts)}>"


class IntervalClock(Clock):
    """Events at regular intervals, counted from `start_date`.

    Intervals of a day and more follow the wall clock: 9:00 each day stays 9:00. Shorter ones are elapsed time.

    Parameters
    ----------
    interval
        A positive timedelta.
    start_date
        The first event. Default: a Monday at midnight in 2018.
    end_date, timezone, parameter_defaults
        As for :class:`Clock`.

    Examples
    --------
    >>> clock = IntervalClock(timedelta(hours=6))
    >>> events = clock.events(after=datetime(2026, 5, 1, 7, tzinfo=UTC))
    >>> next(events), next(events)
    (<ClockEvent: 2026-05-01 12:00:00+00:00>, <ClockEvent: 2026-05-01 18:00:00+00:00>)
    """

    def __init__(
        self,
        interval: timedelta,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        timezone: str | tzinfo | None = None,
        parameter_defaults: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(interval, timedelta):
            raise TypeError(f"interval must be a timedelta, got {interval!r}")
        if interval <= timedelta(0):
            raise FlowDefinitionError(f"interval must be positive, got {interval!r}")
        super().__init__(start_date, end_date, timezone, parameter_defaults)
        self.interval = interval

    def moments(self, after: datetime) -> Iterator[datetime]:
        """Yield the times of events."""
        first = self.start_date or ANCHOR.replace(tzinfo=self.timezone)
        if self.interval >= DAY:
            shown = self._steps(wall_time(first, self.timezone), wall_time_before(after, self.timezone))
            return from_wall_times(shown, self.timezone)
        instants = self._steps(first.astimezone(UTC), after.astimezone(UTC))
        return (instant.astimezone(self.timezone) for instant in instants)

    def _steps(self, first: datetime, after: datetime) -> Iterator[datetime]:
        """Yield times at regular intervals, until the last possible datetime."""
        begin = max(0, (after - first) // self.interval)
        for number in count(begin):
            try:
                step = first + number * self.interval
            except OverflowError:
                return
            yield step

    def __repr__(self) -> str:
        return self._described(f"every {self.interval}")


class CronClock(Clock):
    """Events by a cron expression, in wall time of a zone.

    Parameters
    ----------
    cron
        Five fields, minute, hour, day of the month, month, day of the week, as in Debian's cron (names, ranges, steps,
        lists, ``L`` for the last day, ``FRI#2`` for the second Friday); with a sixth in front, for seconds.
    start_date, end_date, timezone, parameter_defaults
        As for :class:`Clock`.
    day_or
        False: where both a day of the month and a day of the week are given, both must fit; by default one of them.

    Raises
    ------
    FlowDefinitionError
        If it is not a valid cron expression, or never matches.
    ImportError
        If cronsim is not installed.

    Notes
    -----
    Clock hours are what counts: an hourly clock has no event in the hour that is repeated when clocks are set back. Use
    an :class:`IntervalClock` for elapsed time.

    Examples
    --------
    >>> nine = CronClock("0 9 * * 1-5", timezone="America/New_York")
    >>> next(nine.events(after=datetime(2026, 3, 6, 15, tzinfo=UTC)))  # a Friday; clocks change on the Sunday
    <ClockEvent: 2026-03-09 09:00:00-04:00>
    """

    def __init__(
        self,
        cron: str,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        timezone: str | tzinfo | None = None,
        parameter_defaults: Mapping[str, Any] | None = None,
        day_or: bool = True,
    ) -> None:
        if not isinstance(cron, str):
            raise TypeError(f"cron must be a string of five fields such as '0 9 * * MON-FRI', got {cron!r}")
        super().__init__(start_date, end_date, timezone, parameter_defaults)
        self.cron = cron
        self.day_or = day_or
        self._shown(ANCHOR)

    def moments(self, after: datetime) -> Iterator[datetime]:
        """Yield the times of events."""
        return from_wall_times(self._shown(wall_time_before(after, self.timezone)), self.timezone)

    def _shown(self, after: datetime) -> Iterator[datetime]:
        """Yield wall times of the events."""
        shown, fields = self._shown_by(self.cron, after), self.cron.split()
        if self.day_or or "*" in (fields[-3], fields[-1]):
            return shown
        by_week = self._shown_by(" ".join([*fields[:-3], "*", *fields[-2:]]), after)
        return _in_both(self._shown_by(" ".join([*fields[:-1], "*"]), after), by_week)

    def _shown_by(self, cron: str, after: datetime) -> Iterator[datetime]:
        """Yield wall times by an expression; for a datetime without a zone, cronsim skips nothing."""
        cronsim = load("cronsim", "schedules", "CronClock")
        try:
            shown: Iterator[datetime] = cronsim.CronSim(cron, after)
        except cronsim.CronSimError as error:
            raise FlowDefinitionError(
                f"cron={self.cron!r}: {text_of(error)}; expected five fields such as '0 9 * * MON-FRI'"
            ) from None
        return _until_overflow(shown)

    def __repr__(self) -> str:
        return self._described(repr(self.cron))


def _in_both(one: Iterator[datetime], other: Iterator[datetime]) -> Iterator[datetime]:
    """Yield the times that are in both."""
    later = next(other, None)
    for moment in one:
        while later is not None and later < moment:
            later = next(other, None)
        if later is None:
            return
        if later == moment:
            yield moment


class DatesClock(Clock):
    """Events at fixed times.

    Parameters
    ----------
    dates
        One or more aware datetimes, in any order.
    timezone, parameter_defaults
        As for :class:`Clock`.
    """

    def __init__(
        self,
        dates: Iterable[datetime],
        timezone: str | tzinfo | None = None,
        parameter_defaults: Mapping[str, Any] | None = None,
    ) -> None:
        given = [aware(f"dates[{i}]", date) for i, date in enumerate(dates)]
        if not given:
            raise FlowDefinitionError("dates must have at least one date, got []")
        self.dates = sorted(given, key=lambda date: date.astimezone(UTC))
        super().__init__(self.dates[0], self.dates[-1], timezone, parameter_defaults)

    def moments(self, after: datetime) -> Iterator[datetime]:
        """Yield the times of events."""
        return (date.astimezone(self.timezone) for date in self.dates)

    def __repr__(self) -> str:
        return self._described(f"{len(self.dates)} dates")


class RRuleClock(Clock):
    """Events by a recurrence rule (RFC 5545), such as the last Friday of each month.

    Parameters
    ----------
    rule
        An rrule or rruleset of dateutil, or a string: ``"FREQ=MONTHLY;BYDAY=-1FR"``.
    start_date, end_date, timezone, parameter_defaults
        As for :class:`Clock`; a rule without a start is counted from the start date. Times of a rule
        without a time zone are in `timezone`.

    Raises
    ------
    FlowDefinitionError
        If a string is not a rule, or the time zone of the rule is unknown.
    ImportError
        If dateutil is not installed.
    """

    def __init__(
        self,
        rule: Any,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        timezone: str | tzinfo | None = None,
        parameter_defaults: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(start_date, end_date, timezone, parameter_defaults)
        dateutil = load("dateutil.rrule", "schedules", "RRuleClock")
        self.rule: Any = self._parsed(rule, dateutil) if isinstance(rule, str) else rule
        if not isinstance(self.rule, dateutil.rrulebase):
            raise TypeError(f"rule must be an rrule or rruleset of dateutil, or a string, got {rule!r}")
        first = next(iter(self.rule), None)
        if first is None:
            raise FlowDefinitionError(f"rule {rule!r} has no events")
        self._naive = first.tzinfo is None
        if timezone is None and start_date is None and first.tzinfo is not None:
            self.timezone = zone(first.tzinfo)
        elif (
            self._naive
            and timezone is None
            and clocks.naive_zone is None
            and not (isinstance(rule, str) and _lacks_start(rule))
        ):
            raise FlowDefinitionError(f"rule {rule!r} has times without a time zone; pass timezone=...")

    def _parsed(self, text: str, dateutil: Any) -> Any:
        """Parse a rule; one without a start is counted from the start date."""
        start = {}
        if _lacks_start(text):
            if self.start_date is None:
                raise FlowDefinitionError(
                    f"rule {text!r} has no start; pass start_date=..., or put a DTSTART into the rule"
                )
            # UNTIL in UTC needs a start with a time zone, any other UNTIL a start without (RFC 5545, 3.3.10).
            keeps_zone = _UNTIL_UTC.search(text)
            start["dtstart"] = self.start_date if keeps_zone else self.start_date.replace(tzinfo=None, fold=0)
        try:
            return dateutil.rrulestr(text, **start)
        except (ValueError, TypeError) as error:
            raise FlowDefinitionError(f"rule {text!r} is not a recurrence rule: {text_of(error)}") from error

    def moments(self, after: datetime) -> Iterator[datetime]:
        """Yield the times of events."""
        since = wall_time_before(after, self.timezone)
        shown = self.rule.xafter(since if self._naive else since.replace(tzinfo=self.timezone) - DAY)
        return from_wall_times(_until_overflow(shown), self.timezone)

    def __repr__(self) -> str:
        return self._described(" ".join(str(self.rule).split()))


def _lacks_start(rule: str) -> bool:
    """Whether the text of a rule lacks its own start."""
    return "DTSTART" not in rule.upper()


def _zone_for(timezone: str | tzinfo | None, start_date: datetime | None) -> tzinfo:
    if timezone is not None:
        return zone(timezone)
    if isinstance(start_date, datetime) and start_date.tzinfo is not None:
        return zone(start_date.tzinfo)
    return UTC


def _until_overflow(times: Iterable[datetime]) -> Iterator[datetime]:
    """Yield times until the last possible datetime; libraries raise beyond it."""
    step: Callable[[], datetime] = iter(times).__next__
    while True:
        try:
            yield step()
        except (StopIteration, OverflowError):
            return
