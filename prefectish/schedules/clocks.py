"""Clocks: where the events of a schedule come from.

A clock gives its events in order, each strictly after the one before it. Whatever is shown by a wall clock (cron,
intervals of a day and more, recurrence rules) follows the zone across its changes: a time that clocks jump over is put
off by as much as they jump, a time that they show twice counts once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import count
from typing import Any

from prefectish.engine.clock import now
from prefectish.errors import FlowDefinitionError, text_of
from prefectish.optional_deps import load
from prefectish.schedules.zones import DAY, aware, from_wall_times, wall_time, wall_time_before, zone

#: What intervals are counted from by default: a Monday, midnight of the clock's zone.
ANCHOR = datetime(2018, 1, 1)
INSTANT = timedelta(microseconds=1)
_UNTIL_UTC = re.compile(r"UNTIL=[0-9T]*Z", re.IGNORECASE)


class ClockEvent:
    """A time at which a flow is to run, and what with.

    Attributes
    ----------
    start_time
        Aware, in the zone of its clock.
    parameter_defaults
        Values that take the place of the defaults of the flow's parameters, by name.
    """

    __slots__ = ("instant", "parameter_defaults", "start_time")

    def __init__(self, start_time: datetime, parameter_defaults: Mapping[str, Any] | None = None) -> None:
        self.start_time = start_time
        self.parameter_defaults = dict(parameter_defaults or {})
        # Times of one zone are compared by what clocks show, so both times 1:30 would be one.
        self.instant = start_time.astimezone(UTC)

    def is_for(self, other: ClockEvent) -> bool:
        """Whether both are for the same parameters."""
        try:
            return bool(self.parameter_defaults == other.parameter_defaults)
        except Exception:  # values of the user's, arrays for instance, that cannot say so
            return False

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
    """The base of clocks; a clock of your own gives `moments`.

    Parameters
    ----------
    start_date, end_date
        Aware datetimes; no event lies before the first or after the second.
    timezone
        Name of a zone, or a zone, whose wall clock it follows; default: that of the start date, else UTC.
    parameter_defaults
        Values of parameters for runs of this clock's events.

    Raises
    ------
    FlowDefinitionError
        If a datetime has no zone, the end lies before the start, or the zone is unknown; a ValueError.
    TypeError
        If an argument is of another type.
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
        if start_date is not None and end_date is not None and end_date.astimezone(UTC) < start_date.astimezone(UTC):
            raise FlowDefinitionError(f"end_date={end_date} lies before start_date={start_date}")
        if parameter_defaults is not None and not isinstance(parameter_defaults, Mapping):
            raise TypeError(f"parameter_defaults must be a dict of values by name, got {parameter_defaults!r}")
        self.parameter_defaults = dict(parameter_defaults or {})

    def moments(self, after: datetime) -> Iterator[datetime]:
        """Give aware datetimes in order; those not after `after` are passed over."""
        raise NotImplementedError(f"{type(self).__name__} has no moments()")

    def events(self, after: datetime | None = None) -> Iterator[ClockEvent]:
        """Give the events, in order.

        Parameters
        ----------
        after
            Aware; events lie strictly after it. Default: now.
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
    """Events at equal distances, counted from `start_date`.

    Intervals of a day and more follow the wall clock: each day at 9:00 stays 9:00. Shorter ones are elapsed time.

    Parameters
    ----------
    interval
        Longer than nothing.
    start_date
        The first event. Default: a Monday at midnight, long ago.
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
        """Give the moments."""
        first = self.start_date or ANCHOR.replace(tzinfo=self.timezone)
        if self.interval >= DAY:
            shown = self._steps(wall_time(first, self.timezone), wall_time_before(after, self.timezone))
            return from_wall_times(shown, self.timezone)
        instants = self._steps(first.astimezone(UTC), after.astimezone(UTC))
        return (instant.astimezone(self.timezone) for instant in instants)

    def _steps(self, first: datetime, after: datetime) -> Iterator[datetime]:
        """Give times at equal distances; they end where datetimes do."""
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
    """Events by a cron expression, on the wall clock of a zone.

    Parameters
    ----------
    cron
        Five fields, minute, hour, day of the month, month, day of the week, as in Debian's cron (names, ranges, steps,
        lists, ``L`` for the last day, ``FRI#2`` for the second Friday); with a sixth in front, for seconds.
    start_date, end_date, timezone, parameter_defaults
        As for :class:`Clock`.

    Raises
    ------
    FlowDefinitionError
        If it is no cron expression, or no day matches it.
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
    ) -> None:
        if not isinstance(cron, str):
            raise TypeError(f"cron must be a string of five fields such as '0 9 * * MON-FRI', got {cron!r}")
        super().__init__(start_date, end_date, timezone, parameter_defaults)
        self.cron = cron
        self._shown(ANCHOR)

    def moments(self, after: datetime) -> Iterator[datetime]:
        """Give the moments."""
        return from_wall_times(self._shown(wall_time_before(after, self.timezone)), self.timezone)

    def _shown(self, after: datetime) -> Iterator[datetime]:
        """Give what the clock on the wall shows at the events; by a time without zone, cronsim jumps over nothing."""
        cronsim = load("cronsim", "schedules", "CronClock")
        try:
            shown: Iterator[datetime] = cronsim.CronSim(self.cron, after)
        except cronsim.CronSimError as error:
            raise FlowDefinitionError(
                f"cron={self.cron!r}: {text_of(error)}; expected five fields such as '0 9 * * MON-FRI'"
            ) from None
        return _until_overflow(shown)

    def __repr__(self) -> str:
        return self._described(repr(self.cron))


class DatesClock(Clock):
    """Events at given times.

    Parameters
    ----------
    dates
        Aware datetimes, at least one, in any order.
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
        """Give the moments."""
        return (date.astimezone(self.timezone) for date in self.dates)

    def __repr__(self) -> str:
        return self._described(f"{len(self.dates)} dates")


