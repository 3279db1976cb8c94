"""Time zones, and wall times around daylight saving changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from heapq import heappop, heappush
from zoneinfo import ZoneInfo

from prefectish.engine import clock
from prefectish.errors import FlowDefinitionError

DAY = timedelta(days=1)


def zone(wanted: str | tzinfo) -> tzinfo:
    """Return a time zone by its name; named zones of other libraries are replaced by a ZoneInfo, which supports `fold`.

    Raises
    ------
    FlowDefinitionError
        ``unknown time zone 'X'``.
    TypeError
        If it is neither a name nor a time zone.

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
    except (KeyError, ValueError, OSError):  # unknown zone, invalid path, or a folder of zones
        hint = "" if _has_zones() else '; this machine has no time zone database: pip install "prefectish[schedules]"'
        raise FlowDefinitionError(f"unknown time zone {name!r}{hint}") from None


def _has_zones() -> bool:
    """Whether a time zone database is available."""
    try:
        ZoneInfo("Etc/UTC")
    except KeyError:
        return False
    return True


def aware(name: str, value: datetime) -> datetime:
    """Return a datetime that has a time zone: that of `clock.naive_zone`, or a FlowDefinitionError, if it has none."""
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be a datetime, got {value!r}")
    if value.utcoffset() is not None:
        return value
    if clock.naive_zone is not None:
        return value.replace(tzinfo=clock.naive_zone)
    raise FlowDefinitionError(f"{name} must have a time zone, got {value!r}; add tzinfo=datetime.UTC, or ZoneInfo(...)")


def wall_time(moment: datetime, zone: tzinfo) -> datetime:
    """Return the wall time in a zone, without the zone."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def wall_time_before(moment: datetime, zone: tzinfo) -> datetime:
    """Return the wall time, or an earlier one if clocks were set forward within the last day.

    All wall times that were shifted by the gap are after it.
    """
    local = moment.astimezone(zone)
    jumped = _offset(local) - _offset((moment.astimezone(UTC) - DAY).astimezone(zone))
    return wall_time(moment, zone) - max(timedelta(0), jumped)


def _offset(local: datetime) -> timedelta:
    offset = local.utcoffset()
    assert offset is not None
    return offset


def from_wall_times(walls: Iterable[datetime], zone: tzinfo) -> Iterator[datetime]:
    """Convert wall times to aware datetimes, in order; they have no time zone, or each its own.

    A skipped time is read with the offset before the gap: 2:30 becomes 3:30. It may then be after a later wall time, so
    it is yielded after that. Of a repeated time the first is taken.

    Examples
    --------
    >>> walls = [datetime(2026, 3, 8, 2, 30), datetime(2026, 3, 8, 3, 0), datetime(2026, 11, 1, 1, 30)]
    >>> [str(moment) for moment in from_wall_times(walls, ZoneInfo("America/New_York"))]
    ['2026-03-08 03:00:00-04:00', '2026-03-08 03:30:00-04:00', '2026-11-01 01:30:00-04:00']
    """
    delayed: list[tuple[datetime, datetime]] = []
    for shown in walls:
        own = shown.tzinfo or zone
        instant = shown.replace(tzinfo=own, fold=0).astimezone(UTC)
        moment = instant.astimezone(zone)
        if instant.astimezone(own).replace(tzinfo=None, fold=0) != shown.replace(tzinfo=None, fold=0):
            heappush(delayed, (instant, moment))
            continue
        while delayed and delayed[0][0] <= instant:
            yield heappop(delayed)[1]
        yield moment
    while delayed:
        yield heappop(delayed)[1]
