"""Resume a recorded run: after its client died, its cluster was lost, or children failed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from sqlalchemy import Connection, select, update

from prefectish.engine.jobs.references import Gone
from prefectish.engine.plan.item_key import ItemId
from prefectish.engine.plan.steps import Plan, Step
from prefectish.engine.scheduling.previous_run import PreviousChildren, PreviousResult, PreviousRun, PreviousWait
from prefectish.engine.state import Cached, Failed, Paused, Resume, Retrying, Scheduled, Skipped, State, Success
from prefectish.engine.state import State as AnyState
from prefectish.engine.state_column import SUCCEEDED
from prefectish.engine.worker.stored_result import Stored, is_replaced
from prefectish.errors import ResultCorrupt, ResumeMismatch, RunLocked
from prefectish.exception_pickling import from_record
from prefectish.flow_version import differs_only_in_closure, task_version
from prefectish.history import holders, schema
from prefectish.history.children import ChildRow, WaitingRow
from prefectish.history.columns import ChildColumns
from prefectish.history.holders import Life, life_of, own_holder, shown, stands_still
from prefectish.history.inputs import inputs_digest
from prefectish.history.queries import RunRow
from prefectish.history.queries import run as find_run
from prefectish.history.recorder import HistoryRecorder
from prefectish.history.rows import NO_RESULT, rows_of, text_number
from prefectish.history.store import HistoryStore, open_store
from prefectish.history.stored import StoredResults
from prefectish.results.base import Result
from prefectish.slugs import child_label

#: Message of an attempt that was running when its client died.
CLIENT_LOST = "client-lost"
logger = logging.getLogger("prefectish")
STATE_CLASSES = {cls.__name__: cls for cls in AnyState.children()}
#: Codes of the states of children that are kept, but for those that failed; and of such that are run again anyway.
_ENDS = frozenset(code for name, code in schema.CODES.items() if issubclass(STATE_CLASSES.get(name, State), Success))
_NO_ENDS = frozenset({schema.CODES["Crashed"]})


class Resumption:
    """A recorded run that this process resumes; KeyError if there is none, RunLocked if another process drives it.

    To `retry_failed` is to run failed children again, also with changed code. With `force`, changed tasks are accepted;
    they run again, and everything downstream of them.
    """

    def __init__(self, run_id: str, history: Any, retry_failed: bool, force: bool, chosen: Any = None) -> None:
        where = None if history in (None, True) else history
        self.store: HistoryStore = open_store(where)
        self.retry_failed = retry_failed
        self.chosen = chosen  # which failed children run again, None for all
        self.force = force
        self.run: RunRow = find_run(run_id, where)
        self.part = 0  # how often the run was resumed, this time included
        self._changed: set[str] = set()
        self._left: Any = None  # the last sign of life of a holder that gave none while this process looked
        self._await_silence()

    def _await_silence(self) -> None:
        """Return once the run has no holder: at once if its holder is known to be dead, else when it stands still."""
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
        rows = {row.slug: row for row in self._steps()}
        is_ours = self.run.flow_name == plan.flow_name if plan.grows else rows.keys() & {s.slug for s in plan.steps}
        if rows and not is_ours:
            raise ResumeMismatch(
                f"run {self.run.id} is of flow {self.run.flow_name!r}, and has no task of {plan.flow_name!r}"
            )
        recorded = _RecordedSteps(self, plan, rows)
        for step in plan.steps:
            recorded.learn(step)
        waiting = self._waiting()
        self._take()
        options = (self._changed, self.retry_failed, recorded.learn, self.chosen, recorded.since)
        return PreviousRun(recorded.children, waiting, recorded.widths, *options)

    def check_unchanged(self, plan: Plan, step: Step, row: Any, states: Collection[int]) -> None:
        """Note a step whose task or inputs have changed; ResumeMismatch if its results cannot stand then.

        `states` are the codes of those of its children.
        """
        self._check_version(step, row, states)
        if row.inputs is None or row.inputs != inputs_digest(plan, step):
            self._changed.add(step.slug)

    def _check_version(self, step: Step, row: Any, states: Collection[int]) -> None:
        version = task_version(step.task)
        if row.version == version:
            return
        some_failed = not schema.FAILED_CODES.isdisjoint(states)
        if self.retry_failed and some_failed:
            return  # the code was changed to fix the failed children
        if not states:
            return  # the old code produced no results
        if not self.force and differs_only_in_closure(row.version, version):
            text = "values in the closure of task %s have changed; its finished results are kept, unless force=True"
            logger.warning(text, step.label)
            return
        if not self.force:
            options = "force=True (--force) runs it and everything downstream again"
            if some_failed:
                options = f"retry_failed=True (--retry-failed) runs its failed children again; {options}"
            raise ResumeMismatch(f"task {step.slug} changed; {options}")
        self._changed.add(step.slug)

    def _steps(self) -> list[Any]:
        with self.store.reading() as connection:
            query = select(schema.steps).where(schema.steps.c.run == self.run._number)
            return list(connection.execute(query).all())

    def _waiting(self) -> dict[str, dict[str | int, list[PreviousWait]]]:
        """Return the children that wait for an approval or their next attempt, by item key or else by map index."""
        found: dict[str, dict[str | int, list[PreviousWait]]] = {}
        for row in self.run.waiting():
            what = (row.index or 0) if row.item_key is None else row.item_key
            found.setdefault(row.slug, {}).setdefault(what, []).append(PreviousWait(_start(row), row.part, row.index))
        return found


class _RecordedSteps:
    """What the record says of the steps, by slug; of those of a flow function once they are called."""

    def __init__(self, resumption: Resumption, plan: Plan, rows: dict[str, Any]) -> None:
        self.children: dict[str, Mapping[ItemId, PreviousResult]] = {}
        self.widths: dict[str, int] = {}
        #: First part of the run whose results count, although they are not recorded.
        self.since: dict[str, int] = {}
        self._resumption, self._plan, self._rows = resumption, plan, rows
        self._stored = StoredResults(resumption.run.id, resumption.run.part)

    def learn(self, step: Step) -> None:
        """Look up the record of a step."""
        row = self._rows.pop(step.slug, None)
        if step.literal is not None:
            return
        if row is None:
            if self._plan.grows and step.fan_in is None:  # none of its calls or children was recorded
                found = self._stored.missing(step, None, 0, task_version(step.task))
                self.children[step.slug] = found
                self.widths[step.slug] = len(found)
                self.since[step.slug] = 0
            return
        run = self._resumption.run
        is_single = step.domain is None and not self._plan.grows  # calls are rows, and have a domain once they are made
        columns = ChildColumns(run, step.slug, is_single)
        # If a task ended, its children of the last part are complete; items of others were removed from the list.
        states: Sequence[int] = columns.state
        if row.state is not None and run.part:
            parts = zip(columns.part, columns.state, strict=True)
            states = [state for part, state in parts if part == run.part]
        self._resumption.check_unchanged(self._plan, step, row, states)
        unrecorded: dict[ItemId, PreviousResult] = {}
        if row.version == task_version(step.task):
            unrecorded = self._stored.missing(step, columns, row.since)
            self.since[step.slug] = row.since
        self.children[step.slug] = RecordedChildren(run, step, columns, row, unrecorded)
        self.widths[step.slug] = len(states) + sum(found.generation == run.part for found in unrecorded.values())


class RecordedChildren(PreviousChildren):
    """The children of a task that are known from before; what is known of one is made when it is asked for.

    Parameters
    ----------
    columns
        Their records.
    row
        The record of the task. If it has ended, items of children that are not of the last part were removed from the
        list; children that ended before the part `since` do not count.
    unrecorded
        Those that are known from their results.
    """

    def __init__(
        self,
        run: RunRow,
        step: Step,
        columns: ChildColumns,
        row: Any,
        unrecorded: Mapping[ItemId, PreviousResult],
    ) -> None:
        self.run, self.step, self.columns = run, step, columns
        self._since: int = row.since
        self._has_ended = row.state is not None
        self._unrecorded = unrecorded

    def _find(self, identity: ItemId) -> int | None:
        at = self.columns.find(identity)
        return None if at is None or self.columns.made[at] < self._since else at

    def __getitem__(self, identity: ItemId) -> PreviousResult:
        at = self._find(identity)
        return self._unrecorded[identity] if at is None else RecordedResult(self, at)

    def __contains__(self, identity: object) -> bool:
        return self._find(identity) is not None or identity in self._unrecorded  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[ItemId]:
        counted = (identity for identity in self.columns if self._find(identity) is not None)
        return chain((identity for identity in self._unrecorded if self._find(identity) is None), counted)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def shares_keys(self) -> bool:
        """Whether several children have one key."""
        return self.columns.shares_keys

    def ended_rows(self, failed: bool) -> Iterator[int]:
        """Yield the rows of children that came to an end of their own, with or without those that failed."""
        ends = _ENDS | schema.FAILED_CODES - _NO_ENDS if failed else _ENDS
        rows = zip(self.columns.row, self.columns.state, strict=True)
        return (row for at, (row, state) in enumerate(rows) if state in ends and not self.had_left(at))

    def had_left(self, at: int) -> bool:
        """Whether an item was removed from the list in the last part."""
        return self._has_ended and self.columns.part[at] < self.run.part


class RecordedResult(PreviousResult):
    """What is known of a recorded child; its state is made when it is read."""

    def __init__(self, children: RecordedChildren, at: int) -> None:
        columns = children.columns
        self._children, self._at = children, at
        self.kind = STATE_CLASSES[schema.STATES[columns.state[at]]]
        self.row = None if children.had_left(at) else columns.row[at]
        self.generation = columns.made[at]
        self.attempts, self.seconds = columns.attempts[at], columns.seconds[at]
        self.worker = columns.worker_of(at)
        self._made: tuple[State, Callable[[], bool]] | None = None

    @property
    def state(self) -> State:
        """The state, with its result if that can be read."""
        return self._known()[0]

    def _is_readable(self) -> bool:
        return self._known()[1]()

    def _known(self) -> tuple[State, Callable[[], bool]]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def _make(self) -> tuple[State, Callable[[], bool]]:
        children, columns, at = self._children, self._children.columns, self._at
        step = children.step
        if not columns.ended_well(at):
            return _known(step, ChildRow(children.run, columns.full_row(at)))
        label = child_label(step.label, None if step.domain is None else columns.row[at])
        maker = None if self.kind is Cached else children.run.id
        return _with_result(self.kind, SUCCEEDED, columns.location[at], step.store, label, maker)


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


def recorded(step: Step, child: ChildRow) -> PreviousResult:
    """Return the state of a recorded child, with its result if that can be read."""
    row = child._row
    state, is_readable = _known(step, child)
    return PreviousResult(state, is_readable, row.row, row.made, child.attempts, child.duration, child.worker)


def _known(step: Step, child: ChildRow) -> tuple[State, Callable[[], bool]]:
    """Return the state of a recorded child, and what says whether its result can be read."""
    return state_of(child, step.store, child.place)


def state_of(child: ChildRow, kept_in: Result | None, label: str) -> tuple[State, Callable[[], bool]]:
    """Return a state, and what says whether its result can be read."""
    cls = STATE_CLASSES[child.state]
    if issubclass(cls, Failed):
        kind, _, text = (child.error or "").partition(": ")
        return cls(child.error, from_record(kind, text, child.traceback), traceback=child.traceback), _yes
    if not issubclass(cls, Success) or cls is Skipped:
        return cls(child.message), _yes
    maker = None if cls is Cached else child._run.id  # what may have been found at its target is of any run
    return _with_result(cls, child.message or SUCCEEDED, child._row.location, kept_in, label, maker)


def _with_result(
    cls: type[State], message: str, location: str | None, kept_in: Result | None, label: str, maker: str | None
) -> tuple[State, Callable[[], bool]]:
    """Return a successful state, and what says whether its result can be read, which `maker` has to have made."""
    if location == NO_RESULT:
        return cls(message), _yes
    if location is None or kept_in is None:
        return cls(message, Gone(label)), _no
    return cls(message, Stored(kept_in, location, label, run_id=maker)), partial(_is_sound, kept_in, location, maker)


def _yes() -> bool:
    return True


def _no() -> bool:
    return False


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
