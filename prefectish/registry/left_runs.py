"""Runs that a former process began by the schedule of a flow, and left: served again, they are continued or failed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from prefectish.engine.context import get_logger
from prefectish.engine.driver.interrupts import TERMINATED
from prefectish.engine.driver.options import RunOrigin
from prefectish.engine.driver.run import resumption
from prefectish.engine.handlers import call_handlers
from prefectish.engine.state import Failed, Running, State
from prefectish.errors import PrefectishError
from prefectish.functions.decorator import FlowFunction
from prefectish.history.queries import RunRow, runs
from prefectish.history.store import HistoryStore
from prefectish.registry.drive import LOST_RUN, TOLD_TO_END, record_end
from prefectish.registry.options import DeploymentOptions
from prefectish.schedules.schedule import Schedule

#: Runs of a flow that are looked through, the newest ones.
NEWEST = 100
logger = get_logger("schedule")


def begin(flow: Any, given: Mapping[str, Any], history: Any, **options: Any) -> Any:
    """Start a run of a flow or a flow function in the background, and return its handle."""
    more = {"history": history, "progress": False, "background": True, **options}
    if isinstance(flow, FlowFunction):
        return flow._in_background(flow.signature.bind((), given), flow.options.merged(**more))
    return flow._in_background(flow._settled(given, {}, None), flow._options(**more))


def left_runs(flow: Any, store: HistoryStore) -> list[RunRow]:
    """Return the runs that were begun by the schedule of a flow and left by a process that died or was terminated."""
    return [
        run
        for run in reversed(runs(NEWEST, flow.name, store.address))
        if run.scheduled_for is not None
        and run.deployment is None
        and (run.is_lost or (run.ended is not None and run.exit_code == TERMINATED))
    ]


def take_up(flow: Any, schedule: Schedule, run: RunRow, options: DeploymentOptions, store: HistoryStore) -> Any:
    """Continue a run that was left, or fail it; return its handle, None if nothing more runs of it.

    One that was terminated has ended, if runs are not to be continued.
    """
    why = "its process is gone" if run.is_lost else TOLD_TO_END
    if options.on_lost == "resume" and run.part < options.max_resumes:
        given = _values(schedule, run)
        origin = RunOrigin("resume", run.scheduled_for)
        spent = {"spent": run.duration} if options.timeout is not None else {}
        logger.warning("Flow %r: run %s is continued: %s", flow.name, run.id, why)
        recorded = resumption(run.id, store.address)
        return begin(flow, given, None, timeout=options.timeout, origin=origin, resumption=recorded, **spent)
    if run.is_lost or options.on_lost == "resume":
        after = f", after {run.part} resumes" if options.on_lost == "resume" else ""
        state: State = Failed(f"{LOST_RUN}: {why}{after}")
        logger.error("Flow %r: run %s is given up: %s", flow.name, run.id, state.message)
        state = call_handlers(flow, flow.state_handlers, Running("Running flow."), state).state
        record_end(store, run.id, flow.name, state, None)
    return None


def _values(schedule: Schedule, run: RunRow) -> Mapping[str, Any]:
    """Return the values of the event that a run was begun for: they are not recorded."""
    assert run.scheduled_for is not None
    due = run.scheduled_for.astimezone(UTC)
    found = []
    for event in schedule.events(due - timedelta(milliseconds=1)):
        if event.instant > due + timedelta(milliseconds=1):
            break
        found.append(event)
    if len(found) != 1:
        what = "no event" if not found else f"{len(found)} events"
        raise PrefectishError(f"the schedule has {what} at {_moment(due)}, so that its parameters are not known")
    values: Mapping[str, Any] = found[0].parameter_defaults
    return values


def _moment(due: datetime) -> str:
    return due.isoformat(sep=" ", timespec="seconds")
