"""What bodies logged, in the history: written with the children, read by run, task and child."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, insert, select

from prefectish.engine.worker.logs.relay import AttemptLog
from prefectish.history import schema
from prefectish.history.rows import clean
from prefectish.safe_repr import printable

_COLUMNS = tuple(column.name for column in schema.lines.columns if not column.primary_key)
_l, _s, _c = schema.lines.c, schema.steps.c, schema.children.c


def write_lines(connection: Connection, run: int, part: int, steps: Mapping[int, int], told: list[AttemptLog]) -> None:
    """Write what attempts of a run logged.

    Parameters
    ----------
    run, part
        Numbers of the run, and of this part of it.
    steps
        Number that the history gave a step, by its number in the plan.
    """
    rows = [
        (
            run,
            steps[lines.step],
            lines.row,
            part,
            lines.attempt,
            line.at,
            line.level,
            None if line.logger is None else clean(line.logger),
            clean(line.text),
            None if line.traceback is None else clean(line.traceback),
        )
        for lines in told
        for line in lines.lines
    ]
    if not rows:
        return
    if connection.dialect.name != "sqlite":
        connection.execute(insert(schema.lines), [dict(zip(_COLUMNS, row, strict=True)) for row in rows])
        return
    # SQLAlchemy takes as long for the parameters of a row as SQLite for the row: rows go straight to the driver.
    places = ", ".join("?" * len(_COLUMNS))
    connection.exec_driver_sql(f"INSERT INTO lines ({', '.join(_COLUMNS)}) VALUES ({places})", rows)


def waiting(told: deque[AttemptLog]) -> list[AttemptLog]:
    """Return what waits to be written; it stays in the queue until it is."""
    return list(islice(told, len(told)))


class LogLine:
    """A line that a body logged.

    Attributes
    ----------
    at
        When, an aware datetime, by the clock of the machine that ran the body.
    level
        Name of its level.
    slug, index, run_name, attempt
        The task, the map index (None for a single task), the name of the run of the task (None without a
        ``task_run_name``) and the number of the attempt that logged it.
    logger
        Name of the logger; None for the task's own.
    text
        One line; control characters in it are escaped.
    traceback
        What was logged below it.
    """

    def __init__(self, row: Any) -> None:
        self.at = datetime.fromtimestamp(row.at, UTC)
        self.level: str = logging.getLevelName(row.level)
        self.slug: str = row.slug
        self.index: int | None = row.row if row.mapped else None
        self.run_name: str | None = row.name
        self.attempt: int = row.attempt
        self.logger: str | None = row.logger
        self.text: str = row.text
        self.traceback: str | None = row.traceback

    @property
    def child(self) -> str:
        """Return which child logged it: ``load-1[3] (eu)``."""
        label = self.slug if self.index is None else f"{self.slug}[{self.index}]"
        return label if self.run_name is None else f"{label} ({self.run_name})"

    def __str__(self) -> str:
        clock = self.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        where = printable(self.child if self.logger is None else f"{self.child} {self.logger}")
        text = f"{clock} {self.level:<7} {where}: {self.text}"
        return text if self.traceback is None else f"{text}\n{self.traceback}"

    def __repr__(self) -> str:
        return printable(f"<{self.level} of {self.child}: {self.text}>")


def select_lines(run: int, step: int | None, item: int | str | None, level: int, limit: int | None) -> Select[Any]:
    """Return the query for the lines of a run, oldest first.

    Parameters
    ----------
    step
        Only those of this step.
    item
        Only those of this row, or of the child with this item key.
    level
        Only those of this level and above.
    limit
        Only the last so many.
    """
    same: ColumnElement[bool] = (_c.run == _l.run) & (_c.step == _l.step) & (_c.row == _l.row) & (_c.part == _l.part)
    query = (
        select(schema.lines, _s.slug, _s.mapped, _c.name)
        .join(schema.steps, (_s.run == _l.run) & (_s.step == _l.step))
        .outerjoin(schema.children, same)
        .where(_l.run == run, _l.level >= level)
    )
    if step is not None:
        query = query.where(_l.step == step)
    if item is not None:
        query = query.where(_l.row == item if isinstance(item, int) else _c.item_key == item)
    return query.order_by(_l.at.desc(), _l.number.desc()).limit(limit)


def level_number(level: int | str) -> int:
    """Return the number of a level that is given by number or name.

    Raises
    ------
    ValueError
        There is no level of this name.
    """
    if isinstance(level, int):
        return level
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"level must be DEBUG, INFO, WARNING, ERROR, CRITICAL or a number, got {level!r}")
    return number
