"""Log lines of task runs in the history: written with the children, read by run, task and child."""

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


def write_lines(connection: Connection, run: int, part: int, steps: Mapping[int, int], logs: list[AttemptLog]) -> None:
    """Write the log lines of attempts of a run in this part of it; `steps` are the steps' numbers in the history."""
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
        for lines in logs
        for line in lines.lines
    ]
    if not rows:
        return
    if connection.dialect.name != "sqlite":
        connection.execute(insert(schema.lines), [dict(zip(_COLUMNS, row, strict=True)) for row in rows])
        return
    # SQLAlchemy spends as much time on the parameters of a row as SQLite on the row, so rows are passed to the driver.
    places = ", ".join("?" * len(_COLUMNS))
    connection.exec_driver_sql(f"INSERT INTO lines ({', '.join(_COLUMNS)}) VALUES ({places})", rows)


def waiting(queue: deque[AttemptLog]) -> list[AttemptLog]:
    """Return the queued logs without removing them: they stay in the queue until they are written."""
    return list(islice(queue, len(queue)))


class LogLine:
    """A log line of a task run.

    Attributes
    ----------
    at
        Aware datetime, by the clock of the machine that ran the task.
    level
        Name of its level.
    slug, index, run_name, attempt
        The task, the map index (None for an unmapped task), the name of the task run (None without a
        ``task_run_name``) and the number of the attempt.
    logger
        Name of the logger; None: the logger of the task.
    number
        Of the line in the history: those recorded later have higher ones.
    text
        One line; control characters in it are escaped.
    traceback
        The traceback logged with it.
    """

    def __init__(self, row: Any, label: str) -> None:
        self._label = label
        self.at = datetime.fromtimestamp(row.at, UTC)
        self.level: str = logging.getLevelName(row.level)
        self.slug: str = row.slug
        self.index: int | None = row.row if row.mapped and row.row >= 0 else None
        self.run_name: str | None = row.name
        self.attempt: int = row.attempt
        self.logger: str | None = row.logger
        self.number: int = row.number
        self.text: str = row.text
        self.traceback: str | None = row.traceback

    @property
    def child(self) -> str:
        """Return a label of the child: ``load[3] (eu)``."""
        label = self._label if self.index is None else f"{self._label}[{self.index}]"
        return label if self.run_name is None else f"{label} ({self.run_name})"

    def __str__(self) -> str:
        clock = self.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        where = printable(self.child if self.logger is None else f"{self.child} {self.logger}")
        text = f"{clock} {self.level:<7} {where}: {self.text}"
        return text if self.traceback is None else f"{text}\n{self.traceback}"

    def __repr__(self) -> str:
        return printable(f"<{self.level} of {self.child}: {self.text}>")


def select_lines(
    run: int, step: int | None, item: int | str | None, level: int, limit: int | None, after: int = 0
) -> Select[Any]:
    """Return the query for the last `limit` lines of a run, oldest first.

    Only lines of this step, of this item (a map index or an item key), and of this level or above.
    """
    child: ColumnElement[bool] = (_c.run == _l.run) & (_c.step == _l.step) & (_c.row == _l.row) & (_c.part == _l.part)
    query = (
        select(schema.lines, _s.slug, _s.mapped, _c.name)
        .join(schema.steps, (_s.run == _l.run) & (_s.step == _l.step))
        .outerjoin(schema.children, child)
        .where(_l.run == run, _l.level >= level, _l.number > after)
    )
    if step is not None:
        query = query.where(_l.step == step)
    if item is not None:
        query = query.where(_l.row == item if isinstance(item, int) else _c.item_key == item)
    return query.order_by(_l.at.desc(), _l.number.desc()).limit(limit)


def level_number(level: int | str) -> int:
    """Return the number of a level, given by number or name; ValueError if there is none of this name."""
    if isinstance(level, int):
        return level
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"level must be DEBUG, INFO, WARNING, ERROR, CRITICAL or a number, got {level!r}")
    return number
