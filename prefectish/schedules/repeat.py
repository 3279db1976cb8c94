"""Run a flow at the events of its schedule: the loop around the runs.

What happens to an event whose time has passed when its turn comes, because the machine slept or the run before it took
long: it is run at once. Of several such events for the same parameters only the last is run, unless the schedule says
``catch_up=True``: then all are, in order.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from prefectish.engine.clock import Clock
from prefectish.engine.context import get_logger
from prefectish.engine.state import Failed, State
from prefectish.engine.worker.logs import digest
from prefectish.errors import FlowDefinitionError, describe
from prefectish.schedules.clocks import ClockEvent
from prefectish.schedules.schedule import Schedule

#: Maximum sleep in seconds: the clock may be changed, and a suspended machine must notice that it is late.
MAX_SLEEP = 1.0
logger = get_logger("schedule")


def repeat(schedule: Schedule, run: Callable[[ClockEvent], State], flow_name: str, clock: Clock) -> State:
    """Run a flow at each event, by the wall clock of `clock`, until there are none left, and return the last state.

    If a run raises, the error is logged and the next event is awaited. Raises FlowDefinitionError if no event is to
    come.
    """
    now = clock.wall()
    events = schedule.events(now)
    event = next(events, None)
    if event is None:
        raise FlowDefinitionError(
            f"the schedule of flow {flow_name!r} has no events after {now:%Y-%m-%d %H:%M:%S %Z}: {schedule!r}; "
            f"run_on_schedule=False runs the flow at once"
        )
    state: State | None = None
    while event is not None:
        _announce(f"Flow {flow_name!r}: {next_run(event.start_time, clock.wall())}")
        while (remaining := (event.instant - clock.wall()).total_seconds()) > 0:
            clock.sleep(min(remaining, MAX_SLEEP))
        due, event = _due(event, events, clock.wall(), schedule.catch_up, flow_name)
        for each in due:
            state = _run_logged(run, each, flow_name)
    assert state is not None
    return state


def _due(
    event: ClockEvent, events: Iterator[ClockEvent], now: datetime, catch_up: bool, flow_name: str
) -> tuple[list[ClockEvent], ClockEvent | None]:
    """Return the events to run now, and the next event, when an event is due."""
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


def next_run(start: datetime, now: datetime) -> str:
    """Return a line about the next run.

    Examples
    --------
    >>> from datetime import UTC
    >>> next_run(datetime(2026, 11, 29, 21, 49, tzinfo=UTC), datetime(2026, 11, 29, 21, 48, 18, tzinfo=UTC))
    'next run at 2026-11-29 21:49:00+00:00 (in 0:00:42)'
    """
    left = timedelta(seconds=max(0, round((start - now).total_seconds())))
    return f"next run at {start.isoformat(sep=' ')} (in {left})"


def _announce(text: str) -> None:
    """Log a line; where logging is not configured, write it to the error output: a schedule that is mute looks hung."""
    logger.info("%s", text)
    if not digest.is_handled(logger.name) and sys.stderr is not None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _run_logged(run: Callable[[ClockEvent], State], event: ClockEvent, flow_name: str) -> State:
    try:
        state = run(event)
        counts = state.counts()
        told = str(state.message or "") if counts is None else counts.text()
        _announce(f"Flow {flow_name!r}: run of {event.start_time.isoformat(sep=' ')}: {type(state).__name__}: {told}")
        return state
    except Exception as error:  # for example a lost scheduler, which may be back at the next event
        when = event.start_time.isoformat(sep=" ")
        logger.exception("Flow %r: the run of %s was aborted; the schedule continues", flow_name, when)
        return Failed(f"the run of {when} was aborted: {describe(error)}", error)
