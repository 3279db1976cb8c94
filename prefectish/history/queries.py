"""Read the history: runs, children, failures by cause."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, select

from prefectish.history import schema
from prefectish.history.store import Store, open_store

_r, _s, _c, _e, _t, _a = (
    schema.runs.c, schema.steps.c, schema.children.c, schema.errors.c, schema.texts.c, schema.attempts.c,
)  # fmt: skip


def runs(limit: int | None = 20, flow: str | None = None, store: str | os.PathLike[str] | None = None) -> list[RunRow]:
    """Return the recorded runs, newest first.

    Parameters
    ----------
    limit : how many at most; None for all.
    flow : only those of the flow of this name.
    store : path or database URL; None for the history in the home folder.
    """
    opened = open_store(store)
    query = select(schema.runs).order_by(_r.number.desc())
    if flow is not None:
        query = query.where(_r.flow_name == flow)
    if limit is not None:
        query = query.limit(limit)
    with opened.reading() as connection:
        return [RunRow(opened, row) for row in connection.execute(query)]


def run(id: str, store: str | os.PathLike[str] | None = None) -> RunRow:
    """Return one recorded run.

    Parameters
    ----------
    id : its identifier, or the beginning of it if that is unambiguous.

    Raises
    ------
    KeyError : there is none, or several begin like that.
    """
    opened = open_store(store)
    query = select(schema.runs).where(_r.id.startswith(id, autoescape=True)).limit(2)
    with opened.reading() as connection:
        rows = connection.execute(query).all()
    if len(rows) != 1:
        raise KeyError(f"{'several runs begin with' if rows else 'no run'} {id!r} in the history {opened.location}")
    return RunRow(opened, rows[0])


class RunRow:
    """A recorded run.

    Attributes
    ----------
    id, name, flow_name, flow_version : names of the run and of its flow.
    state : name of the state it ended in, or "Running".
    started, ended, heartbeat : aware datetimes; `ended` is None for a run that did not end.
    exit_code : of a program that ends with the run's state.
    """

    def __init__(self, store: Store, row: Any) -> None:
        self._store = store
        self._number: int = row.number
        self.id: str = row.id
        self.name: str = row.name
        self.flow_name: str = row.flow_name
        self.flow_version: str | None = row.flow_version
        self.state: str = schema.STATES[row.state]
        self.message: str | None = row.message
        self.exit_code: int | None = row.exit_code
        self.executor: str | None = row.executor
        self.holder: str | None = row.holder
        self.started = _time(row.started)
        self.ended = None if row.ended is None else _time(row.ended)
        self.heartbeat = _time(row.heartbeat)

    @property
    def duration(self) -> float:
        """Return the seconds from start to end, or to the last heartbeat."""
        return ((self.ended or self.heartbeat) - self.started).total_seconds()

    def tasks(self) -> list[dict[str, Any]]:
        """Return the tasks: slug, name, state and number of children by state."""
        counts: dict[int, dict[str, int]] = {}
        query = select(_c.step, _c.state, func.count()).where(_c.run == self._number).group_by(_c.step, _c.state)
        with self._store.reading() as connection:
            for step, state, count in connection.execute(query):
                counts.setdefault(step, {})[schema.STATES[state]] = count
            steps = connection.execute(select(schema.steps).where(_s.run == self._number).order_by(_s.step)).all()
        return [
            {
                "slug": row.slug,
                "name": row.name,
                "mapped": bool(row.mapped),
                "state": None if row.state is None else schema.STATES[row.state],
                "counts": counts.get(row.step, {}),
            }
            for row in steps
        ]

    def children(self, task: Any, state: str | None = None) -> list[ChildRow]:
        """Return the recorded children of a task, in map order; a single task has one.

        Parameters
        ----------
        task : a task, its slug or its name.
        state : only those in the state of this name; "Failed" stands for every kind of failure.
        """
        query = self._children().where(_c.step == self._step(task)).order_by(_c.row)
        if state is not None:
            codes = schema.FAILED if state == "Failed" else {schema.CODES[state]}
            query = query.where(_c.state.in_(codes))
        with self._store.reading() as connection:
            return [ChildRow(self, row) for row in connection.execute(query)]

    def child(self, task: Any, item: int | str) -> ChildRow:
        """Return one child.

        Parameters
        ----------
        item : its map index, or its item key.

        Raises
        ------
        KeyError : there is none.
        """
        query = self._children().where(_c.step == self._step(task))
        query = query.where(_c.row == item if isinstance(item, int) else _c.item_key == item)
        with self._store.reading() as connection:
            row = connection.execute(query.limit(1)).first()
        if row is None:
            raise KeyError(f"no child {item!r} of {task!r} is recorded in run {self.id}")
        return ChildRow(self, row)

    def failures(self) -> list[FailureGroup]:
        """Return the failures grouped by cause, the largest group first."""
        counts = (
            select(_c.error, func.count().label("count"))
            .where(_c.run == self._number, _c.error.is_not(None))
            .group_by(_c.error)
            .subquery()
        )
        query = select(schema.errors, counts.c.count).join(counts, counts.c.error == _e.number)
        with self._store.reading() as connection:
            rows = connection.execute(query.order_by(counts.c.count.desc(), _e.number)).all()
        return [FailureGroup(self, row) for row in rows]

    def _children(self) -> Select[Any]:
        message = schema.texts.alias("message")
        worker = schema.texts.alias("worker_name")
        return (
            select(
                schema.children,
                _s.slug,
                _s.mapped,
                _e.type.label("error_type"),
                _e.message.label("error_message"),
                _e.traceback,
                message.c.text.label("text"),
                worker.c.text.label("worker_text"),
            )
            .join(schema.steps, (_s.run == _c.run) & (_s.step == _c.step))
            .outerjoin(schema.errors, _e.number == _c.error)
            .outerjoin(message, message.c.number == _c.message)
            .outerjoin(worker, worker.c.number == _c.worker)
            .where(_c.run == self._number)
        )

    def _step(self, task: Any) -> int:
        name = task if isinstance(task, str) else getattr(task, "slug", None) or task.name
        with self._store.reading() as connection:
            rows = connection.execute(select(_s.step, _s.slug, _s.name).where(_s.run == self._number)).all()
        found = [row.step for row in rows if row.slug == name] or [row.step for row in rows if row.name == name]
        if len(found) != 1:
            known = ", ".join(row.slug for row in rows)
            raise KeyError(
                f"{'several tasks are' if found else 'no task is'} called {name!r} in run {self.id}: {known}"
            )
        return int(found[0])

    def __repr__(self) -> str:
        return f"<run {self.id}: {self.flow_name}, {self.state}, {self.duration:.1f} s>"


class ChildRow:
    """A recorded child.

    Attributes
    ----------
    index : its map index, None for a single task.
    item_key : what it is by its item, None if nobody asked.
    state : name of its final state.
    attempts : attempts that ended, 0 for a state that no attempt made.
    duration : seconds of the last attempt.
    error : text of its exception, None if it did not fail.
    traceback : of its exception, of one with the same cause where many failed alike.
    worker : process that ran it, ``host:pid``.
    at : when the owner learned of its end.
    """

    def __init__(self, run: RunRow, row: Any) -> None:
        self._run = run
        self._row = row
        self.slug: str = row.slug
        self.index: int | None = row.row if row.mapped else None
        self.item_key: str | None = row.item_key
        self.state: str = schema.STATES[row.state]
        self.attempts: int = row.attempts
        self.duration: float = row.seconds
        self.error: str | None = None if row.error_type is None else f"{row.error_type}: {row.error_message}"
        self.traceback: str | None = row.traceback
        self.message: str | None = row.text
        self.worker: str | None = row.worker_text
        self.location: str | None = row.location
        self.at = _time(row.at)

    def earlier(self) -> Sequence[tuple[int, str, float]]:
        """Return the attempts before the last: number, name of the state, seconds."""
        row = self._row
        where = (_a.run == row.run, _a.step == row.step, _a.row == row.row)
        query = select(_a.number, _a.state, _a.seconds).where(*where).order_by(_a.number)
        with self._run._store.reading() as connection:
            return [(number, schema.STATES[state], seconds) for number, state, seconds in connection.execute(query)]

    def __repr__(self) -> str:
        name = self.slug if self.index is None else f"{self.slug}[{self.index}]"
        return f"<child {name}: {self.state}>"


class FailureGroup:
    """Failures of one cause.

    Attributes
    ----------
    type, message, traceback : of the first that was recorded.
    count : how many children failed so.
    """

    def __init__(self, run: RunRow, row: Any) -> None:
        self._run = run
        self._error: int = row.number
        self.type: str = row.type
        self.message: str = row.message
        self.traceback: str | None = row.traceback
        self.count: int = row.count

    @property
    def children(self) -> list[ChildRow]:
        """Return the children that failed so."""
        query = self._run._children().where(_c.error == self._error).order_by(_c.step, _c.row)
        with self._run._store.reading() as connection:
            return [ChildRow(self._run, row) for row in connection.execute(query)]

    def __repr__(self) -> str:
        return f"<{self.count} x {self.type}: {self.message}>"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
