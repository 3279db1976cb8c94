"""Runs a flow at the events of its schedule; the loop above the loop of a run.

What happens to an event whose time has passed when its turn comes, because the machine slept or the run before it took
long: it is run at once. Of several such events for the same parameters only the last is run, unless the schedule says
``catch_up=True``: then all are, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from prefectish.engine.clock import Clock
from prefectish.engine.context import get_logger
from prefectish.engine.state import Failed, State
from prefectish.errors import FlowDefinitionError, describe
from prefectish.schedules.clocks import ClockEvent
from prefectish.schedules.schedule import Schedule

#: Longest sleep in seconds: clocks may be set meanwhile, and a machine that slept has to notice that it is late.
MAX_SLEEP = 1.0
logger = get_logger("schedule")


def repeat(schedule: Schedule, run: Callable[[ClockEvent], State], flow_name: str, clock: Clock) -> State:
    """Run at each event until there are none, and return the last state.

    Parameters
    ----------
    run
        Runs the flow once; an error of its is logged, and the next event is waited for.
    clock
        Its wall clock is what events are compared with.

    Raises
    ------
    FlowDefinitionError
        If there is no event to wait for.
    """
    now = clock.wall()
    events = schedule.events(now)
    event = next(events, None)
    if event is None:
        raise FlowDefinitionError(
            f"the schedule of flow {flow_name!r} has no event after {now:%Y-%m-%d %H:%M:%S %Z}: {schedule!r}; "
            f"run_on_schedule=False runs the flow at once"
        )
    state: State | None = None
    while event is not None:
        logger.info("Flow %r: next run at %s", flow_name, event.start_time.isoformat(sep=" "))
        _wait_for(event, clock)
        due, event = _due(event, events, clock.wall(), schedule.catch_up, flow_name)
        for each in due:
            state = _guarded(run, each, flow_name)
    assert state is not None
    return state


def _wait_for(event: ClockEvent, clock: Clock) -> None:
    while (left := (event.instant - clock.wall()).total_seconds()) > 0:
        clock.sleep(min(left, MAX_SLEEP))


def _due(
    event: ClockEvent, events: Iterator[ClockEvent], now: datetime, catch_up: bool, flow_name: str
) -> tuple[list[ClockEvent], ClockEvent | None]:
    """Return what is run now, and the event after it.

    Parameters
    ----------
    event
        It is due.
    """
    if catch_up:
        return [event], next(events, None)
    due = [event]
    missed = 0
    for later in events:
        if later.instant > now:
            break
        like = next((e for e in due if e.is_for(later)), None)
        if like is not None:
            due.remove(like)
            missed += 1
        due.append(later)
    else:
        later = None
    if missed:
        logger.warning(
            "Flow %r: %d events since %s were missed; only the last is run (catch_up=True runs all)",
            flow_name, missed, event.start_time.isoformat(sep=" "),
        )  # fmt: skip
    return due, later


def _guarded(run: Callable[[ClockEvent], State], event: ClockEvent, flow_name: str) -> State:
    try:
        return run(event)
    except Exception as error:  # an executor that cannot start, a lost scheduler: the next event may find it there
        when = event.start_time.isoformat(sep=" ")
        logger.exception("Flow %r: the run of %s broke off; the schedule goes on", flow_name, when)
        return Failed(f"the run of {when} broke off: {describe(error)}", error)
