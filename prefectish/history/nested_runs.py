"""Recorded runs of flows that the function of another flow called."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from prefectish.history import schema
from prefectish.history.store import open_store

_r = schema.runs.c


def called_by(parent: str, flow_name: str, history: Any) -> list[str]:
    """Return the runs of a flow that a run called, by their identifiers, in the order in which they began."""
    store = open_store(None if history in (None, True) else history)
    query = select(_r.id).where(_r.parent == parent, _r.flow_name == flow_name, _r.begun_by.is_(None))
    with store.reading() as connection:
        return list(connection.execute(query.order_by(_r.number)).scalars())
