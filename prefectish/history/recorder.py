"""Writes a run into the history: events are queued by the loop and committed in batches by a thread."""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, update

from prefectish.engine import clock as clocks
from prefectish.engine.driver.interrupts import INTERRUPTED, TERMINATED, Terminated
from prefectish.engine.plan.steps import Plan, Step
from prefectish.engine.process_tree import process_name
from prefectish.engine.scheduling.events import AttemptEvent, Notice, OpenRows
from prefectish.engine.state import Mapped, State
from prefectish.engine.worker.logs.relay import AttemptLog
from prefectish.errors import HistoryUnsafe, HistoryWriteError, describe
from prefectish.flow_version import task_version
from prefectish.history import schema
from prefectish.history.inputs import inputs_digest
from prefectish.history.lines import waiting, write_lines
from prefectish.history.notices import write_notice
from prefectish.history.rows import Rows, clean, ranges, upsert
from prefectish.history.store import BUSY_TIMEOUT, HistoryStore, open_store

#: Longest time an event waits for its commit, in seconds.
FLUSH_INTERVAL = 0.5
#: Longest time between two signs of life of a run in which nothing happens, in seconds.
HEARTBEAT_INTERVAL = 5.0
#: Seconds between two tries to write to a server that does not answer.
RETRY_INTERVAL = 0.5
#: Exit code of a run whose record is not complete.
INCOMPLETE_EXIT_CODE = 4
logger = logging.getLogger("prefectish.history")


