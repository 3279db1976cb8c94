"""When deployments run: events of their schedules become requested runs, each once, whichever agent plans them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from heapq import merge

from sqlalchemy import update

from prefectish.history.registry_tables import deployments as deployed
from prefectish.history.store import HistoryStore
from prefectish.registry import queue
from prefectish.registry.deployment import Deployment
from prefectish.schedules.as_json import from_json
from prefectish.schedules.clocks import ClockEvent
from prefectish.schedules.schedule import Schedule

_d = deployed.c
#: Seconds by which a time of a deployment may be late and was not missed: as far as the clock of an agent may go ahead
#: of the clock of the one before, which would have come to it, or an agent may be busy.
LATE = 120.0


def due_events(
    schedules: Iterable[Schedule], since: float, now: float, catch_up: bool, late: float = 0.0
) -> list[ClockEvent]:
    """Return the events after `since` whose time has come by `now`, in order.

    Of several for the same parameters that were missed only the last, and that only if none has come since, unless they
    are to be caught up.

    Parameters
    ----------
    late
        Seconds for which an event may wait and was not missed.

    Examples
    --------
    >>> from datetime import timedelta
    >>> from prefectish.schedules import IntervalSchedule
    >>> hourly = [IntervalSchedule(timedelta(hours=1))]
    >>> midnight = datetime(2026, 5, 1, tzinfo=UTC).timestamp()
    >>> [event.start_time.hour for event in due_events(hourly, midnight, midnight + 7300, catch_up=True)]
    [1, 2]
    >>> [event.start_time.hour for event in due_events(hourly, midnight, midnight + 7300, catch_up=False)]
    [2]
    >>> [event.start_time.hour for event in due_events(hourly, midnight, midnight + 7300, catch_up=False, late=4000)]
    [1, 2]
    """
    begin = datetime.fromtimestamp(since, UTC)
    certain: list[ClockEvent] = []
    others: list[ClockEvent] = []
    for event, is_certain in merge(*[_of(each, begin, catch_up) for each in schedules], key=lambda due: due[0].instant):
        if event.instant.timestamp() > now:
            break
        others = [e for e in others if e.instant.timestamp() > now - late or not e.is_for(event)]
        (certain if is_certain else others).append(event)
    return sorted(certain + others, key=lambda event: event.instant)


def _of(schedule: Schedule, begin: datetime, catch_up: bool) -> Iterator[tuple[ClockEvent, bool]]:
    """Yield the events of a schedule, and whether they are not left out."""
    return ((event, catch_up or schedule.catch_up) for event in schedule.events(begin))


def plan(store: HistoryStore, deployment: Deployment, now: float) -> int:
    """Ask for the runs of a deployment whose time has come; return how many.

    The time up to which a deployment is planned never goes back, so that an agent whose clock is behind plans nothing
    twice; an event has a name besides, which the database takes once.
    """
    since = float(deployment._row.planned)
    if now <= since:
        return 0
    schedules = [from_json(facts) for facts in deployment.schedules]
    events = due_events(schedules, since, now, deployment.options.catch_up, LATE)
    if not events:
        return 0
    with store.writing() as connection:
        mine = (_d.number == deployment.id) & (_d.planned == since) & (_d.active == 1) & _d.archived.is_(None)
        if not connection.execute(update(deployed).where(mine).values(planned=now)).rowcount:
            return 0  # another agent has planned it, or it was archived
        for event in events:
            queue.ask_for(
                connection,
                deployment,
                event.parameter_defaults,
                begun_by="schedule",
                due=event.instant.timestamp(),
                event=name_of(event),
            )
    return len(events)


def name_of(event: ClockEvent) -> str:
    """Return a name of an event that no other event of its deployment has."""
    values = json.dumps(event.parameter_defaults, sort_keys=True, default=repr)
    return f"{event.instant.isoformat()} {hashlib.sha256(values.encode()).hexdigest()[:16]}"
