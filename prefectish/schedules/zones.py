"""Time zones, and what a wall clock means where it jumps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from heapq import heappop, heappush
from zoneinfo import ZoneInfo

from prefectish.errors import FlowDefinitionError

DAY = timedelta(days=1)


def zone(wanted: str | tzinfo) -> tzinfo:
    """Return a time zone by its name; zones of other libraries that have one become ours, which know both times 1:30.

    Raises
    ------
    FlowDefinitionError
        ``unknown time zone 'X'``.
    TypeError
        If it is neither a name nor a zone.

    Examples
    --------
    >>> zone("Mars/Olympus")
    Traceback (most recent call last):
    prefectish.errors.FlowDefinitionError: unknown time zone 'Mars/Olympus'
    """
    if isinstance(wanted, ZoneInfo):
        return wanted
    name = wanted if isinstance(wanted, str) else getattr(wanted, "key", None) or getattr(wanted, "zone", None)
    if isinstance(name, str):
        return _by_name(name)
    if isinstance(wanted, tzinfo):
        return wanted
    raise TypeError(f"timezone must be the name of a time zone such as 'Europe/Berlin', got {wanted!r}")


def _by_name(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such zone; a name that is no path; a folder of zones
        hint = "" if _has_zones() else '; there is no time zone database here: pip install "prefectish[schedules]"'
        raise FlowDefinitionError(f"unknown time zone {name!r}{hint}") from None


def _has_zones() -> bool:
    """Whether a zone that is in every database is found."""
    try:
        ZoneInfo("Etc/UTC")
    except KeyError:
        return False
    return True


def aware(name: str, value: datetime) -> datetime:
    """Return a datetime that says in which zone it is.

    Raises
    ------
    FlowDefinitionError
        ``start_date=...: it has no time zone``.
    TypeError
        If it is no datetime.
    """
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be a datetime, got {value!r}")
    if value.utcoffset() is None:
        raise FlowDefinitionError(
            f"{name} must have a time zone, got {value!r}; add tzinfo=datetime.UTC, or ZoneInfo(...)"
        )
    return value


def wall_time(moment: datetime, zone: tzinfo) -> datetime:
    """Return what the clocks of a zone show, without the zone."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def wall_time_before(moment: datetime, zone: tzinfo) -> datetime:
    """Return what the clocks showed, or would have shown had they not jumped forward within a day.

    All that was put off by a jump lies behind it, on the clock.
    """
    local = moment.astimezone(zone)
    jumped = _offset(local) - _offset((moment.astimezone(UTC) - DAY).astimezone(zone))
    return wall_time(moment, zone) - max(timedelta(0), jumped)


def _offset(local: datetime) -> timedelta:
    offset = local.utcoffset()
    assert offset is not None
    return offset


def from_wall_times(walls: Iterable[datetime], zone: tzinfo) -> Iterator[datetime]:
    """Turn what clocks show into moments, in order.

    A time that clocks jump over is read with the offset before the jump: 2:30 becomes 3:30. It may then lie behind a
    time that clocks show later, so it waits for that. A time that clocks show twice is the first of both.

    Parameters
    ----------
    walls
        In order, without a zone, or each with one of its own.

    Examples
    --------
    >>> walls = [datetime(2026, 3, 8, 2, 30), datetime(2026, 3, 8, 3, 0), datetime(2026, 11, 1, 1, 30)]
    >>> [str(moment) for moment in on_the_wall(walls, ZoneInfo("America/New_York"))]
    ['2026-03-08 03:00:00-04:00', '2026-03-08 03:30:00-04:00', '2026-11-01 01:30:00-04:00']
    """
    put_off: list[tuple[datetime, datetime]] = []
    for shown in walls:
        own = shown.tzinfo or zone
        instant = shown.replace(tzinfo=own, fold=0).astimezone(UTC)
        moment = instant.astimezone(zone)
        if instant.astimezone(own).replace(tzinfo=None, fold=0) != shown.replace(tzinfo=None, fold=0):
            heappush(put_off, (instant, moment))
            continue
        while put_off and put_off[0][0] <= instant:
            yield heappop(put_off)[1]
        yield moment
    while put_off:
        yield heappop(put_off)[1]
