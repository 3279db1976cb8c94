"""The states of a recorded run, read from the history where the run itself is out of reach."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select

from prefectish import config
from prefectish.engine.deferred import Deferred
from prefectish.engine.jobs.struct import Struct
from prefectish.engine.state import Mapped, Pending, State
from prefectish.engine.task_states import TaskStates
from prefectish.engine.worker.stored_result import Stored
from prefectish.history import schema
from prefectish.history.children import ChildRow
from prefectish.history.outline import arrows
from prefectish.history.queries import RunRow
from prefectish.history.resume import STATE_CLASSES, state_of
from prefectish.results.base import Result
from prefectish.results.descriptions import opened


class RecordedResult(Struct, Deferred):
    """The result of the state of a recorded run: the states of its tasks by slug, or what a flow function returned."""

    __slots__ = ("run",)

    def __init__(self, run: RunRow) -> None:
        self.run = run

    def get(self) -> Any:
        """Read the states; raises ResultReleased if what the function returned was not stored."""
        returned = self.run._returned
        if returned is None:
            return task_states(self.run)
        place = json.loads(returned)
        return Stored(opened(place["store"], _key()), place["location"], self.run.flow_name).get()


def flow_state(run: RunRow) -> State:
    """Return the state in which a recorded run ended; its result is read when it is asked for."""
    state = STATE_CLASSES[run.state](run.message)
    return state.replace(result=RecordedResult(run), context={"flow_run_id": run.id, "exit_code": run.exit_code})


def task_states(run: RunRow) -> TaskStates:
    """Return the states of the tasks of a recorded run by slug, with results where they were stored."""
    facts = {row["slug"]: row for row in run.tasks()}
    mapped = frozenset(slug for slug, row in facts.items() if row["mapped"])
    states = {slug: task_state(run, slug, slug in mapped) for slug in facts}
    return TaskStates(
        states,
        run.flow_name,
        {slug: slug for slug in states},
        arrows(run),
        mapped,
        labels={slug: run.label_of(slug) for slug in states},
    )


def task_state(run: RunRow, slug: str, is_mapped: bool) -> State:
    """Return the state of one task; children of a map that have not ended are None in it."""
    store = _store_of(run, slug)
    rows = run.children(slug)
    if not is_mapped:
        return _child_state(rows[0], store) if rows else Pending()
    width = 1 + max((row.index or 0 for row in rows), default=-1)
    children: list[State | None] = [None] * width
    for row in rows:
        children[row.index or 0] = _child_state(row, store)
    return Mapped("Mapped tasks submitted for execution.", map_states=children)


def results(run: RunRow, task: Any) -> dict[int | None, Any]:
    """Return the stored results of the children of a task that have succeeded, by map index; None for a single task."""
    step = run._step(task)
    slug = next(row["slug"] for row in run.tasks() if run._step(row["slug"]) == step)
    store = _store_of(run, slug)
    return {
        row.index: _child_state(row, store).result for row in run.children(slug) if row.state in ("Success", "Cached")
    }


def _child_state(row: ChildRow, store: Result | None) -> State:
    state, _ = state_of(row, store, row.place)
    return state


def _store_of(run: RunRow, slug: str) -> Result | None:
    c = schema.steps.c
    with run._store.reading() as connection:
        text = connection.execute(select(c.store).where(c.run == run._number, c.slug == slug)).scalar()
    return None if text is None else opened(text, _key())


def _key() -> Any:
    return config.setting("hmac_key")
