"""The failed items of a run: by cause, searched, sorted, in pages."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import ColumnElement, FromClause, Select, and_, func, or_, select

from prefectish.history import schema
from prefectish.history.children import aware_time, shown_type
from prefectish.history.queries import RunRow
from prefectish.ui.queries.run import causes_of
from prefectish.ui.queries.runs import paging, row_of
from prefectish.ui.queries.tasks import item_ref
from prefectish.ui.records import FailedItem, FailedItems
from prefectish.ui.source import Source

_s, _e = schema.steps.c, schema.errors.c
#: Failed items on a page.
PAGE_SIZE = 50
Sort = Literal["item", "seconds", "attempts", "worker", "time"]


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
    wanted = _condition(table, cause, step, text)
    query = _with_texts(run, table).where(wanted)
    counted = query.subquery() if text else select(table).where(wanted).subquery()
    start = (max(page, 1) - 1) * PAGE_SIZE
    with source.store.reading() as connection:
        total = connection.execute(select(func.count()).select_from(counted)).scalar_one()
        rows = connection.execute(query.order_by(*_order(table, sort, descending)).limit(PAGE_SIZE).offset(start)).all()
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


def _condition(table: FromClause, cause: int | None, step: int | None, text: str | None) -> ColumnElement[bool]:
    c = table.c
    # Numbers are positive; a range lets the database take the index of failures.
    wanted: list[ColumnElement[bool]] = [c.error > 0]
    if cause is not None:
        wanted.append(c.error == cause)
    if step is not None:
        wanted.append(c.step + 0 == step)
    if text:
        wanted.append(_has_text(table, text))
    return and_(*wanted)


def _order(table: FromClause, sort: Sort, descending: bool) -> list[ColumnElement[Any]]:
    c = table.c
    # Sums are no columns, by which the database would go through all items in their order, failed or not.
    step, row = c.step + 0, c.row + 0
    keys: dict[str, ColumnElement[Any]] = {
        "item": step, "seconds": c.seconds, "attempts": c.attempts, "worker": c.worker, "time": c.at
    }  # fmt: skip
    first = keys[sort].desc() if descending else keys[sort]
    return [first, step, row.desc() if descending and sort == "item" else row]


def _has_text(table: FromClause, text: str) -> ColumnElement[bool]:
    c = table.c
    found = [
        c.item_key.contains(text, autoescape=True),
        c.name.contains(text, autoescape=True),
        and_(c.message.is_(None), _e.message.contains(text, autoescape=True)),  # else it is that of another item
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
