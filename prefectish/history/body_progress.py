"""What running bodies say of themselves, ``context.progress(...)``, as it stands in the history for other processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, select, update

from prefectish.engine.worker.body_progress import BodyProgress
from prefectish.history import schema
from prefectish.history.cells import BadCell, json_of
from prefectish.history.rows import clean

#: Bodies of a run whose words are kept; of a wide map the first ones.
MOST = 200
_s = schema.steps.c


def texts_of(said: Iterable[BodyProgress], number_of: Callable[[str], int | None]) -> dict[int, str]:
    """Return what is to be written by the number of the task, as JSON."""
    found: dict[int, list[Any]] = {}
    first = sorted(said, key=lambda body: (body.slug, -1 if body.index is None else body.index))[:MOST]
    for body in first:
        if (number := number_of(body.slug)) is not None:
            message = None if body.message is None else clean(str(body.message))
            facts = [body.index, clean(body.label), body.done, body.total, message]
            found.setdefault(number, []).append(facts)
    return {number: json.dumps(bodies, default=str) for number, bodies in found.items()}


def write_progress(connection: Connection, run: int, now: Mapping[int, str], before: Mapping[int, str]) -> None:
    """Write what has changed."""
    for step in now.keys() | before.keys():
        if now.get(step) != before.get(step):
            where = (_s.run == run) & (_s.step == step)
            connection.execute(update(schema.steps).where(where).values(progress=now.get(step)))


def read_progress(connection: Connection, run: int) -> list[BodyProgress]:
    """Return what the bodies of a run said last."""
    query = select(_s.slug, _s.progress).where(_s.run == run, _s.progress.is_not(None)).order_by(_s.step)
    return [_body(row.slug, facts) for row in connection.execute(query) for facts in _facts(row.progress)]


def _facts(text: str) -> list[Any]:
    found: list[Any] = json_of("progress", text, list)
    return found


def _body(slug: str, facts: Any) -> BodyProgress:
    if type(facts) is not list or len(facts) != len(_KINDS) or not all(map(isinstance, facts, _KINDS)):
        raise BadCell("progress must be lists of index, label, done, total and message")
    return BodyProgress(slug, *facts)


_NUMBER = (int, float, type(None))
_KINDS: tuple[tuple[type, ...], ...] = ((int, type(None)), (str,), _NUMBER, _NUMBER, (str, type(None)))
