"""Resume a recorded run: after its client died, its cluster was lost, or children failed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, select, update

from prefectish.engine.jobs.references import Gone
from prefectish.engine.plan.item_key import ItemId
from prefectish.engine.plan.steps import Plan, Step
from prefectish.engine.scheduling.previous_run import PreviousResult, PreviousRun, PreviousWait
from prefectish.engine.state import Failed, Paused, Resume, Retrying, Scheduled, State
from prefectish.engine.state import State as AnyState
from prefectish.engine.state_column import SUCCEEDED
from prefectish.engine.worker.stored_result import Stored, is_replaced
from prefectish.errors import RemoteError, ResultCorrupt, ResumeMismatch, RunLocked
from prefectish.flow_version import differs_only_in_closure, task_version
from prefectish.history import holders, schema
from prefectish.history.children import ChildRow, WaitingRow
from prefectish.history.holders import Life, life_of, own_holder, shown, stands_still
from prefectish.history.inputs import inputs_digest
from prefectish.history.queries import RunRow
from prefectish.history.queries import run as find_run
from prefectish.history.recorder import HistoryRecorder
from prefectish.history.rows import NO_RESULT, rows_of, text_number
from prefectish.history.store import HistoryStore, open_store
from prefectish.history.stored import StoredResults
from prefectish.kinds import is_a
from prefectish.results.base import Result

#: Message of an attempt that was running when its client died.
CLIENT_LOST = "client-lost"
logger = logging.getLogger("prefectish")
STATE_CLASSES = {cls.__name__: cls for cls in AnyState.children()}


class Resumption:
    """A recorded run that this process resumes; KeyError if there is none, RunLocked if another process drives it.

    To `retry_failed` is to run failed children again, also with changed code. With `force`, changed tasks are accepted;
    they run again, and everything downstream of them.
    """

    def __init__(self, run_id: str, history: Any, retry_failed: bool, force: bool, chosen: Any = None) -> None:
        where = None if history in (None, True) else history
        self.store: HistoryStore = open_store(where)
        self.retry_failed = retry_failed
        self._chosen = chosen  # which failed children run again, None for all
        self.force = force
        self.run: RunRow = find_run(run_id, where)
        self.part = 0  # how often the run was resumed, this time included
        self._changed: set[str] = set()
        self._left: Any = None  # the last sign of life of a holder that gave none while this process looked
        self._await_silence()

    def _await_silence(self) -> None:
        """Return once nobody holds the run: at once if its holder is known to be dead, else when it stands still."""
        with self.store.reading() as connection:
            row = self._row(connection)
        if row.holder is None or life_of(row.holder, row.heartbeat) is Life.DEAD:
            return
        if life_of(row.holder, row.heartbeat) is Life.ALIVE:
            raise _locked(row)
        text = "run %s is held by %s, which cannot be seen from here; it is taken over if it gives no sign for %.0f s"
        logger.warning(text, row.id, shown(row.holder), holders.STANDSTILL)

        def sign() -> Any:
            with self.store.reading() as connection:
                return _sign(self._row(connection))

        if not stands_still(sign):
            with self.store.reading() as connection:
                if (row := self._row(connection)).holder is not None:
                    raise _locked(row)
        self._left = _sign(row)

    def _row(self, connection: Connection, locks: bool = False) -> Any:
        query = select(schema.runs).where(schema.runs.c.number == self.run._number)
        return connection.execute(query.with_for_update() if locks else query).one()

    def _check_holder(self, connection: Connection) -> Any:
        row = self._row(connection, locks=True)
        is_free = row.holder is None or life_of(row.holder, row.heartbeat) is Life.DEAD
        if not is_free and _sign(row) != self._left:
            raise _locked(row)
        return row

    def _take(self) -> None:
        """Become the holder of the run; attempts that its dead client left running are marked as lost."""
        c = schema.runs.c
        with self.store.writing() as connection:
            row = self._check_holder(connection)
            now = time.time()
            if row.holder is not None:
                _mark_lost(connection, row, now)
            self.part = int(row.part) + 1
            values = {"holder": own_holder(), "held": now, "heartbeat": now, "part": self.part}
            connection.execute(update(schema.runs).where(c.number == row.number).values(values))

    def release(self) -> None:
        """Give up the run unchanged, if nothing of it ran."""
        c = schema.runs.c
        own_row = (c.number == self.run._number) & (c.part == self.part)
        with self.store.writing() as connection:
            connection.execute(update(schema.runs).where(own_row).values(holder=None, part=self.part - 1))

    def recorder(self) -> HistoryRecorder:
        """Return a recorder for the resumed run."""
        return HistoryRecorder(self.store, self.part, self._changed)

    def recall(self, plan: Plan) -> PreviousRun:
        """Return the previous results of the run, and become its holder; ResumeMismatch if a task has changed."""
        children: dict[str, Mapping[ItemId, PreviousResult]] = {}
        widths: dict[str, int] = {}
        since: dict[str, int] = {}
        known = {row.slug: row for row in self._steps()}
        stored = StoredResults(self.run.id, self.run.part)
        is_ours = self.run.flow_name == plan.flow_name if plan.grows else known.keys() & {s.slug for s in plan.steps}
        if known and not is_ours:
            raise ResumeMismatch(
                f"run {self.run.id} is of flow {self.run.flow_name!r}, and has no task of {plan.flow_name!r}"
            )

        def learn(step: Step) -> None:
            row = known.pop(step.slug, None)
            if step.literal is not None:
                return
            if row is None:
                if (
                    plan.grows and step.fan_in is None and not any(i.mapped for i in step.inputs)
                ):  # calls, and none of them was recorded
                    children[step.slug] = stored.missing(step, {}, 0, task_version(step.task))
                    since[step.slug] = 0
                return
            every = self.run._every_row(step.slug)
            # If a task ended, its children of the last part are complete; items of others were removed from the list.
            rows = [child for child in every.values() if row.state is None or child.part == self.run.part]
            self._check_unchanged(step, row, rows, self._changed)
            if row.inputs is None or row.inputs != inputs_digest(plan, step):
                self._changed.add(step.slug)  # its inputs have changed
            counted = {identity: child for identity, child in every.items() if child.made >= row.since}
            children[step.slug] = RecordedChildren(self.run, step, counted, row.state is not None)
            widths[step.slug] = len(rows)
            if row.version == task_version(step.task):
                single = step.domain is None
                places = {key: (child.part, -1 if single else child.row) for key, child in every.items()}
                unrecorded = stored.missing(step, places, row.since)
                since[step.slug] = row.since
                if unrecorded:
                    children[step.slug] = {**unrecorded, **children[step.slug]}
                widths[step.slug] += sum(found.generation == self.run.part for found in unrecorded.values())

        for step in plan.steps:
            learn(step)
        waiting = self._waiting()
        self._take()
        options = (self._changed, self.retry_failed, learn, self._chosen, since)
        return PreviousRun(children, waiting, widths, *options)

    def _check_unchanged(self, step: Step, row: Any, rows: list[Any], changed: set[str]) -> None:
        version = task_version(step.task)
        if row.version == version:
            return
        some_failed = any(child.state in schema.FAILED_CODES for child in rows)
        if self.retry_failed and some_failed:
            return  # the code was changed to fix the failed children
        if not rows:
            return  # the old code produced no results
        if not self.force and differs_only_in_closure(row.version, version):
            text = "values in the closure of task %s have changed; its finished results are kept, unless force=True"
            logger.warning(text, step.slug)
            return
        if not self.force:
            options = "force=True (--force) runs it and everything downstream again"
            if some_failed:
                options = f"retry_failed=True (--retry-failed) runs its failed children again; {options}"
            raise ResumeMismatch(f"task {step.slug} changed; {options}")
        changed.add(step.slug)

    def _steps(self) -> list[Any]:
        with self.store.reading() as connection:
            query = select(schema.steps).where(schema.steps.c.run == self.run._number)
            return list(connection.execute(query).all())

    def _waiting(self) -> dict[str, dict[str | int, list[PreviousWait]]]:
        """Return the children that wait for an approval or their next attempt, by item key or else by map index."""
        found: dict[str, dict[str | int, list[PreviousWait]]] = {}
        for row in self.run.waiting():
            what = (row.index or 0) if row.item_key is None else row.item_key
            found.setdefault(row.slug, {}).setdefault(what, []).append(PreviousWait(_start(row), row.part))
        return found


class RecordedChildren(Mapping[ItemId, PreviousResult]):
    """The recorded children of a task; what is known of one is made when it is asked for.

    Parameters
    ----------
    rows
        Their rows in the history, by identity.
    has_ended
        Whether the task had ended: then items of children that are not of the last part were removed from the list.
    """

    def __init__(self, run: RunRow, step: Step, rows: Mapping[ItemId, Any], has_ended: bool) -> None:
        self._run = run
        self._step = step
        self._rows = rows
        self._has_ended = has_ended
        self._known: dict[ItemId, PreviousResult] = {}

    def __getitem__(self, identity: ItemId) -> PreviousResult:
        found = self._known.get(identity)
        if found is None:
            row = self._rows[identity]
            had_left = self._has_ended and row.part < self._run.part
            found = self._known[identity] = recorded(self._step, ChildRow(self._run, row), had_left)
        return found

    def __contains__(self, identity: object) -> bool:
        return identity in self._rows

    def __iter__(self) -> Iterator[ItemId]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def _sign(row: Any) -> Any:
    """Return what changes in the row of a run while a client drives it."""
    return row.holder, row.heartbeat, row.part


def _locked(row: Any) -> RunLocked:
    return RunLocked(f"run {row.id} is held by {shown(row.holder)} since {_since(row.held or row.started)}")


def _mark_lost(connection: Connection, run: Any, now: float) -> None:
    """Record the attempts that were running as lost with their client."""
    s, c, a = schema.steps.c, schema.children.c, schema.attempts.c
    steps = connection.execute(select(s.step, s.open).where(s.run == run.number, s.open.is_not(None))).all()
    for step in steps:
        in_part = (c.run == run.number, c.step == step.step, c.part == run.part)
        ended = set(connection.execute(select(c.row).where(*in_part)).scalars())
        tried = (a.run == run.number, a.step == step.step, a.part == run.part)
        attempts = connection.execute(select(a.row, a.number).where(*tried).order_by(a.number))
        known = {row.row: row.number for row in attempts}
        message = text_number(connection, CLIENT_LOST)
        lost = [
            {
                "run": run.number, "step": step.step, "row": row, "part": run.part, "number": known.get(row, 0) + 1,
                "state": schema.CODES["Crashed"], "seconds": 0.0, "at": run.heartbeat, "message": message,
            }
            for row in rows_of(step.open)
            if row not in ended
        ]  # fmt: skip
        if lost:
            connection.execute(schema.attempts.insert(), lost)
    connection.execute(update(schema.steps).where(s.run == run.number).values(open=None, progress=None))


def _start(row: WaitingRow) -> State:
    """Return the state from which a waiting child continues."""
    if row.state == "Retrying":
        return Retrying(row.message, start_time=row.due, run_count=row.attempt)
    if row.state == "Resume":
        return Resume(row.message or "Resumed.", context=dict(row.context))
    cls = Paused if row.state == "Paused" else Scheduled
    return cls(row.message, start_time=row.due, context=dict(row.context))


def recorded(step: Step, child: ChildRow, had_left: bool = False) -> PreviousResult:
    """Return the state of a recorded child, with its result if that can be read.

    Parameters
    ----------
    had_left
        Whether its item was removed from the list in the last part.
    """
    label = child.slug if child.index is None else f"{child.slug}[{child.index}]"
    row = child._row
    state, store = state_of(child, step.store, label)
    location = child.location

    def is_readable() -> bool:
        return store is None or (location is not None and _is_sound(store, location, _maker(child)))

    gone = is_a(state._raw_result, Gone)
    place = None if had_left else row.row
    attempt = (child.attempts, child.duration, child.worker)
    return PreviousResult(state, (lambda: False) if gone else is_readable, place, row.made, *attempt)


def state_of(child: ChildRow, kept_in: Result | None, label: str) -> tuple[State, Result | None]:
    """Return a state, and the store of its result; None if no store is needed."""
    cls = STATE_CLASSES[child.state]
    if issubclass(cls, Failed):
        kind, _, text = (child.error or "").partition(": ")
        return cls(child.error, RemoteError(kind, text, child.traceback), traceback=child.traceback), None
    if not cls().is_successful() or child.state == "Skipped":
        return cls(child.message), None
    message = child.message or SUCCEEDED
    if child._row.location == NO_RESULT:
        return cls(message), None
    if child.location is None or kept_in is None:
        return cls(message, Gone(label)), None
    return cls(message, Stored(kept_in, child.location, label, run_id=_maker(child))), kept_in


def _maker(child: ChildRow) -> str | None:
    """Return the run that a result has to be of; None for what may have been found at its target."""
    return None if child.state == "Cached" else child._run.id


def _is_sound(store: Result, location: str, run_id: str | None) -> bool:
    """Whether a stored result exists and is intact, and no other run has replaced it under a name of the user's."""
    try:
        return not is_replaced(store.facts(location), run_id)
    except (FileNotFoundError, ResultCorrupt):
        return False


def _since(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def resumption(run_id: str, history: Any, retry_failed: bool, force: bool, chosen: Any = None) -> Resumption:
    """Return a `Resumption`; raises as its constructor does."""
    return Resumption(run_id, history, retry_failed, force, chosen)
