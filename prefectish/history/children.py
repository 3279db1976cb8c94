"""What the history says of children: each child, its attempts, the failures of one cause."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from prefectish.engine.plan.item_key import ItemId, item_id_of
from prefectish.engine.signals import TRIGGERFAIL, TimeoutSignal
from prefectish.engine.state import TimedOut, TriggerFailed
from prefectish.history import schema
from prefectish.history.cells import json_of
from prefectish.safe_repr import printable
from prefectish.slugs import child_label

if TYPE_CHECKING:
    from prefectish.engine.state import State
    from prefectish.history.queries import RunRow

#: The exception of tasks that failed only because of upstream failures.
CONSEQUENCE_TYPE = TRIGGERFAIL.__name__
_AS_STATES = {CONSEQUENCE_TYPE: TriggerFailed.__name__, TimeoutSignal.__name__: TimedOut.__name__}
#: Maximum length of the repr of a run, a child or a cause.
MAX_LINE_LENGTH = 200
#: A generated item key, which is not informative for a reader.
_HASH = re.compile("[0-9a-f]{32}")
_e, _t, _a = schema.errors.c, schema.texts.c, schema.attempts.c


class ChildRow:
    """A recorded child.

    Attributes
    ----------
    index
        Its map index; None for an unmapped task.
    item_key
        Key of its item; None if it was not needed.
    state
        Name of its final state.
    attempts
        Number of attempts that ended, 0 if it never ran.
    duration
        Seconds of the last attempt.
    message
        Message of the state; None for a plain success.
    error
        Type and message of its exception; None if it did not fail.
    traceback
        Traceback of its exception, or of the first failure of this run with the same cause.
    name
        Name of its run, from ``task_run_name``.
    worker
        The process that ran it, ``host:pid``.
    location
        Location of its result in the store; None if it was not stored.
    cpu_time
        Time of the processor in the thread of its body; None if not measured.
    peak_memory
        By how much the peak memory of its process grew while it ran; None if it did not, or if not measured.
    bytes_out
        Size of its result; None if unknown.
    bytes_in
        Size of its inputs as they came, as far as they say it: texts, arrays, and what came from another process; None
        if unknown, or if not measured.
    at
        When the client received its end.
    """

    def __init__(self, run: RunRow, row: Any) -> None:
        self._run = run
        self._row = row
        self.slug: str = row.slug
        self.index: int | None = row.row if row.mapped else None
        self.item_key: str | None = row.item_key
        self.name: str | None = row.name
        self.state: str = schema.STATES[row.state]
        self.attempts: int = row.attempts
        self.duration: float = row.seconds
        failed = row.error_type is not None
        kind = shown_type(row.error_type)
        self.error: str | None = f"{kind}: {row.text or row.error_message}" if failed else None
        self.traceback: str | None = row.traceback
        self.message: str | None = self.error if failed else row.text
        self.worker: str | None = row.worker_text
        self.location: str | None = row.location or None
        self.cpu_time: float | None = row.cpu
        self.peak_memory: int | None = row.memory
        self.bytes_out: int | None = row.size
        self.bytes_in: int | None = row.taken
        self.at = aware_time(row.at)

    @property
    def place(self) -> str:
        """Return what the child is called: ``load[3]``."""
        return child_label(self._run.label_of(self.slug), self.index)

    @property
    def label(self) -> str:
        """Return a label: ``load[3] (eu.csv)``, with the name of its run or its item key."""
        called = self.name or readable_key(self.item_key, self.index)
        return self.place if called is None else f"{self.place} ({called})"

    def earlier(self) -> list[AttemptRow]:
        """Return the attempts before the last one in order, including those before the run was resumed."""
        row = self._row
        with self._run._store.reading() as connection:
            places = [_a.row == row.row] if not row.part else self._places(connection)
            query = (
                select(schema.attempts, _e.type, _e.message.label("error_message"), _t.text)
                .outerjoin(schema.errors, _e.number == _a.error)
                .outerjoin(schema.texts, _t.number == _a.message)
                .where(_a.run == row.run, _a.step == row.step, or_(*places))
                .order_by(_a.part, _a.number)
            )
            return [AttemptRow.of(found) for found in connection.execute(query)]

    def replay(self, pdb: bool = False, *, flow: Any = None, parameters: Mapping[str, Any] | None = None) -> State:
        """Run the task function again in this process with its original inputs, and return its state.

        Nothing is recorded, stored or retried, no handler is called; the cluster is not needed. The code is
        that of the current flow, so a fix can be tried on the child that failed. A flow function runs again up to the
        call, without the tasks whose results are stored.

        Parameters
        ----------
        pdb
            Stop in the debugger at the first line of the function, and again where it fails.
        flow
            A flow or a flow function; default: the one of this name that ran last in this process.
        parameters
            Parameters of the run, which are not recorded; default: those of the flow.

        Raises
        ------
        ResultReleased
            A result that the child reads was not stored or was deleted; the message names it.
        ResumeMismatch
            The inputs of the child are different now.
        ValueError
            The flow is not known in this process.
        """
        from importlib import import_module

        state: State = import_module("prefectish.history.replay").replay(self, pdb, flow, parameters)
        return state

    def _places(self, connection: Connection) -> list[ColumnElement[bool]]:
        """Return conditions for the attempts of this child in each part of a resumed run."""
        row = self._row
        c = schema.children.c
        query = select(c.part, c.row, c.item_key).where(c.run == row.run, c.step == row.step)
        parts: dict[int, list[tuple[int, str | None]]] = {}
        for part, number, key in connection.execute(query.order_by(c.part, c.row)):
            parts.setdefault(part, []).append((number, key))
        own = identities(parts[row.part])[row.row]
        places = [and_(_a.part == row.part, _a.row == row.row)]
        for part in set(range(self._run.part + 1)) - {row.part}:
            known = {identity: number for number, identity in identities(parts.get(part, [])).items()}
            if own in known:
                where = _a.row == known[own]
            elif row.item_key is not None:
                where = or_(_a.item_key == row.item_key, _a.item_key.is_(None) & (_a.row == row.row))
            else:
                where = _a.row == row.row
            places.append(and_(_a.part == part, where))
        return places

    def __repr__(self) -> str:
        text = f"<child {self.label}: {self.state}"
        return printable(text if self.error is None else f"{text}, {self.error}", MAX_LINE_LENGTH - 1) + ">"


class AttemptRow(NamedTuple):
    """An attempt that did not end its child: before a retry or a pause, or lost with its client."""

    number: int
    state: str
    seconds: float
    message: str | None
    error: str | None
    at: datetime

    @classmethod
    def of(cls, row: Any) -> AttemptRow:
        """Create from a row of the database."""
        error = None if row.type is None else f"{shown_type(row.type)}: {row.error_message}"
        return cls(row.number, schema.STATES[row.state], row.seconds, row.text, error, aware_time(row.at))


class WaitingRow(NamedTuple):
    """A waiting child.

    Attributes
    ----------
    slug, name, index, item_key
        Which child it is; `index` is None for an unmapped task.
    state
        "Paused", "Resume", "Retrying" or "Scheduled".
    attempt
        Number of the attempt that ended in this state.
    message
        Message of the state.
    due
        When it continues; None if it waits for an approval.
    context
        Context of the pause, as far as it is JSON serializable.
    part
        How often the run had been resumed before.
    task
        What the task is called: its name, or its slug if several have its name.
    """

    slug: str
    name: str
    index: int | None  # type: ignore[assignment]  # `tuple.index` is not needed here
    item_key: str | None
    state: str
    attempt: int
    message: str | None
    due: datetime | None
    context: Mapping[str, Any]
    part: int
    task: str

    @classmethod
    def of(cls, row: Any, label: str) -> WaitingRow:
        """Create from a row of the database."""
        context = {} if row.context is None else json_of("context", row.context, dict)
        due = None if row.due is None else aware_time(row.due)
        index = row.row if row.mapped else None
        state = schema.STATES[row.state]
        return cls(row.slug, row.name, index, row.item_key, state, row.number, row.text, due, context, row.part, label)

    @property
    def label(self) -> str:
        """Return a label: ``load[3]``."""
        return child_label(self.task, self.index)


class FailureGroup:
    """Failures of one cause.

    Attributes
    ----------
    type, message, traceback
        Those of the first recorded failure.
    count
        Number of failed children.
    is_consequence
        Whether they failed only because of upstream failures.
    """

    def __init__(self, run: RunRow, row: Any) -> None:
        self._run = run
        self._error: int = row.number
        self.type: str = shown_type(row.type)
        self.message: str = row.message
        self.traceback: str | None = row.traceback
        self.count: int = row.count
        self.is_consequence: bool = row.type == CONSEQUENCE_TYPE

    @property
    def children(self) -> list[ChildRow]:
        """Return the failed children."""
        table = self._run._current()
        c = table.c
        query = self._run._children(table).where(c.error == self._error).order_by(c.step, c.row)
        with self._run._store.reading() as connection:
            return [ChildRow(self._run, row) for row in connection.execute(query)]

    def __repr__(self) -> str:
        return printable(f"<{self.count} x {self.type}: {self.message}", MAX_LINE_LENGTH - 1) + ">"


def shown_type(type_name: str) -> str:
    """Return the type of an exception as it is shown; what the engine raised itself is called as the state.

    Examples
    --------
    >>> shown_type("TRIGGERFAIL"), shown_type("TimeoutSignal"), shown_type("OSError")
    ('TriggerFailed', 'TimedOut', 'OSError')
    """
    return _AS_STATES.get(type_name, type_name)


def readable_key(item_key: str | None, index: int | None) -> str | None:
    """Return the key of an item if it is informative: neither a hash nor the map index.

    Examples
    --------
    >>> readable_key("eu.csv", 3), readable_key("3", 3), readable_key("0123456789abcdef" * 2, 3)
    ('eu.csv', None, None)
    """
    if item_key is None or item_key == str(index) or _HASH.fullmatch(item_key):
        return None
    return item_key


def key_of(row: Any) -> tuple[int, str | int]:
    """Return the key by which rows of different parts may be the same child: the item key, or the map index."""
    return row.step, row.item_key if row.item_key is not None else row.row


def identities(children: Sequence[tuple[int, str | None]]) -> dict[int, ItemId]:
    """Return the identity of each child: its key, and its number among those with the same key; without a key its row.

    `children` are row and key of each child of one task, in order of rows.

    Examples
    --------
    >>> identities([(0, "a"), (1, "a"), (2, None)])
    {0: ('a', 0), 1: ('a', 1), 2: (None, 2)}
    """
    seen: Counter[str] = Counter()
    found: dict[int, ItemId] = {}
    for row, key in children:
        found[row] = item_id_of(key, row, seen)
    return found


def aware_time(seconds: float) -> datetime:
    """Return a time of the history as a datetime."""
    return datetime.fromtimestamp(seconds, UTC)
