"""A map: how far it is, its picture, its failed items, and a search among its items."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import or_, select

from prefectish.history import schema
from prefectish.history.cells import json_of
from prefectish.history.queries import RunRow
from prefectish.ui.pictures import picture_of, running_rows
from prefectish.ui.queries.run import causes_of, verbs_of
from prefectish.ui.queries.runs import row_of, summary
from prefectish.ui.queries.tasks import item_ref, step_row, task_rows
from prefectish.ui.records import Found, ItemRef, MapDetail
from prefectish.ui.source import NotFound, Source

_s, _e, _t = schema.steps.c, schema.errors.c, schema.texts.c
#: Failed items on a page, and items that a search finds at most.
PAGE_SIZE, MAX_FOUND = 50, 50
#: Seconds that who asks for a picture waits for it: it is read in pieces, and a page is shown meanwhile.
PICTURE_PATIENCE = 30.0


def map_detail(source: Source, run_id: str, step: int) -> MapDetail:
    """Return a map of a run, or a single task."""
    run = row_of(source, run_id)
    row = step_row(source, run, step)
    task = task_rows(source, run, [row])[0][0]  # which waits for the picture, as long as a page does
    picture = picture_of(source, run, step, row.state is not None, 0.0 if row.mapped else None)
    head = summary(source, run)
    return MapDetail(
        run=head,
        task=task,
        causes=causes_of(source, run, step),
        width=max(
            task.total or 0, 0 if picture is None else len(picture.states), 1 + max(running_rows(row), default=-1)
        ),
        longest=0.0 if picture is None else picture.longest,
        verbs=[verb for verb in verbs_of(head) if verb in ("cancel", "retry", "set_limit")],
        upstream=_upstream(source, run, row.reads),
    )


def _upstream(source: Source, run: RunRow, reads: str | None) -> list[int]:
    if reads is None:
        return []
    slugs = {edge[0] for edge in json_of("reads", reads, list)}
    query = select(_s.step).where(_s.run == run._number, _s.slug.in_(slugs)).order_by(_s.step)
    with source.store.reading() as connection:
        return list(connection.execute(query).scalars())


class Pixels(NamedTuple):
    """A byte for each item of a map, and the seconds of the one that took longest."""

    bytes: bytes
    longest: float


def picture_bytes(source: Source, run_id: str, step: int, by: str) -> Pixels:
    """Return a byte for each item of a map: its state, or its duration; see :mod:`prefectish.ui.pictures`."""
    run = row_of(source, run_id)
    row = step_row(source, run, step)
    picture = picture_of(source, run, step, row.state is not None, PICTURE_PATIENCE)
    if picture is None:
        raise NotFound(f"the picture of {row.slug} could not be read in {PICTURE_PATIENCE:.0f} s; try again")
    if by == "duration":
        shown = source.soon(
            ("durations", run.id, run.part, step, run.ended),
            lambda: picture.durations(source),
            fresh_for=3600.0 if run.ended is not None else 5.0,
            patience=PICTURE_PATIENCE,
        )
        return Pixels(shown or b"", picture.longest)
    return Pixels(picture.with_running(running_rows(row) if run.ended is None else []), picture.longest)


def find_items(source: Source, run_id: str, step: int, text: str) -> Found:
    """Return the items of a map by their index, or by a part of their key or name."""
    run = row_of(source, run_id)
    task = step_row(source, run, step)
    table = run._current()
    c = table.c
    own = select(c.row, c.item_key, c.name).where(c.step == step)
    named = or_(c.item_key.contains(text, autoescape=True), c.name.contains(text, autoescape=True))
    searches = [own.where(named).order_by(c.item_key != text, c.row)]
    if text.isascii() and text.isdecimal() and len(text) < 10:
        searches.insert(0, own.where(c.row == int(text)))
    found: dict[int, ItemRef] = {}
    with source.store.reading() as connection:
        for query in searches if text else ():
            for row in connection.execute(query.limit(MAX_FOUND)):
                item = item_ref(run, step, task.slug, row.row, bool(task.mapped), row.item_key, row.name)
                found.setdefault(row.row, item)
    return Found(run=run.id, step=step, items=list(found.values())[:MAX_FOUND])
