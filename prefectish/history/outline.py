"""Find recorded runs and read their graphs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from sqlalchemy import select

from prefectish import config
from prefectish.engine.task_states import Arrow
from prefectish.history import schema
from prefectish.history.children import ChildRow, FailureGroup
from prefectish.history.queries import RunRow
from prefectish.history.store import HistoryStore, open_store, open_stores


def find(run_id: str) -> RunRow | None:
    """Return a run from a history opened by this process, or the one in the home folder; None if not found.

    A missing history is not created.
    """
    for store in _stores():
        with store.reading() as connection:
            row = connection.execute(select(schema.runs).where(schema.runs.c.id == run_id)).first()
        if row is not None:
            return RunRow(store, row)
    return None


def _stores() -> Iterator[HistoryStore]:
    yield from open_stores()
    if os.path.exists(os.path.join(config.home(), "history.db")):
        yield open_store(None)


def arrows(run: RunRow) -> list[Arrow]:
    """Return the edges between the tasks of a run, without parameters and constants."""
    c = schema.steps.c
    query = select(c.slug, c.reads).where(c.run == run._number, c.reads.is_not(None)).order_by(c.step)
    with run._store.reading() as connection:
        rows = connection.execute(query).all()
    return [Arrow(start, row.slug, key, bool(mapped)) for row in rows for start, key, mapped in json.loads(row.reads)]


def first_of(group: FailureGroup, limit: int) -> list[ChildRow]:
    """Return the first children of a group of failures, without reading the others."""
    table = group._run._current()
    c = table.c
    query = group._run._children(table).where(c.error == group._error).order_by(c.step, c.row).limit(limit)
    with group._run._store.reading() as connection:
        return [ChildRow(group._run, row) for row in connection.execute(query)]