class RRuleClock(Clock):
    """Events by a recurrence rule of calendars (RFC 5545), such as the last Friday of each month.

    Parameters
    ----------
    rule
        Of dateutil, an rrule or rruleset, or a text: ``"FREQ=MONTHLY;BYDAY=-1FR"``.
    start_date, end_date, timezone, parameter_defaults
        As for :class:`Clock`; the rule is counted from the start date where it has none of its own. Times of a rule
        without a zone are those of `timezone`.

    Raises
    ------
    FlowDefinitionError
        If a text is no rule, or it is not said in which zone the rule's times are.
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
            raise FlowDefinitionError(f"rule={rule!r} has no event")
        self._naive = first.tzinfo is None
        if timezone is None and start_date is None and first.tzinfo is not None:
            self.timezone = zone(first.tzinfo)
        elif self._naive and timezone is None and not (isinstance(rule, str) and _has_own_start(rule)):
            raise FlowDefinitionError(f"rule {rule!r} has times without a time zone; pass timezone=...")

    def _parsed(self, text: str, dateutil: Any) -> Any:
        """Read a rule; one without a start of its own is counted from the start date."""
        start = {}
        if _has_own_start(text):
            if self.start_date is None:
                raise FlowDefinitionError(
                    f"rule {text!r} has no start; pass start_date=..., or put a DTSTART into the rule"
                )
            # An end in UTC goes with a start that has a zone, any other with one that has none (RFC 5545, 3.3.10).
            keeps_zone = _UNTIL_UTC.search(text)
            start["dtstart"] = self.start_date if keeps_zone else self.start_date.replace(tzinfo=None, fold=0)
        try:
            return dateutil.rrulestr(text, **start)
        except (ValueError, TypeError) as error:
            raise FlowDefinitionError(f"rule={text!r} is no recurrence rule: {text_of(error)}") from error

    def moments(self, after: datetime) -> Iterator[datetime]:
        """Give the moments."""
        since = wall_time_before(after, self.timezone)
        shown = self.rule.xafter(since if self._naive else since.replace(tzinfo=self.timezone) - DAY)
        return from_wall_times(_until_overflow(shown), self.timezone)

    def __repr__(self) -> str:
        return self._described(" ".join(str(self.rule).split()))


def _has_own_start(rule: str) -> bool:
    """Whether the text of a rule does not say itself where it starts."""
    return "DTSTART" not in rule.upper()


def _zone_for(timezone: str | tzinfo | None, start_date: datetime | None) -> tzinfo:
    if timezone is not None:
        return zone(timezone)
    if isinstance(start_date, datetime) and start_date.tzinfo is not None:
        return zone(start_date.tzinfo)
    return UTC


def _until_overflow(times: Iterable[datetime]) -> Iterator[datetime]:
    """Give times until there are none; libraries count on beyond the last year."""
    step: Callable[[], datetime] = iter(times).__next__
    while True:
        try:
            yield step()
        except (StopIteration, OverflowError):
            return