class HistoryRecorder:
    """Records one run.

    Parameters
    ----------
    part
        How often the run was resumed, this time included.
    changed
        Slugs of tasks that changed before this part, whose earlier records do not count; more may be added.

    Attributes
    ----------
    broken
        What stopped the recording, None if nothing did; the run goes on without.
    """

    def __init__(self, store: HistoryStore, part: int = 0, changed: Collection[str] = ()) -> None:
        self.store = store
        self.broken: HistoryWriteError | None = None
        self._part = part
        self._changed = changed
        self._queue: queue.SimpleQueue[Sequence[AttemptEvent] | None] = queue.SimpleQueue()
        self._told: deque[AttemptLog] = deque()
        self._thread = threading.Thread(target=self._write_all, name="prefectish-history", daemon=True)
        self._run = 0
        self._rows: Rows
        self._steps: dict[int, int] = {}
        self._open_rows: OpenRows = dict
        self._cancel: Callable[[], None] | None = None
        self._open: dict[int, str] = {}
        self._plan: Plan
        self._noted = 0

    # -- called by the loop --------------------------------------------------------------------------------------------

    def started(self, plan: Plan, facts: Mapping[str, Any], version: str | None, executor: str) -> None:
        """Write the row of the run, or take up the row of the run that is resumed."""
        now = time.time()
        values = {
            "state": schema.CODES["Running"],
            "heartbeat": now,
            "holder": process_name(),
            "held": now,
            "asked": None,
            "flow_version": version,
            "executor": clean(executor),
            "source": None if facts.get("flow_source") is None else clean(facts["flow_source"]),
        }
        with self.store.writing() as connection:
            found = select(schema.runs.c.number).where(schema.runs.c.id == facts["flow_run_id"])
            number = connection.execute(found).scalar()
            if number is None:
                names = {"flow_name": clean(plan.flow_name), "name": clean(str(facts["flow_run_name"]))}
                started = clocks.now().timestamp()
                row = {"id": facts["flow_run_id"], **names, "started": started, "part": self._part, **values}
                connection.execute(insert(schema.runs).values(row))
                number = connection.execute(found).scalar_one()
            else:
                again = {"ended": None, "message": None, "exit_code": None, **values}
                connection.execute(update(schema.runs).where(schema.runs.c.number == number).values(again))
                # none of its tasks has ended in this part, not even one that a flow function has yet to call
                connection.execute(update(schema.steps).where(schema.steps.c.run == number).values(state=None))
            self._run = int(number)
            self._rows = Rows(self._run, self._part, self._steps)
            self._plan = plan
            self._write_steps(connection)
        self._thread.start()

    def _write_steps(self, connection: Connection) -> None:
        """Write the tasks that came since the last time; those of a run that is resumed keep their numbers."""
        plan, noted = self._plan, self._noted
        added = plan.steps[noted:]
        self._noted += len(added)
        if not added:
            return
        c = schema.steps.c
        found = connection.execute(select(c.slug, c.step, c.since).where(c.run == self._run)).all()
        known = {row.slug: (row.step, row.since) for row in found}
        free = 1 + max((row.step for row in found), default=-1)
        rows = []
        for step in added:
            self._rows.add_step(step.number, step.domain)
            if step.literal is not None:
                continue
            slug = clean(step.slug)
            if slug not in known:
                known[slug] = free, self._part
                free += 1
            number, since = known[slug]
            self._steps[step.number] = number
            facts = (slug, clean(step.name), task_version(step.task), inputs_digest(plan, step), int(step.mapped))
            first = self._part if step.slug in self._changed else since
            rows.append((self._run, number, *facts, step.domain, first, None, None, None, _reads(plan, step)))
        upsert(connection, schema.steps, rows)

    def watch(self, open_rows: OpenRows, cancel: Callable[[], None]) -> None:
        """Take what tells which children are under way, and what cancels the run if somebody asks for it.

        Children that a dead client leaves behind can then be named.
        """
        self._open_rows = open_rows
        self._cancel = cancel

    def record(self, events: Sequence[AttemptEvent]) -> None:
        """Queue events."""
        self._queue.put(events)

    def log(self, told: Sequence[AttemptLog]) -> None:
        """Queue what bodies logged."""
        self._told.extend(told)

    def notice(self, notice: Notice) -> None:
        """Write what became of a message; the thread that delivers it calls."""
        if self.broken is None:
            with self.store.writing() as connection:
                write_notice(connection, self._run, notice)

    def ended(self, plan: Plan, states: Sequence[State], state: State) -> State:
        """Write what is queued, and how the run ended; a run whose record is not complete has another exit code."""

        def write(connection: Connection) -> None:
            self._write_steps(connection)
            for step, step_state in zip(plan.steps, states, strict=True):
                if step.literal is None:
                    width = len(step_state.map_states or ()) if isinstance(step_state, Mapped) else None
                    where = (schema.steps.c.run == self._run) & (schema.steps.c.step == self._steps[step.number])
                    code = schema.CODES[type(step_state).__name__]
                    connection.execute(update(schema.steps).where(where).values(state=code, width=width, open=None))
            self._end(connection, type(state).__name__, str(state.message or ""), state.exit_code)

        self._stop()
        self._try(write)
        if self.broken is None:
            return state
        return state.replace(context={**state.context, "exit_code": INCOMPLETE_EXIT_CODE})

    def failed(self, error: BaseException) -> None:
        """Write what is queued, and that the run broke off."""
        state = getattr(error, "state", None)
        name = type(state).__name__ if state is not None else "Failed"
        message, code = f"{type(error).__name__}: {error}", getattr(error, "exit_code", 1)
        if isinstance(error, KeyboardInterrupt):
            stopped = isinstance(error, Terminated)
            message, code = ("terminated", TERMINATED) if stopped else ("interrupted", INTERRUPTED)

        def write(connection: Connection) -> None:
            connection.execute(update(schema.steps).where(schema.steps.c.run == self._run).values(open=None))
            self._end(connection, name, message, code)

        self._stop()
        self._try(write)

    def _end(self, connection: Connection, name: str, message: str, exit_code: int) -> None:
        now = time.time()
        values = {
            "state": schema.CODES[name],
            "message": clean(message),
            "exit_code": exit_code,
            "ended": clocks.now().timestamp(),
            "holder": None,
        }
        self._beat(connection, now, values)

    def _beat(self, connection: Connection, now: float, more: Mapping[str, Any]) -> None:
        """Give a sign of life, and stop if somebody else has taken the run over meanwhile."""
        c = schema.runs.c
        mine = (c.number == self._run) & (c.part == self._part)
        if not connection.execute(update(schema.runs).where(mine).values(heartbeat=now, **more)).rowcount:
            raise HistoryWriteError("the run was taken over by another client, which goes on with it")

    def _stop(self) -> None:
        if self._thread.ident is not None:
            self._queue.put(None)
            self._thread.join()

    # -- the writing thread --------------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        last = False
        beat = time.monotonic()
        while not last:
            events, last = self._collected()
            if self.broken is None and (events or self._told or time.monotonic() - beat > HEARTBEAT_INTERVAL):
                beat = time.monotonic()
                told = waiting(self._told)
                self._try(lambda connection: self._write(connection, events, told))  # noqa: B023  it is called right here
                for _ in told:
                    self._told.popleft()
            if self._cancel is not None and self.broken is None:
                self._heed(self._cancel)

    def _heed(self, cancel: Callable[[], None]) -> None:
        """Do what somebody asked of this run."""
        try:
            with self.store.reading() as connection:
                query = select(schema.runs.c.asked).where(schema.runs.c.number == self._run)
                asked = connection.execute(query).scalar()
        except HistoryWriteError:  # whether the history is gone is for those to say who write to it
            return
        if asked == schema.CANCEL:
            self._cancel = None
            cancel()

    def _collected(self) -> tuple[list[AttemptEvent], bool]:
        """Return the events of the next moment, and whether they are the last."""
        events: list[AttemptEvent] = []
        end = time.monotonic() + FLUSH_INTERVAL
        while (left := end - time.monotonic()) > 0:
            try:
                batch = self._queue.get(timeout=left)
            except queue.Empty:
                break
            if batch is None:
                return events, True
            events.extend(batch)
        return events, False

    def _try(self, write: Callable[[Connection], None]) -> None:
        """Write in a transaction; what cannot be written breaks the recording, and not the run."""
        if self.broken is not None:
            return
        end = time.monotonic() + (0.0 if self.store.is_file else BUSY_TIMEOUT)
        while True:
            try:
                with self.store.writing() as connection:
                    write(connection)
                return
            except HistoryWriteError as error:
                broken = error
            except Exception as error:  # a value that no database takes, or a fault of ours: the run is worth more
                broken = HistoryWriteError(f"history {self.store.location} could not be written: {describe(error)}")
                broken.__cause__ = error
                end = 0.0
            self._rows.forget()
            self._noted = 0
            if time.monotonic() >= end:
                break
            time.sleep(RETRY_INTERVAL)  # a server may come back
        self.broken = broken
        logger.error("%s; the run goes on and is not recorded any further", broken, exc_info=broken.__cause__)

    def _write(self, connection: Connection, events: Sequence[AttemptEvent], told: list[AttemptLog]) -> None:
        self._beat(connection, time.time(), {})
        self._write_steps(connection)
        rows = self._rows
        upsert(connection, schema.children, [rows.child(connection, e) for e in events if e.state.is_finished()])
        upsert(connection, schema.attempts, [rows.attempt(connection, e) for e in events if not e.state.is_finished()])
        write_lines(connection, self._run, self._part, self._steps, told)
        self._write_open(connection)

    def _write_open(self, connection: Connection) -> None:
        open_rows = self._open_rows().items()
        found = {self._steps[number]: ranges(rows) for number, rows in open_rows if number in self._steps}
        for step in found.keys() | self._open.keys():
            text = found.get(step)
            if text != self._open.get(step):
                where = (schema.steps.c.run == self._run) & (schema.steps.c.step == step)
                connection.execute(update(schema.steps).where(where).values(open=text))
        self._open = found


def _reads(plan: Plan, step: Step) -> str:
    """Return the tasks that a step reads, as JSON."""
    sources = [(plan.steps[i.source], i) for i in step.inputs if i.source >= 0]
    return json.dumps([(clean(s.slug), i.key, i.mapped) for s, i in sources if s.literal is None])


def recorder_for(history: str | os.PathLike[str] | bool | None) -> HistoryRecorder | None:
    """Return a recorder for a run; None where there is to be no history.

    Parameters
    ----------
    history
        None for the history in the home folder (one that cannot be used warns, once, and there is none), False for
        none, or a path or database URL.

    Raises
    ------
    HistoryCorrupt, HistoryTooNew
        There is something else, or what a later version wrote.
    HistoryUnsafe, HistoryWriteError
        A history that was asked for by name cannot be used.
    """
    if history is False:
        return None
    if history is not None and history is not True:
        return HistoryRecorder(open_store(history))
    try:
        return HistoryRecorder(open_store(None))
    except (OSError, HistoryUnsafe) as error:
        _warn_once(str(error))
        return None


_warned: set[str] = set()


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        warnings.warn(f"this run is not recorded: {text}", stacklevel=2)
