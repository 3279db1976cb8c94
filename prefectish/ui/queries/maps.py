"""A map: how far it is, its picture, its failed items, and a search among its items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, FromClause, Select, and_, func, or_, select

from prefectish.history import schema
from prefectish.history.cells import json_of
from prefectish.history.children import aware_time, shown_type
from prefectish.history.queries import RunRow
from prefectish.ui.pictures import picture_of, running_rows
from prefectish.ui.queries.run import causes_of, verbs_of
from prefectish.ui.queries.runs import paging, row_of, summary
from prefectish.ui.queries.tasks import item_ref, step_row, task_rows
from prefectish.ui.records import FailedItem, FailedItems, Found, ItemRef, MapDetail
from prefectish.ui.source import NotFound, Source

_s, _e, _t = schema.steps.c, schema.errors.c, schema.texts.c
#: Failed items on a page, and items that a search finds at most.
PAGE_SIZE, MAX_FOUND = 50, 50
#: Seconds that who asks for a picture waits for it: it is read in pieces, and a page is shown meanwhile.
PICTURE_PATIENCE = 30.0
Sort = Literal["item", "seconds", "attempts", "worker", "time"]


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


def failed_items(
    source: Source,
    run_id: str,
    *,
    cause: int | None = None,
    step: int | None = None,
    text: str | None = None,
    sort: Sort = "item",
    descending: bool = False,
    page: int = 1,
) -> FailedItems:
    """Return a page of the failed items of a run."""
    run = row_of(source, run_id)
    table = run._current()
    c = table.c
    # Numbers are positive; a range lets the database take the index of failures.
    wanted: list[ColumnElement[bool]] = [c.error > 0]
    if cause is not None:
        wanted.append(c.error == cause)
    if step is not None:
        wanted.append(c.step + 0 == step)
    if text:
        wanted.append(_has_text(table, text))
    query = _with_texts(run, table).where(and_(*wanted))
    # Sums are no columns, by which the database would go through all items in their order, failed or not.
    place = (c.step + 0, c.row + 0)
    keys: Mapping[str, Any] = {
        "item": place[0], "seconds": c.seconds, "attempts": c.attempts, "worker": c.worker, "time": c.at
    }  # fmt: skip
    order = [keys[sort].desc() if descending else keys[sort]]
    order += [place[0], place[1].desc() if descending and sort == "item" else place[1]]
    with source.store.reading() as connection:
        counted = query.order_by(None).subquery() if text else select(table).where(and_(*wanted)).subquery()
        total = connection.execute(select(func.count()).select_from(counted)).scalar_one()
        rows = connection.execute(query.order_by(*order).limit(PAGE_SIZE).offset((max(page, 1) - 1) * PAGE_SIZE)).all()
    return FailedItems(
        run=run.id,
        items=[_failed(run, row) for row in rows],
        paging=paging(page, PAGE_SIZE, total),
        cause=cause,
        step=step,
        text=text,
        causes=causes_of(source, run, step),
        sort=sort,
        descending=descending,
    )


def _has_text(table: FromClause, text: str) -> ColumnElement[bool]:
    c = table.c
    found = [
        c.item_key.contains(text, autoescape=True),
        c.name.contains(text, autoescape=True),
        _e.message.contains(text, autoescape=True),
        _e.type.contains(text, autoescape=True),
    ]
    own = schema.texts.alias("own")
    texts = select(own.c.number).where(own.c.text.contains(text, autoescape=True))
    found += [c.message.in_(texts), c.worker.in_(texts)]
    if text.isascii() and text.isdecimal() and len(text) < 10:
        found.append(c.row == int(text))
    return or_(*found)


def _with_texts(run: RunRow, table: FromClause) -> Select[Any]:
    c = table.c
    message, worker = schema.texts.alias("message"), schema.texts.alias("worker_name")
    return (
        select(
            table, _s.slug, _s.mapped, _e.type, _e.message.label("first"), message.c.text, worker.c.text.label("place")
        )
        .join(schema.steps, (_s.run == run._number) & (_s.step == c.step))
        .join(schema.errors, _e.number == c.error)
        .outerjoin(message, message.c.number == c.message)
        .outerjoin(worker, worker.c.number == c.worker)
    )


def _failed(run: RunRow, row: Any) -> FailedItem:
    return FailedItem(
        item=item_ref(run, row.step, row.slug, row.row, bool(row.mapped), row.item_key, row.name),
        state=schema.STATES[row.state],
        cause=row.error,
        error=f"{shown_type(row.type)}: {row.text or row.first}",
        attempts=row.attempts,
        seconds=row.seconds,
        worker=row.place,
        at=aware_time(row.at),
    )


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
