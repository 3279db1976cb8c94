"""Drive a flow under the identifier that its run was promised, from its record if another driver began it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, update

from prefectish.engine.capture import Value, capture
from prefectish.engine.driver.interrupts import TERMINATED
from prefectish.engine.driver.options import RunOrigin
from prefectish.engine.driver.run import resumption, run_flow
from prefectish.engine.state import State
from prefectish.functions.decorator import FlowFunction
from prefectish.history import schema
from prefectish.history.queries import RunRow
from prefectish.history.store import HistoryStore
from prefectish.registry.queue import RETRY
from prefectish.results.base import store_of
from prefectish.results.descriptions import described

#: Seconds between two signs of life of a driver.
BEAT = 5.0
#: Marks the line of facts that a driver prints of a flow that it has loaded.
MARK = "prefectish-facts: "
#: Exit codes of a driver: its run failed; it found its run in other hands.
FAILED, LOCKED = 1, 75
#: How the message of a run begins whose drivers were lost.
LOST_RUN = "driver-lost"
#: Why a run is continued whose driver was terminated.
TOLD_TO_END = "its driver was terminated (SIGTERM)"
_r = schema.runs.c


def origin_of(row: Any, deployment: Any) -> RunOrigin:
    """Return who asked for a run, of its row and its deployment."""
    due = datetime.fromtimestamp(row.due, UTC)
    by = "resume" if row.resumes else row.begun_by
    return RunOrigin(by, due, deployment.path, deployment.version, row.agent, row.parent)


def recorded_row(store: HistoryStore, run_id: str) -> RunRow | None:
    """Return the record of a run; None if none was begun."""
    with store.reading() as connection:
        row = connection.execute(select(schema.runs).where(_r.id == run_id)).first()
    return None if row is None else RunRow(store, row)


def drive(
    flow: Any, parameters: dict[str, Any], run_id: str, store: HistoryStore, origin: RunOrigin | None,
    again: str | None = None, **options: Any,
) -> State | None:  # fmt: skip
    """Run a flow to its end, or continue it; None if another driver has ended it before.

    One that has ended is continued if it is to run `again`: "resume", or "retry" with what failed.
    """
    found = recorded_row(store, run_id)
    has_ended = found is not None and found.ended is not None and found.exit_code != TERMINATED
    if has_ended and again is None:
        return None
    given = {"history": store.address, "origin": origin, "run_id": run_id, **options}
    if found is not None:
        recorded = resumption(run_id, store.address, again == RETRY)
        given |= {"resumption": recorded, "spent": 0.0 if has_ended else found.duration}
    if isinstance(flow, FlowFunction):
        state = flow._state(flow.signature.bind((), parameters), flow.options.merged(**given))
        _keep_returned(store, flow, run_id, state)
        return state
    return run_flow(flow, flow._settled(parameters, {}, None), flow._options(**given))


def _keep_returned(store: HistoryStore, flow: FlowFunction[Any, Any], run_id: str, state: State) -> None:
    """Store what a flow function returned, so that other processes can read it."""
    place = described(store_of(flow.result))
    if place is None or not state.is_successful():
        return
    location = f"{run_id}/returned"
    saved = capture(flow.result.save, location, state.result)
    if isinstance(saved, Value):  # a value that cannot be stored is reported where it is read
        text = json.dumps({"store": place, "location": location})
        with store.writing() as connection:
            connection.execute(update(schema.runs).where(_r.id == run_id).values(returned=text))


def record_end(store: HistoryStore, run_id: str, flow_name: str, state: State, origin: RunOrigin | None) -> None:
    """Record that a run ended which no driver can drive to its end."""
    now = time.time()
    values: dict[str, Any] = {
        "state": schema.CODES[type(state).__name__],
        "message": str(state.message),
        "exit_code": state.exit_code,
        "ended": now,
        "holder": None,
    }
    facts = {} if origin is None else {**origin._asdict(), "scheduled_for": _seconds(origin)}
    with store.writing() as connection:
        found = connection.execute(select(_r.number, _r.ended, _r.exit_code).where(_r.id == run_id)).first()
        if found is None:
            row = {"id": run_id, "flow_name": flow_name, "name": run_id, "started": now, "heartbeat": now, "part": 0}
            connection.execute(insert(schema.runs).values({**row, **facts, **values}))
        elif found.ended is None or (found.exit_code == TERMINATED and state.exit_code != TERMINATED):
            connection.execute(update(schema.runs).where(_r.number == found.number).values(values))


def _seconds(origin: RunOrigin) -> float | None:
    return None if origin.scheduled_for is None else origin.scheduled_for.timestamp()
