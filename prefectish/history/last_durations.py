"""Durations of the tasks of a flow in its last successful run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import select

from prefectish.history import schema
from prefectish.history.outline import find
from prefectish.history.queries import RunRow


class Past(NamedTuple):
    """A task of an earlier run: its number of children, and the seconds from the first start to the last end."""

    children: int
    seconds: float


def last_time(run_id: str) -> Mapping[str, Past]:
    """Return durations of the tasks, by slug, in the last successful run of the flow before a run; empty if unknown."""
    run = find(run_id)
    former = None if run is None else _before(run)
    if former is None:
        return {}
    return {
        task["slug"]: Past(sum(task["counts"].values()), (task["ended"] - task["started"]).total_seconds())
        for task in former.tasks()
        if task["started"] is not None
    }


def _before(run: RunRow) -> RunRow | None:
    c = schema.runs.c
    query = select(schema.runs).where(
        c.flow_name == run.flow_name, c.state == schema.CODES["Success"], c.number < run._number
    )
    with run._store.reading() as connection:
        row = connection.execute(query.order_by(c.number.desc()).limit(1)).first()
    return None if row is None else RunRow(run._store, row)
