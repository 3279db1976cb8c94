"""Schedules as JSON, so that an agent that does not have the code of a flow knows when it runs.

Only what :mod:`prefectish.schedules` has can be written down: a function of the user's own is code.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, time, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from prefectish.errors import FlowDefinitionError
from prefectish.schedules import adjustments, filters
from prefectish.schedules.clocks import Clock, CronClock, DatesClock, IntervalClock, RRuleClock
from prefectish.schedules.schedule import Schedule

#: Filters and adjustments that are functions, by name.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        filters.is_weekday,
        filters.is_weekend,
        filters.is_month_start,
        filters.is_month_end,
        adjustments.next_weekday,
    )
}
_LISTS = ("filters", "or_filters", "not_filters", "adjustments")
WAY_OUT = "make it of the clocks, filters and adjustments of prefectish.schedules, or filter in the flow, by SKIP"


def to_json(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as what JSON can hold.

    Raises
    ------
    FlowDefinitionError
        It has a clock, filter or adjustment that is not one of :mod:`prefectish.schedules`.
    """
    if type(schedule).events is not Schedule.events:
        raise FlowDefinitionError(f"a deployment cannot keep {schedule!r}: its events come from code; {WAY_OUT}")
    functions = {name: [_function(name, f) for f in getattr(schedule, name)] for name in _LISTS}
    return {"clocks": [_clock(c) for c in schedule.clocks], "catch_up": schedule.catch_up, **functions}


def from_json(facts: dict[str, Any]) -> Schedule:
    """Return the schedule that was written down."""
    functions = {name: [_made(f) for f in facts[name]] for name in _LISTS}
    return Schedule([_clock_of(c) for c in facts["clocks"]], catch_up=facts["catch_up"], **functions)


def _clock(clock: Clock) -> dict[str, Any]:
    common = {
        "start_date": None if clock.start_date is None else clock.start_date.isoformat(),
        "end_date": None if clock.end_date is None else clock.end_date.isoformat(),
        "timezone": _zone(clock.timezone),
        "parameter_defaults": clock.parameter_defaults,
    }
    match clock:
        case IntervalClock():
            return {"kind": "interval", "seconds": clock.interval.total_seconds(), **common}
        case CronClock():
            both = {} if clock.day_or else {"day_or": False}
            return {"kind": "cron", "cron": clock.cron, **both, **common}
        case DatesClock():
            return {"kind": "dates", "dates": [date.isoformat() for date in clock.dates], **common}
        case RRuleClock() if type(clock.rule).__name__ == "rrule":
            return {"kind": "rrule", "rule": str(clock.rule), **common}
    raise FlowDefinitionError(f"a deployment cannot keep the clock {clock!r}: its events come from code; {WAY_OUT}")


def _clock_of(facts: dict[str, Any]) -> Clock:
    zone = ZoneInfo(facts["timezone"])
    options: dict[str, Any] = {"timezone": zone, "parameter_defaults": facts["parameter_defaults"]}
    if facts["kind"] == "dates":
        return DatesClock([datetime.fromisoformat(date) for date in facts["dates"]], **options)
    for name in ("start_date", "end_date"):
        text = facts[name]
        # in the zone again: a fixed offset would not follow daylight saving
        options[name] = None if text is None else datetime.fromisoformat(text).astimezone(zone)
    if facts["kind"] == "interval":
        return IntervalClock(timedelta(seconds=facts["seconds"]), **options)
    if facts["kind"] == "cron":
        return CronClock(facts["cron"], day_or=facts.get("day_or", True), **options)
    return RRuleClock(facts["rule"], **options)


def _zone(zone: tzinfo) -> str:
    name = getattr(zone, "key", None) or (str(zone) if str(zone) == "UTC" else None)
    if name is None:
        raise FlowDefinitionError(f"a deployment cannot keep the time zone {zone!r}: name one, such as 'Europe/Berlin'")
    return str(name)


def _function(place: str, function: Any) -> Any:
    name = getattr(function, "__name__", None)
    if name is not None and FUNCTIONS.get(name) is function:
        return name
    if isinstance(function, filters.Within):
        return {"within": function.kind, "begin": _bound(function.begin), "end": _bound(function.end)}
    if isinstance(function, adjustments.Add):
        return {"add": function.interval.total_seconds()}
    raise FlowDefinitionError(f"a deployment cannot keep {function!r} of {place}: it is code; {WAY_OUT}")


def _made(facts: Any) -> Callable[..., Any]:
    if isinstance(facts, str):
        return FUNCTIONS[facts]
    if "add" in facts:
        return adjustments.add(timedelta(seconds=facts["add"]))
    return filters.Within(facts["within"], *(_bound_of(facts["within"], facts[end]) for end in ("begin", "end")))


def _bound(value: Any) -> Any:
    if isinstance(value, datetime | time):
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


def _bound_of(kind: str, value: Any) -> Any:
    match kind:
        case "dates":
            return tuple(value)
        case "datetimes":
            return datetime.fromisoformat(value)
        case "times":
            return time.fromisoformat(value)
    return value
