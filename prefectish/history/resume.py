"""Go on with a recorded run: after its driver died, its cluster was lost, or children of it failed."""

from __future__ import annotations

import time
from typing import Any

import psutil
from sqlalchemy import Connection, select, update

from prefectish.engine.identity import numbered
from prefectish.engine.keeping import Stored
from prefectish.engine.plan import Plan, Step
from prefectish.engine.recall import Recall, Recorded, key_of
from prefectish.engine.state import Deferred, Failed, State
from prefectish.engine.state import State as AnyState
from prefectish.engine.wire import process_name
from prefectish.errors import RemoteError, ResultCorrupt, ResultReleased, ResumeMismatch, RunLocked
from prefectish.fingerprint import fingerprint
from prefectish.history import schema
from prefectish.history.inputs import inputs_digest
from prefectish.history.queries import ChildRow, RunRow
from prefectish.history.queries import run as find_run
from prefectish.history.recorder import HistoryRecorder
from prefectish.history.store import Store, open_store
from prefectish.results.base import Result

#: Seconds without a heartbeat after which the driver of a run on another machine counts as dead.
STALE = 60.0
_CLASSES = {cls.__name__: cls for cls in AnyState.children()}


class Gone(Deferred):
    """A result that was not stored, of a run that is resumed."""

    __slots__ = ("label",)

    def __init__(self, label: str) -> None:
        self.label = label

    def get(self) -> Any:
        """Refuse.

        Raises
        ------
        ResultReleased : always.
        """
        raise ResultReleased(
            f"result of {self.label} was made before the run was resumed, and was not stored; "
            f"give the flow a result store"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Gone, (self.label,)


class Resumption:
    """A recorded run that this process goes on with.

    Parameters
    ----------
    run_id : identifier of the run.
    history : where it is recorded, as for ``flow.run``.
    retry_failed : run failed children again, also with corrected code.
    force : accept changed tasks; they run again, and what follows them.

    Raises
    ------
    KeyError : no such run is recorded.
    RunLocked : somebody else drives it.
    """

    def __init__(self, run_id: str, history: Any, retry_failed: bool, force: bool) -> None:
        self.store: Store = open_store(None if history in (None, True) else history)
        self.retry_failed = retry_failed
        self.force = force
        self.run: RunRow = find_run(run_id, self.store.location)
        self.part = 0
        with self.store.reading() as connection:
            self._check_holder(connection)

    def _check_holder(self, connection: Connection) -> Any:
        row = connection.execute(select(schema.runs).where(schema.runs.c.number == self.run._number)).one()
        if row.holder is not None and _is_alive(row.holder, row.heartbeat):
            raise RunLocked(f"run {row.id} is held by {row.holder} since {_since(row.started)}")
        return row

    def _take(self) -> int:
        """Become the holder of the run; return how often it was resumed, this time included."""
        c = schema.runs.c
        with self.store.writing() as connection:
            row = self._check_holder(connection)
            values = {"holder": process_name(), "heartbeat": time.time(), "part": row.part + 1}
            connection.execute(update(schema.runs).where(c.number == row.number).values(values))
            return int(row.part) + 1

    def recorder(self) -> HistoryRecorder:
        """Return what records the run from here on."""
        return HistoryRecorder(self.store)

    def recall(self, plan: Plan) -> Recall:
        """Return what is kept of the run, and become its holder.

        Raises
        ------
        ResumeMismatch : a task changed since; it is named.
        """
        children: dict[str, dict[str, Recorded]] = {}
        widths: dict[str, int] = {}
        changed: set[str] = set()
        recorded = {row.slug: row for row in self._steps()}
        if recorded and not recorded.keys() & {step.slug for step in plan.steps}:
            raise ResumeMismatch(
                f"run {self.run.id} is of flow {self.run.flow_name!r}, and has no task of {plan.flow_name!r}"
            )
        for step in plan.steps:
            row = recorded.get(step.slug)
            if row is None or step.literal is not None:
                continue
            rows = self.run.children(step.slug)
            failed = any(schema.CODES[child.state] in schema.FAILED for child in rows)
            if row.version != fingerprint(step.task) and not (self.retry_failed and failed):
                if not self.force:
                    raise ResumeMismatch(f"task {step.slug} changed; force=True runs it again, and what follows it")
                changed.add(step.slug)
            if row.inputs != inputs_digest(plan, step):
                changed.add(step.slug)  # it is given something else now
            keys = numbered([child.item_key for child in rows])
            children[step.slug] = {
                key_of(key, child.index or 0): _recorded(step, child) for key, child in zip(keys, rows, strict=True)
            }
            widths[step.slug] = len(rows)
        self.part = self._take()
        return Recall(children, widths, frozenset(changed), self.retry_failed)

    def _steps(self) -> list[Any]:
        with self.store.reading() as connection:
            query = select(schema.steps).where(schema.steps.c.run == self.run._number)
            return list(connection.execute(query).all())


def _recorded(step: Step, child: ChildRow) -> Recorded:
    """Return the state of a recorded child, with its result if that can be read."""
    label = child.slug if child.index is None else f"{child.slug}[{child.index}]"
    state, readable = _state_of(step, child, label)
    return Recorded(state, readable, child.attempts, child.duration, child.worker)


def _state_of(step: Step, child: ChildRow, label: str) -> tuple[State, bool]:
    cls = _CLASSES[child.state]
    if issubclass(cls, Failed):
        kind, _, text = (child.error or "").partition(": ")
        return cls(child.error, RemoteError(kind, text, child.traceback), traceback=child.traceback), True
    if not cls().is_successful() or child.state == "Skipped":
        return cls(child.message), True
    message = child.message or "Task run succeeded."
    if child.location is None:
        return cls(message, Gone(label)), False
    if step.store is None or not _is_sound(step.store, child.location):
        return cls(message, Gone(label)), False
    return cls(message, Stored(step.store, child.location, label)), True


def _is_sound(store: Result, location: str) -> bool:
    """Whether a result is there and as it was written; one that was cut short or altered counts as absent."""
    try:
        store.read(location)
    except (FileNotFoundError, ResultCorrupt):
        return False
    return True


def _is_alive(holder: str, heartbeat: float) -> bool:
    host, _, pid = holder.rpartition(":")
    mine = process_name()
    if holder == mine:
        return time.time() - heartbeat < STALE
    if host == mine.rpartition(":")[0]:
        return bool(psutil.pid_exists(int(pid)))
    return time.time() - heartbeat < STALE


def _since(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def resumption(run_id: str, history: Any, retry_failed: bool, force: bool) -> Resumption:
    """Return a recorded run to go on with; errors are those of :class:`Resumption`."""
    return Resumption(run_id, history, retry_failed, force)
