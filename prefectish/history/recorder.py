"""Writes a run into the history: events are queued by the loop and committed in batches by a thread."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from prefectish.engine.plan import Plan
from prefectish.engine.recorder import Event
from prefectish.engine.state import Mapped, State
from prefectish.engine.wire import process_name
from prefectish.errors import HistoryWriteError
from prefectish.fingerprint import fingerprint
from prefectish.history import schema
from prefectish.history.causes import cause_of
from prefectish.history.inputs import inputs_digest
from prefectish.history.store import Store, open_store

#: Longest time an event waits for its commit, in seconds.
FLUSH = 0.5
#: Longest time between two signs of life of a run in which nothing happens, in seconds.
HEARTBEAT = 5.0
#: The message of a plain success, which goes without saying.
PLAIN = "Task run succeeded."
logger = logging.getLogger("prefectish.history")


class HistoryRecorder:
    """Records one run.

    Attributes
    ----------
    broken : what stopped the recording, None if nothing did; the run goes on without.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.broken: HistoryWriteError | None = None
        self._queue: queue.SimpleQueue[Sequence[Event] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="prefectish-history", daemon=True)
        self._run = 0
        self._texts: dict[str, int] = {}
        self._errors: dict[str, int] = {}
        self._keys: dict[tuple[int, int], str] = {}
        self._spaces: dict[int, int | None] = {}

    # -- called by the loop --------------------------------------------------------------------------------------------

    def started(self, plan: Plan, facts: Mapping[str, Any], version: str | None, executor: str) -> None:
        """Write the row of the run, or take up the row of the run that is resumed."""
        now = time.time()
        values = {
            "state": schema.CODES["Running"],
            "heartbeat": now,
            "holder": process_name(),
            "flow_version": version,
            "executor": executor,
        }
        with self.store.writing() as connection:
            found = connection.execute(select(schema.runs.c.number).where(schema.runs.c.id == facts["flow_run_id"]))
            number = found.scalar()
            if number is None:
                row = {
                    "id": facts["flow_run_id"],
                    "flow_name": plan.flow_name,
                    "name": facts["flow_run_name"],
                    "started": now,
                    **values,
                }
                number = _key_of(connection.execute(insert(schema.runs).values(row)))
            else:
                connection.execute(
                    update(schema.runs).where(schema.runs.c.number == number).values(ended=None, **values)
                )
            self._run = int(number)
            self._write_steps(connection, plan)
        self._thread.start()

    def _write_steps(self, connection: Connection, plan: Plan) -> None:
        rows = []
        for step in plan.steps:
            self._spaces[step.number] = step.space
            if step.literal is None:
                rows.append(
                    {
                        "run": self._run,
                        "step": step.number,
                        "slug": step.slug,
                        "name": step.name,
                        "version": fingerprint(step.task),
                        "inputs": inputs_digest(plan, step),
                        "mapped": int(step.mapped),
                        "space": step.space,
                    }
                )
        if rows:
            self._upsert(connection, schema.steps, rows, ("run", "step"))

    def record(self, events: Sequence[Event]) -> None:
        """Queue events."""
        self._queue.put(events)

    def ended(self, plan: Plan, states: Sequence[State], state: State) -> None:
        """Write what is queued, and how the run ended."""
        self._stop()
        if self.broken is not None:
            return
        with self.store.writing() as connection:
            for step, step_state in zip(plan.steps, states, strict=True):
                if step.literal is None:
                    width = len(step_state.map_states or ()) if isinstance(step_state, Mapped) else None
                    where = (schema.steps.c.run == self._run) & (schema.steps.c.step == step.number)
                    code = schema.CODES[type(step_state).__name__]
                    connection.execute(update(schema.steps).where(where).values(state=code, width=width))
            self._end(connection, type(state).__name__, str(state.message or ""), state.exit_code)

    def failed(self, error: BaseException) -> None:
        """Write what is queued, and that the run broke off."""
        self._stop()
        if self.broken is None:
            state = getattr(error, "state", None)
            name = type(state).__name__ if state is not None else "Failed"
            with self.store.writing() as connection:
                self._end(connection, name, f"{type(error).__name__}: {error}", getattr(state, "exit_code", 1))

    def _end(self, connection: Connection, name: str, message: str, exit_code: int) -> None:
        now = time.time()
        values = {
            "state": schema.CODES[name],
            "message": message,
            "exit_code": exit_code,
            "ended": now,
            "heartbeat": now,
        }
        connection.execute(update(schema.runs).where(schema.runs.c.number == self._run).values(holder=None, **values))

    def _stop(self) -> None:
        if self._thread.ident is not None:
            self._queue.put(None)
            self._thread.join()

    # -- the writing thread --------------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        last = False
        beat = time.monotonic()
        while not last:
            events: list[Event] = []
            end = time.monotonic() + FLUSH
            while (left := end - time.monotonic()) > 0:
                try:
                    batch = self._queue.get(timeout=left)
                except queue.Empty:
                    break
                if batch is None:
                    last = True
                    break
                events.extend(batch)
            if self.broken is None and (events or time.monotonic() - beat > HEARTBEAT):
                beat = time.monotonic()
                self._write(events)

    def _write(self, events: Sequence[Event]) -> None:
        try:
            with self.store.writing() as connection:
                final = [self._child(connection, e) for e in events if e.state.is_finished()]
                early = [self._attempt(connection, e) for e in events if not e.state.is_finished()]
                if final:
                    self._upsert(connection, schema.children, final, ("run", "step", "row"))
                if early:
                    self._upsert(connection, schema.attempts, early, ("run", "step", "row", "number"))
                beat = update(schema.runs).where(schema.runs.c.number == self._run).values(heartbeat=time.time())
                connection.execute(beat)
        except HistoryWriteError as error:
            self.broken = error
            logger.error("%s; the run goes on and is not recorded any further", error)

    def _upsert(self, connection: Connection, table: Any, rows: list[dict[str, Any]], keys: tuple[str, ...]) -> None:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        statement = dialect.insert(table)
        others = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys and c.name in rows[0]}
        connection.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=others), rows)

    def _child(self, connection: Connection, e: Event) -> dict[str, Any]:
        state = e.state
        return {
            "run": self._run,
            "step": e.step,
            "row": e.row,
            "state": schema.CODES[type(state).__name__],
            "attempts": e.attempt,
            "seconds": round(e.seconds, 6),
            "at": round(e.wall.timestamp(), 3),
            "worker": None if e.worker is None else self._text(connection, e.worker),
            "item_key": self._key(e),
            "message": self._message(connection, state),
            "error": self._error(connection, state) if state.is_failed() else None,
            "location": getattr(state._result, "location", None),
        }

    def _attempt(self, connection: Connection, e: Event) -> dict[str, Any]:
        return {
            "run": self._run,
            "step": e.step,
            "row": e.row,
            "number": e.attempt,
            "state": schema.CODES[type(e.state).__name__],
            "seconds": round(e.seconds, 6),
            "at": round(e.wall.timestamp(), 3),
            "worker": None if e.worker is None else self._text(connection, e.worker),
            "message": self._message(connection, e.state),
        }

    def _key(self, e: Event) -> str | None:
        """Return what the child is: its own item, or that of the branch it belongs to."""
        space = self._spaces.get(e.step)
        if space is None:
            return e.item_key
        if e.item_key is not None:
            self._keys[space, e.row] = e.item_key
        return self._keys.get((space, e.row))

    def _message(self, connection: Connection, state: State) -> int | None:
        text = state.message
        if text is None or text == PLAIN or state.is_failed():
            return None
        return self._text(connection, str(text))

    def _text(self, connection: Connection, text: str) -> int:
        number = self._texts.get(text)
        if number is None:
            digest = blake2b(text.encode(errors="replace"), digest_size=16).hexdigest()
            number = self._texts[text] = self._intern(connection, schema.texts, "digest", digest, {"text": text})
        return number

    def _error(self, connection: Connection, state: State) -> int:
        cause = cause_of(state)
        number = self._errors.get(cause.fingerprint)
        if number is None:
            values = {"type": cause.type, "message": cause.message, "traceback": cause.traceback}
            number = self._intern(connection, schema.errors, "fingerprint", cause.fingerprint, values)
            self._errors[cause.fingerprint] = number
        return number

    def _intern(self, connection: Connection, table: Any, key: str, value: str, others: Mapping[str, Any]) -> int:
        number = connection.execute(select(table.c.number).where(table.c[key] == value)).scalar()
        if number is None:
            row = {key: value, **others}
            number = _key_of(connection.execute(insert(table).values(row)))
        return int(number)


def _key_of(done: Any) -> int:
    """Return the number that the database gave a new row."""
    return int(done.inserted_primary_key[0])


def recorder_for(history: str | os.PathLike[str] | bool | None) -> HistoryRecorder | None:
    """Return a recorder for a run; None where there is to be no history.

    Parameters
    ----------
    history : None for the history in the home folder (one that cannot be used warns, once, and there is none), False
        for none, or a path or database URL.

    Raises
    ------
    HistoryCorrupt, HistoryTooNew, HistoryWriteError : a history that was asked for by name cannot be used.
    """
    if history is False:
        return None
    if history is not None and history is not True:
        return HistoryRecorder(open_store(history))
    try:
        return HistoryRecorder(open_store(None))
    except (OSError, HistoryWriteError) as error:
        _warn_once(str(error))
        return None


_warned: set[str] = set()


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        warnings.warn(f"this run is not recorded: {text}", stacklevel=2)
