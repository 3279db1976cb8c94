"""Record a run in the history: the loop queues events, and a thread commits them in batches."""

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
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, insert, select, update

from prefectish.engine import clock as clocks
from prefectish.engine.driver.control import Reply, RunControl
from prefectish.engine.driver.interrupts import in_record
from prefectish.engine.driver.options import RunOrigin
from prefectish.engine.plan.steps import Plan, Step
from prefectish.engine.scheduling.admission import Limits
from prefectish.engine.scheduling.events import AttemptEvent, Notice, OpenRows, Widths
from prefectish.engine.state import Mapped, State
from prefectish.engine.task_counts import TaskCounts
from prefectish.engine.worker.body_progress import BodyProgress, board
from prefectish.engine.worker.logs.relay import AttemptLog
from prefectish.errors import HistoryUnavailable, HistoryUnsafe, HistoryWriteError, RunLost, describe
from prefectish.flow_version import task_version
from prefectish.history import schema
from prefectish.history.body_progress import texts_of, write_progress
from prefectish.history.child_runs import ChildRuns
from prefectish.history.holders import own_holder
from prefectish.history.inputs import inputs_digest
from prefectish.history.lines import waiting, write_lines
from prefectish.history.notices import write_notice
from prefectish.history.rows import EventRows, clean, ranges, upsert
from prefectish.history.run_requests import Answering, last_request
from prefectish.history.shared_limits import LeaseKeeper
from prefectish.history.store import BUSY_TIMEOUT, PATIENCE, RETRY_INTERVAL, HistoryStore, open_store
from prefectish.kinds import is_a
from prefectish.results.descriptions import described

#: Maximum time until a queued event is committed, in seconds.
FLUSH_INTERVAL = 0.5
#: Maximum time between two heartbeats of a run without events, in seconds.
HEARTBEAT_INTERVAL = 5.0
#: Seconds that a cancelled run waits for runs that its tasks have asked for and that are about to begin.
LONGEST_BEGINNING = 15.0
#: Events that may be queued, counted by their weight, before the run waits, and for how many seconds it then waits.
MAX_QUEUED, LONGEST_WAIT = 100_000, 1.0
#: Weight of an event with the text of a failure.
FAILURE_WEIGHT = 50
#: Exit code of a run that was not recorded completely.
INCOMPLETE_EXIT_CODE = 4
#: What is said of the running children of a task once none runs.
_OVER: Mapping[str, None] = {"open": None, "progress": None}
logger = logging.getLogger("prefectish.history")


