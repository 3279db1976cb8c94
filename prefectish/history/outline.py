"""Find recorded runs and read their graphs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select

from prefectish import config
from prefectish.engine.context import get_logger
from prefectish.engine.state import Mapped, Pending, State
from prefectish.engine.task_counts import TASK_NAME
from prefectish.engine.task_states import Arrow, ChildCost, TaskStates
from prefectish.errors import HistoryWriteError
from prefectish.history import schema
from prefectish.history.cells import BadCell, json_of
from prefectish.history.children import ChildRow, FailureGroup
from prefectish.history.queries import RunRow
from prefectish.history.store import HistoryStore, open_store, open_stores
from prefectish.tasks.task import Task
from prefectish.visualize import SMALL_MAP

_STATES = {cls.__name__: cls for cls in State.children()}

#: Types of an edge in JSON.
_EDGES = [[str, key, mapped] for key in (str, type(None)) for mapped in (int, bool)]


def find(run_id: str) -> RunRow | None:
    """Return a run from a history opened by this process, or the one in the home folder; None if not found.

    A missing history is not created; one that cannot be reached any more does not hide the others.
    """
    for store in _stores():
        try:
            with store.reading() as connection:
                row = connection.execute(select(schema.runs).where(schema.runs.c.id == run_id)).first()
        except HistoryWriteError as error:
            get_logger("history").warning("%s; run %s is looked for elsewhere", error, run_id)
            continue
        if row is not None:
            return RunRow(store, row)
    return None


def costs(run_id: str, slug: str) -> dict[int, ChildCost] | None:
    """Return what the children of a task cost by their index, 0 for a single task; None if the run is not found."""
    run = find(run_id)
    if run is None:
        return None
    return {
        child.index or 0: ChildCost(child.duration, child.cpu_time, child.peak_memory, child.bytes_in, child.bytes_out)
        for child in run.children(slug)
    }


def _stores() -> Iterator[HistoryStore]:
    yield from open_stores()
    if os.path.exists(os.path.join(config.home(), "history.db")):
        yield open_store(None)


def arrows(run: RunRow) -> list[Arrow]:
    """Return the edges between the tasks of a run, without parameters and constants."""
    c = schema.steps.c
    query = select(c.slug, c.reads).where(c.run == run._number, c.reads.is_not(None)).order_by(c.step)
    with run._store.reading() as connection:
        rows = [(row.slug, _reads(row.reads)) for row in connection.execute(query)]
    return [Arrow(start, slug, key, mapped) for slug, reads in rows for start, key, mapped in reads]


def _reads(text: str) -> list[tuple[str, str | None, bool]]:
    """Return the edges to a task: slug, argument, and whether it is mapped over."""
    found = json_of("reads", text, list)
    if not all(type(edge) is list and [*map(type, edge)] in _EDGES for edge in found):
        raise BadCell(f"reads must be a list of [slug, argument, mapped], got {text[:60]!r}")
    return [(start, key, bool(mapped)) for start, key, mapped in found]


def task_states(run_id: str) -> TaskStates | None:
    """Return the tasks of a run with the states of their children, without results; None if it is not found."""
    run = find(run_id)
    if run is None:
        return None
    facts = run.tasks()
    tasks = {task["slug"]: Task(task["name"]) for task in facts}
    states = {tasks[task["slug"]]: _state_of(run, task) for task in facts}
    drawn = [arrow for arrow in arrows(run) if arrow.start in tasks and arrow.end in tasks]
    mapped = frozenset(task["slug"] for task in facts if task["mapped"])
    return TaskStates(
        states,
        run.flow_name,
        {task: slug for slug, task in tasks.items()},
        drawn,
        mapped,
        labels={slug: run.label_of(slug) for slug in tasks},
    )


def _state_of(run: RunRow, task: Mapping[str, Any]) -> State:
    """Return the state of a task; which child of a large map is in which state is not looked up."""
    counts: Mapping[str, int] = task["counts"]
    if sum(counts.values()) <= SMALL_MAP:
        children = [_STATES[child.state]() for child in run.children(task["slug"])]
    else:
        children = [_STATES[name]() for name, count in counts.items() for _ in range(count)]
    if task["mapped"]:
        name = {TASK_NAME: task["name"]}
        return Mapped("Recorded.", map_states=children, n_map_states=len(children), context=name)
    return children[0] if children else Pending()


def first_of(group: FailureGroup, limit: int) -> list[ChildRow]:
    """Return the first children of a group of failures, without reading the others."""
    table = group._run._current()
    c = table.c
    query = group._run._children(table).where(c.error == group._error).order_by(c.step, c.row).limit(limit)
    with group._run._store.reading() as connection:
        return [ChildRow(group._run, row) for row in connection.execute(query)]
