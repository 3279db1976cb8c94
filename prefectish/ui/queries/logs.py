"""Log lines of a run, a task or an item, the newest first or those that came since."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, literal, select

from prefectish.history import schema
from prefectish.history.children import aware_time
from prefectish.history.lines import level_number
from prefectish.history.queries import RunRow
from prefectish.ui.queries.runs import row_of
from prefectish.ui.queries.tasks import item_ref
from prefectish.ui.records import LogLine, LogLines
from prefectish.ui.source import NotFound, Source

_l, _s, _c = schema.lines.c, schema.steps.c, schema.children.c
#: Lines on a page.
PAGE_SIZE = 200
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def log_lines(
    source: Source,
    run_id: str,
    *,
    step: int | None = None,
    row: int | None = None,
    level: str = "DEBUG",
    text: str | None = None,
    after: int | None = None,
    before: int | None = None,
    limit: int = PAGE_SIZE,
) -> LogLines:
    """Return log lines of a run: the last ones, or those before or after the line with a number."""
    run = row_of(source, run_id)
    try:
        wanted = level_number(level)
    except ValueError as error:
        raise NotFound(str(error)) from None
    query = _lines(run, step, row).where(_l.level >= wanted)
    if text:
        query = query.where(_l.text.contains(text, autoescape=True))
    if after is not None:
        query = query.where(_l.number > after).order_by(_l.number)
    else:
        query = (query if before is None else query.where(_l.number < before)).order_by(_l.number.desc())
    with source.store.reading() as connection:
        has_lines = connection.execute(select(_l.number).where(_l.run == run._number).limit(1)).first()
        rows = connection.execute(query.limit(limit)).all() if has_lines else []
        named = _steps(source, run) if rows else {}
    found = list(rows) if after is not None else list(rows)[::-1]
    return LogLines(
        run=run.id,
        lines=[_line(run, each, named) for each in found],
        last=found[-1].number if found else after or 0,
        earlier=found[0].number if found and after is None and len(found) == limit else None,
        levels=list(LEVELS),
    )


def _lines(run: RunRow, step: int | None, row: int | None) -> Select[Any]:
    """Return the query of the lines of a run, of one task or item of it."""
    child = (_c.run == _l.run) & (_c.step == _l.step) & (_c.row == _l.row) & (_c.part == _l.part)
    query = select(schema.lines, _c.name, _c.item_key).outerjoin(schema.children, child)
    if step is None:
        # The newest lines are looked for from the end of the table: all lines of a run would have to be sorted.
        return query.where(literal(0) + _l.run == run._number)
    query = query.where(_l.run == run._number, _l.step == step)
    return query if row is None else query.where(_l.row == row)


def _steps(source: Source, run: RunRow) -> Mapping[int, Any]:
    with source.store.reading() as connection:
        query = select(_s.step, _s.slug, _s.mapped).where(_s.run == run._number)
        return {row.step: row for row in connection.execute(query)}


def _line(run: RunRow, row: Any, steps: Mapping[int, Any]) -> LogLine:
    task = steps[row.step]
    item = None
    label = run.label_of(task.slug)
    if row.row >= 0:
        item = item_ref(run, row.step, task.slug, row.row, bool(task.mapped), row.item_key, row.name)
        label = item.label
    return LogLine(
        number=row.number,
        at=aware_time(row.at),
        level=logging.getLevelName(row.level),
        item=item,
        label=label,
        attempt=row.attempt,
        logger=row.logger,
        text=row.text,
        traceback=row.traceback,
    )