class HistoryRecorder:
    """Records one run in the history."""

    def __init__(self, store: HistoryStore, part: int = 0, changed: Collection[str] = ()) -> None:
        self.store = store
        # The error that stopped the recording, if any; the run continues without it.
        self.broken: HistoryWriteError | None = None
        self._part = part  # how often the run was resumed, including this time
        # Slugs of tasks that changed before this part, so that their earlier records are ignored; may be extended.
        self._changed = changed
        self._queue: queue.SimpleQueue[Sequence[AttemptEvent] | None] = queue.SimpleQueue()
        self._queued = 0  # weight of the events that are queued
        self._has_room = threading.Event()
        self._logs: deque[AttemptLog] = deque()
        self._thread = threading.Thread(target=self._write_until_the_end, name="prefectish-history", daemon=True)
        self._run = 0
        self._rows: EventRows
        self._steps: dict[int, int] = {}
        self._open_rows: OpenRows = dict
        self._answering: Answering | None = None
        self._lost: Callable[[], None] = lambda: None
        self._is_cancelled: Callable[[], bool] = lambda: False
        self._child_runs: ChildRuns
        self._widths: Widths = dict
        self._open: dict[int, str] = {}
        self._wide: dict[int, int] = {}
        self._run_id = ""
        self._over_at: float | None = None  # when the run ended, by the monotonic clock
        self._said: list[BodyProgress] = []  # what bodies said of themselves when that was written last
        self._said_texts: dict[int, str] = {}  # the same, by the number of their task, as it is written
        self._asked_before = 0
        self._plan: Plan
        self._noted = 0

    @property
    def address(self) -> str:
        """Return the address that opens the history, including its password: must not be shown."""
        return self.store.address

    # -- called by the loop --------------------------------------------------------------------------------------------

    def started(self, plan: Plan, facts: Mapping[str, Any], version: str | None, executor: str) -> None:
        """Write the row of a new run, or update that of a resumed run."""
        now = time.time()
        self._run_id = str(facts["flow_run_id"])
        values = {
            "state": schema.CODES["Running"],
            "heartbeat": now,
            "holder": own_holder(),
            "held": now,
            "asked": None,
            "flow_version": version,
            "executor": clean(executor),
            "source": None if facts.get("flow_source") is None else clean(facts["flow_source"]),
            **_origin(facts.get("flow_run_origin")),
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
                again = {"ended": None, "message": None, "exit_code": None, "counts": None, **values}
                connection.execute(update(schema.runs).where(schema.runs.c.number == number).values(again))
                # no task has ended in this part yet, including those that a flow function may call later
                steps = update(schema.steps).where(schema.steps.c.run == number)
                connection.execute(steps.values(state=None, width=None))
            self._run = int(number)
            self._asked_before = last_request(connection, self._run)
            self._rows = EventRows(self._run, self._part, self._steps)
            self._plan = plan
            self._child_runs = ChildRuns(self._run_id, self._part, lambda: plan.steps)
            self._write_steps(connection)
        self._thread.start()

    def _write_steps(self, connection: Connection) -> None:
        """Write the tasks added since the last call; tasks of a resumed run keep their numbers."""
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
            rows.append(
                (
                    self._run,
                    number,
                    *facts,
                    step.domain,
                    first,
                    None,
                    None,
                    None,
                    _reads(plan, step),
                    described(step.store),
                    None,
                    clean(step.label),
                )
            )
        upsert(connection, schema.steps, rows)

    def watch(
        self,
        open_rows: OpenRows,
        widths: Widths,
        ask: Callable[[str, Mapping[str, Any]], Reply],
        lost: Callable[[], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        """Set the functions that return the running children, leave a request for the loop, and end the lost run.

        The running children are recorded, so that they are known if the client dies; the widths of maps, so that it
        is known how much is left while they run.
        """
        self._open_rows = open_rows
        self._widths = widths
        self._lost = lost
        self._is_cancelled = is_cancelled
        self._answering = Answering(self._run, ask, self._asked_before)

    def share_limits(self, control: RunControl, limits: Limits) -> LeaseKeeper:
        """Keep what the run holds of limits across runs."""
        return LeaseKeeper(self.store, control, limits)

    def record(self, events: Sequence[AttemptEvent]) -> None:
        """Queue events; if many wait already, for a moment until some of them are written."""
        self._queued += sum(map(_weight, events))
        self._queue.put(events)
        if self._queued > MAX_QUEUED:
            self._has_room.clear()
            if self._queued > MAX_QUEUED and self.broken is None:
                self._has_room.wait(LONGEST_WAIT)

    def log(self, logs: Sequence[AttemptLog]) -> None:
        """Queue log lines of task runs."""
        self._logs.extend(logs)

    def notice(self, notice: Notice) -> None:
        """Write the delivery of a notification; called by the thread that delivers it."""
        if self.broken is None:
            with self.store.writing() as connection:
                write_notice(connection, self._run, notice)

    def ended(self, plan: Plan, states: Sequence[State], state: State) -> State:
        """Write what is queued and how the run ended; an incomplete record changes the exit code of the state."""

        def write(connection: Connection) -> None:
            self._write_steps(connection)
            for step, step_state in zip(plan.steps, states, strict=True):
                if step.literal is None:
                    width = len(step_state.map_states or ()) if isinstance(step_state, Mapped) else None
                    where = (schema.steps.c.run == self._run) & (schema.steps.c.step == self._steps[step.number])
                    code = schema.CODES[type(step_state).__name__]
                    connection.execute(update(schema.steps).where(where).values(state=code, width=width, **_OVER))
            ran = (s for step, s in zip(plan.steps, states, strict=True) if step.literal is None)
            counts = TaskCounts.of_states(ran)
            self._end(connection, type(state).__name__, str(state.message or ""), state.exit_code, counts)

        self._stop()
        self._try(write)
        if self.broken is None:
            return state
        return state.replace(context={**state.context, "exit_code": INCOMPLETE_EXIT_CODE})

    def failed(self, error: BaseException) -> None:
        """Write what is queued, and that the run was aborted."""
        state = getattr(error, "state", None)
        name = type(state).__name__ if state is not None else "Failed"
        message, code = f"{type(error).__name__}: {error}", getattr(error, "exit_code", 1)
        if isinstance(error, KeyboardInterrupt):
            message, code = in_record(error)

        def write(connection: Connection) -> None:
            connection.execute(update(schema.steps).where(schema.steps.c.run == self._run).values(**_OVER))
            self._end(connection, name, message, code, None if state is None else state.counts())

        self._stop()
        self._try(write)

    def _end(
        self, connection: Connection, name: str, message: str, exit_code: int, counts: TaskCounts | None = None
    ) -> None:
        now = time.time()
        values = {
            "state": schema.CODES[name],
            "message": clean(message),
            "exit_code": exit_code,
            "ended": clocks.now().timestamp(),
            "holder": None,
            "counts": None if counts is None else json.dumps(counts._asdict()),
        }
        self._beat(connection, now, values)

    def _beat(self, connection: Connection, now: float, more: Mapping[str, Any]) -> None:
        """Write a heartbeat; raise if another client has taken over the run."""
        c = schema.runs.c
        own_row = (c.number == self._run) & (c.part == self._part)
        if not connection.execute(update(schema.runs).where(own_row).values(heartbeat=now, **more)).rowcount:
            raise RunLost("another client has taken over the run and continues it")

    def _stop(self) -> None:
        self._over_at = time.monotonic()
        if self._thread.ident is not None:
            self._queue.put(None)
            self._thread.join()

    # -- the writing thread --------------------------------------------------------------------------------------------

    def _write_until_the_end(self) -> None:
        """Write until the run ends; a thread that breaks before it leaves an incomplete record, which is said."""
        try:
            self._write_all()
        except BaseException as error:  # a bug: the run must continue, and know
            self.broken = HistoryWriteError(f"history {self.store.location} could not be written: {describe(error)}")
            self.broken.__cause__ = error
            logger.error("%s; the run continues, but is no longer recorded", self.broken, exc_info=error)
            self._has_room.set()

    def _write_all(self) -> None:
        last = False
        beat = time.monotonic()
        while not last:
            events, last = self._collected()
            said = board.of(self._run_id)
            is_due = time.monotonic() - beat > HEARTBEAT_INTERVAL
            if self.broken is None and (events or self._logs or said != self._said or is_due):
                beat = time.monotonic()
                logs = waiting(self._logs)
                self._try(lambda connection: self._write(connection, events, logs, said))  # noqa: B023  it is called right here
                for _ in logs:
                    self._logs.popleft()
            self._queued -= sum(map(_weight, events))
            self._has_room.set()
            if self._answering is not None and self.broken is None:
                with suppress(HistoryWriteError):  # the next write reports that the history is gone
                    self._answering.look(self.store)
            self._cancel_child_runs(events, last)

    def _cancel_child_runs(self, events: Sequence[AttemptEvent], last: bool) -> None:
        """Cancel runs that tasks have asked for and that are to end with them."""
        if self._is_cancelled():
            self._child_runs.cancel_all()
        self._child_runs.note(events)
        end = time.monotonic() + LONGEST_BEGINNING
        while self._child_runs.look() and last and time.monotonic() < end:
            time.sleep(RETRY_INTERVAL)

    def _collected(self) -> tuple[list[AttemptEvent], bool]:
        """Collect the events of the next interval; return them, and whether they are the last."""
        events: list[AttemptEvent] = []
        end = time.monotonic() + FLUSH_INTERVAL
        while (remaining := end - time.monotonic()) > 0:
            try:
                batch = self._queue.get(timeout=remaining)
            except queue.Empty:
                break
            if batch is None:
                return events, True
            events.extend(batch)
            if self._queued > MAX_QUEUED // 2:
                break
        return events, False

    def _is_late(self) -> bool:
        """Whether a run that is over has waited long enough for its history."""
        return self._over_at is not None and time.monotonic() - self._over_at >= BUSY_TIMEOUT

    def _try(self, write: Callable[[Connection], None]) -> None:
        """Write in a transaction; an error stops the recording, but not the run."""
        if self.broken is not None:
            return
        began, waits = time.monotonic(), False
        while True:
            try:
                with self.store.writing() as connection:
                    write(connection)
                return
            except RunLost as error:
                self.broken = HistoryWriteError(f"{error}; it ends here")
                logger.error("%s", self.broken)
                self._lost()
                return
            except HistoryWriteError as error:
                if is_a(error, HistoryUnavailable) and not waits:
                    logger.warning("%s; the run continues, and what is to be recorded waits", error)
                broken, waits = error, is_a(error, HistoryUnavailable)
            except BaseException as error:  # an unsupported value, or a bug: the run must continue, and this thread
                broken = HistoryWriteError(f"history {self.store.location} could not be written: {describe(error)}")
                broken.__cause__, waits = error, False
            self._rows.forget()
            self._noted, self._open, self._wide = 0, {}, {}
            if not waits or time.monotonic() - began >= PATIENCE or self._is_late():
                break
            time.sleep(RETRY_INTERVAL)
        self.broken = broken
        logger.error("%s; the run continues, but is no longer recorded", broken, exc_info=broken.__cause__)

    def _write(
        self, connection: Connection, events: Sequence[AttemptEvent], logs: list[AttemptLog], said: list[BodyProgress]
    ) -> None:
        self._beat(connection, time.time(), {})
        self._write_steps(connection)
        rows = self._rows
        upsert(connection, schema.children, [rows.child(connection, e) for e in events if e.state.is_finished()])
        upsert(connection, schema.attempts, [rows.attempt(connection, e) for e in events if not e.state.is_finished()])
        write_lines(connection, self._run, self._part, self._steps, logs)
        self._write_open(connection)
        self._write_widths(connection)
        self._write_progress(connection, said)

    def _write_progress(self, connection: Connection, said: list[BodyProgress]) -> None:
        if said == self._said:
            return
        numbers = {step.slug: self._steps[step.number] for step in self._plan.steps if step.number in self._steps}
        texts = texts_of(said, numbers.get)
        write_progress(connection, self._run, texts, self._said_texts)
        self._said, self._said_texts = said, texts

    def _write_open(self, connection: Connection) -> None:
        open_rows = self._open_rows().items()
        found = {self._steps[number]: ranges(rows) for number, rows in open_rows if number in self._steps}
        for step in found.keys() | self._open.keys():
            text = found.get(step)
            if text != self._open.get(step):
                where = (schema.steps.c.run == self._run) & (schema.steps.c.step == step)
                connection.execute(update(schema.steps).where(where).values(open=text))
        self._open = found

    def _write_widths(self, connection: Connection) -> None:
        for number, width in self._widths().items():
            if self._wide.get(number) != width and number in self._steps:
                where = (schema.steps.c.run == self._run) & (schema.steps.c.step == self._steps[number])
                connection.execute(update(schema.steps).where(where).values(width=width))
                self._wide[number] = width


def _origin(origin: RunOrigin | None) -> dict[str, Any]:
    """Return who asked for a run; nothing is written of a run that this process began by itself."""
    if origin is None:
        return {}
    due = None if origin.scheduled_for is None else origin.scheduled_for.timestamp()
    return {**origin._asdict(), "scheduled_for": due}


def _reads(plan: Plan, step: Step) -> str:
    """Return the tasks that a step reads, as JSON."""
    sources = [(plan.steps[i.source], i) for i in step.inputs if i.source >= 0]
    return json.dumps([(clean(s.slug), i.key, i.mapped) for s, i in sources if s.literal is None])


def _weight(event: AttemptEvent) -> int:
    return FAILURE_WEIGHT if event.state.is_failed() else 1


def recorder_for(history: str | os.PathLike[str] | bool | None) -> HistoryRecorder | None:
    """Return a recorder for a run; None if it is not to be recorded.

    `history` is as in :class:`RunOptions`. If the one in the home folder cannot be used, a warning is issued once, and
    the run is not recorded; one that was given explicitly raises what is wrong with it.
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
