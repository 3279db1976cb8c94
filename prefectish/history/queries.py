"""Read the history: runs, children, failures by cause."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, FromClause, Select, Text, and_, case, cast, func, literal, or_, select

from prefectish.engine.plan.item_key import ItemId
from prefectish.engine.scheduling.events import Notice
from prefectish.engine.state import State
from prefectish.engine.task_counts import NOT_STARTED, TaskCounts
from prefectish.engine.worker.body_progress import BodyProgress
from prefectish.errors import HistoryCorrupt, RunLocked, RunNotActive
from prefectish.history import schema
from prefectish.history.approvals import approve as write_approvals
from prefectish.history.approvals import choose
from prefectish.history.body_progress import read_progress
from prefectish.history.cells import BadCell, check_columns, json_of, unchecked
from prefectish.history.children import (
    CONSEQUENCE_TYPE,
    MAX_LINE_LENGTH,
    ChildRow,
    FailureGroup,
    WaitingRow,
    aware_time,
    identities,
    key_of,
)
from prefectish.history.holders import is_alive, shown
from prefectish.history.lines import LogLine, level_number, select_lines
from prefectish.history.notices import read_notices
from prefectish.history.run_requests import PostedRequest, post, requests_of
from prefectish.history.signing import Signer
from prefectish.history.store import HistoryStore, open_store, strict_texts
from prefectish.safe_repr import as_html, printable
from prefectish.slugs import labels
from prefectish.validation import only_task

if TYPE_CHECKING:
    from prefectish.engine.state import State

_r, _s, _e, _t, _a = schema.runs.c, schema.steps.c, schema.errors.c, schema.texts.c, schema.attempts.c

#: What a list of runs reads: each column costs ten thousand runs two milliseconds, and none of these is shown in it.
_LISTED = [column for column in _r if column.key not in ("asked", "held")]


class NamedStep(NamedTuple):
    """How a task of a run is named."""

    step: int
    slug: str
    label: str
    name: str


class RunList(list["RunRow"]):
    """Recorded runs, shown as a table in notebooks."""

    def _repr_html_(self) -> str:
        return as_html("of_runs", self)


def runs(limit: int | None = 20, flow: str | None = None, store: str | os.PathLike[str] | None = None) -> RunList:
    """Return the recorded runs, newest first.

    Parameters
    ----------
    limit
        Maximum number of runs; None: all.
    flow
        Only runs of the flow of this name.
    store
        Path or database URL; None: the history in the home folder.
    """
    opened = open_store(store)
    query = select(*unchecked(_LISTED)).order_by(_r.number.desc())
    if flow is not None:
        query = query.where(_r.flow_name == flow)
    if limit is not None:
        query = query.limit(limit)
    try:
        with opened.reading() as connection, strict_texts(connection):
            rows = connection.execute(query).all()
            check_columns(_LISTED, zip(*rows, strict=True) if rows else [()] * len(_LISTED))
        return RunList([RunRow(opened, row) for row in rows])
    except HistoryCorrupt:
        return RunList(_one_by_one(opened, query))


def _one_by_one(store: HistoryStore, query: Select[Any]) -> Iterator[RunRow]:
    """Yield runs of which some cannot be read."""
    with store.reading() as connection:
        numbers = list(connection.execute(query.with_only_columns(_r.number)).scalars())
    for number in numbers:
        try:
            with store.reading() as connection:
                row = connection.execute(select(schema.runs).where(_r.number == number)).one()
        except HistoryCorrupt as error:
            yield UnreadableRun(store, number, error)
        else:
            yield RunRow(store, row)


#: Stands for the id of the newest run.
LAST_RUN = "last"


def run(id: str, store: str | os.PathLike[str] | None = None) -> RunRow:
    """Return one recorded run.

    Parameters
    ----------
    id
        Id of the run, or the beginning of it if unambiguous; ``"last"`` is the newest run.

    Raises
    ------
    KeyError
        There is no such run, or several ids begin with it.
    TypeError
        The id is not a string.
    """
    if not isinstance(id, str):
        raise TypeError(f'id of a run must be a string, state.context["flow_run_id"], got {id!r}')
    opened = open_store(store)
    if id == LAST_RUN:
        if not (newest := runs(limit=1, store=store)):
            raise KeyError(f"no runs are recorded yet in the history {opened.location}")
        return newest[0]
    query = select(schema.runs).where(_r.id.startswith(id, autoescape=True)).limit(2)
    with opened.reading() as connection:
        rows = connection.execute(query).all() if id else []
    if len(rows) != 1:
        raise KeyError(f"{'several runs begin with' if rows else 'no run'} {id!r} in the history {opened.location}")
    return RunRow(opened, rows[0])


class RunRow:
    """A recorded run.

    Attributes
    ----------
    id, name, flow_name, flow_version
        Names of the run and of its flow.
    state
        Name of the state it ended in, or "Running".
    message
        Message of the state.
    started, ended, heartbeat
        Aware datetimes; `ended` is None for a run that did not end, `heartbeat` is that of its client.
    exit_code
        Exit code of a program that ends with the state.
    executor
        Repr of its executor.
    holder
        The client process, ``host:pid``; None once the run has ended.
    part
        How often the run was resumed.
    source
        Location of its flow, ``FILE.py:name`` or ``module:name``; None if unknown.
    trigger
        Why it ran: "schedule", "manual" (on request), "parent" (a task of another run did) or "resume" (its
        driver was lost); None for a run that its own process began.
    scheduled_for
        When it was to begin; None if it was not for a certain time.
    deployment, deployment_version
        What was run, ``project/name``, and its version; None for a run without a deployment.
    agent, parent
        The agent that began it, and the run whose task asked for it, or whose flow function called its flow.
    """

    def __init__(self, store: HistoryStore, row: Any) -> None:
        self._store = store
        self._row = row

    if not TYPE_CHECKING:  # all that there is, is declared in `_read`

        def __getattr__(self, name: str) -> Any:
            """Read the record when something of it is first asked for: a list may have ten thousand."""
            known = self.__dict__
            if "_row" in known:
                self._read(known["_row"])
            if name not in known:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return known[name]

    def _read(self, row: Any) -> None:
        self._number: int = row.number
        self._counts: str | None = row.counts
        self._labels: dict[str, str] = {}
        self.id: str = row.id
        self.name: str = row.name
        self.flow_name: str = row.flow_name
        self.flow_version: str | None = row.flow_version
        self.state: str = schema.STATES[row.state]
        self.message: str | None = row.message
        self.exit_code: int | None = row.exit_code
        self.executor: str | None = row.executor
        self.source: str | None = row.source
        self._holder: str | None = row.holder
        self.holder = None if row.holder is None else shown(row.holder)
        self.part: int = row.part
        self.trigger: str | None = row.begun_by
        self.scheduled_for = None if row.scheduled_for is None else aware_time(row.scheduled_for)
        self.deployment: str | None = row.deployment
        self.deployment_version: int | None = row.deployment_version
        self.agent: str | None = row.agent
        self.parent: str | None = row.parent
        self._returned: str | None = row.returned
        self.started = aware_time(row.started)
        self.ended = None if row.ended is None else aware_time(row.ended)
        self.heartbeat = aware_time(row.heartbeat)

    @property
    def duration(self) -> float:
        """Return the seconds from start to end, or to the last heartbeat."""
        return max(0.0, ((self.ended or self.heartbeat) - self.started).total_seconds())

    @property
    def is_lost(self) -> bool:
        """Whether it did not end and its client is gone: :meth:`Flow.resume` continues it."""
        return self._holder is not None and not is_alive(self._holder, self.heartbeat.timestamp(), time.time())

    def cancel(self) -> None:
        """Request the client of the run, on any machine, to cancel it; it does so within a second or two.

        Raises
        ------
        RunNotActive
            It has ended, or its client is lost.
        """
        if self.holder is None or self.is_lost:
            what = "its client is lost; resume continues it" if self.is_lost else f"it ended as {self.state}"
            raise RunNotActive(f"run {self.id} is not running: {what}")
        with self._store.writing() as connection:
            post(connection, self._number, "cancel", {}, Signer())

    def counts(self) -> TaskCounts:
        """Return how many items and tasks succeeded, failed, or did not run, if that can be read."""
        try:
            with self._store.translated_errors():
                return self._counted() if self._counts is None else _counts_of(self._counts)
        except HistoryCorrupt:  # it is asked for each run of a list, and must hide none
            return TaskCounts({}, {})

    def _counted(self) -> TaskCounts:
        c = self._current().c
        text = select(schema.texts.c.number).where(schema.texts.c.text == NOT_STARTED).scalar_subquery()
        query = select(c.step, c.state, func.count(), func.sum(case((c.message == text, 1), else_=0)))
        found: dict[int, tuple[dict[str, int], int]] = {}
        with self._store.reading() as connection:
            steps = connection.execute(select(_s.step, _s.mapped).where(_s.run == self._number)).all()
            for step, state, number, idle in connection.execute(query.group_by(c.step, c.state)):
                numbers, before = found.get(step, ({}, 0))
                found[step] = {**numbers, schema.STATES[state]: number}, before + idle
        return TaskCounts.of_names((bool(row.mapped), *found.get(row.step, ({}, 0))) for row in steps)

    def label_of(self, slug: str) -> str:
        """Return what a task is called: its name, or its slug if others have its name, see `prefectish.slugs`."""
        if slug not in self._labels:
            self._labels = {task.slug: task.label for task in self._named()}
        return self._labels.get(slug, slug)

    def _named(self) -> list[NamedStep]:
        """Return the tasks in order; those of an older history have no label, so that their names tell."""
        query = select(_s.step, _s.slug, _s.name, _s.label).where(_s.run == self._number).order_by(_s.step)
        with self._store.reading() as connection:
            rows = connection.execute(query).all()
        called = labels((row.slug, row.label or row.name) for row in rows)
        return [NamedStep(row.step, row.slug, called[row.slug], row.name) for row in rows]

    def asks(self) -> list[PostedRequest]:
        """Return what was asked of the run from other processes, by whom, and what became of it."""
        return requests_of(self._store, self._number)

    def tasks(self) -> list[dict[str, Any]]:
        """Return the tasks as dicts: slug, name, state, number of children by state, first start and last end."""
        c = self._current().c
        facts: dict[int, dict[str, Any]] = {}
        query = select(c.step, c.state, func.count(), func.min(c.at - func.coalesce(c.seconds, 0.0)), func.max(c.at))
        with self._store.reading() as connection:
            for step, state, count, began, ended in connection.execute(query.group_by(c.step, c.state)):
                known = facts.setdefault(step, {"counts": {}, "began": began, "ended": ended})
                known["counts"][schema.STATES[state]] = count
                known["began"], known["ended"] = min(known["began"], began), max(known["ended"], ended)
            steps = connection.execute(select(schema.steps).where(_s.run == self._number).order_by(_s.step)).all()
        return [_task_facts(row, facts.get(row.step, {})) for row in steps]

    def progress(self) -> list[BodyProgress]:
        """Return how far the running bodies are, as they say by ``context.progress(...)``; of at most 200 of them."""
        with self._store.reading() as connection:
            return read_progress(connection, self._number)

    def children(self, task: Any, state: str | None = None) -> list[ChildRow]:
        """Return the recorded children of a task in map order; one for an unmapped task.

        Parameters
        ----------
        task
            A task, its slug or its name.
        state
            Only children in the state of this name; "Failed" includes every kind of failure.
        """
        table = self._current()
        c = table.c
        query = self._children(table).where(c.step == self._step(task)).order_by(c.row)
        if state is not None:
            codes = schema.FAILED_CODES if state == "Failed" else {schema.CODES[state]}
            query = query.where(c.state.in_(codes))
        with self._store.reading() as connection:
            return [ChildRow(self, row) for row in connection.execute(query)]

    def _every_child(self, slug: str) -> dict[ItemId, ChildRow]:
        """Return the recorded children of a task by identity, including those of removed items."""
        return {identity: ChildRow(self, row) for identity, row in self._every_row(slug).items()}

    def _every_row(self, slug: str) -> dict[ItemId, Any]:
        """Return the rows of the recorded children of a task by identity: a million of them are soon read."""
        table = self._current(gone=True)
        query = self._children(table).where(table.c.step == self._step(slug)).order_by(table.c.row)
        with self._store.reading() as connection:
            rows = connection.execute(query).all()
        if self.part:
            named = [((row.item_key, row.again - 1) if row.item_key is not None else (None, row.row)) for row in rows]
        else:
            known = identities([(row.row, row.item_key) for row in rows])
            named = [known[row.row] for row in rows]
        return dict(zip(named, rows, strict=True))

    def child(self, task: Any, item: int | str) -> ChildRow:
        """Return one child.

        Parameters
        ----------
        item
            Its map index or item key.

        Raises
        ------
        KeyError
            There is no such child.
        """
        table = self._current()
        c = table.c
        query = self._children(table).where(c.step == self._step(task)).order_by(c.part.desc(), c.row)
        query = query.where(c.row == item if isinstance(item, int) else c.item_key == item)
        with self._store.reading() as connection:
            row = connection.execute(query.limit(1)).first()
        if row is None:
            raise KeyError(f"no child {item!r} of {task!r} is recorded in run {self.id}")
        return ChildRow(self, row)

    def logs(
        self,
        task: Any = None,
        item: int | str | None = None,
        level: int | str = 0,
        limit: int | None = None,
        after: int = 0,
    ) -> list[LogLine]:
        """Return the log lines of task runs, oldest first.

        Parameters
        ----------
        task
            Only this task: a task, its slug or its name.
        item
            Only this child of a mapped `task`: its map index, or its item key.
        level
            Only lines of this level or above: a name ("WARNING") or a number.
        limit
            Only the last n lines.
        after
            Only lines recorded after the one with this number.

        Raises
        ------
        KeyError
            There is no such task.
        ValueError
            `item` is passed without a task, or `level` is unknown.
        """
        if item is not None and task is None:
            raise ValueError(f"item={item!r} requires task=: an item selects one child of a mapped task")
        step = None if task is None else self._step(task)
        query = select_lines(self._number, step, item, level_number(level), limit, after)
        with self._store.reading() as connection:
            return [LogLine(row, self.label_of(row.slug)) for row in connection.execute(query)][::-1]

    def notices(self) -> list[Notice]:
        """Return the notifications of the run and whether they were delivered, oldest first."""
        with self._store.reading() as connection:
            return read_notices(connection, self._number)

    def failures(self) -> list[FailureGroup]:
        """Return the failures grouped by cause, the largest group first and consequences of others last."""
        c = self._current().c
        counts = select(c.error, func.count().label("count")).where(c.error.is_not(None)).group_by(c.error).subquery()
        query = select(schema.errors, counts.c.count).join(counts, counts.c.error == _e.number)
        with self._store.reading() as connection:
            rows = connection.execute(
                query.order_by(_e.type == CONSEQUENCE_TYPE, counts.c.count.desc(), _e.number)
            ).all()
        return [FailureGroup(self, row) for row in rows]

    def paused(self) -> list[WaitingRow]:
        """Return the children that wait for an approval, or were approved and have not continued since."""
        found = self._as_it_is_now().waiting()
        return [row for row in found if row.due is None and row.state in ("Paused", "Resume")]

    def approve(
        self, task: Any = None, item: int | str | None = None, input: Any = None, flow: Any = None, **options: Any
    ) -> State | None:
        """Approve paused children, so that they continue when the run is resumed, and resume it.

        Parameters
        ----------
        task
            Only children of this task: a task, its slug or its name. Default: all.
        item
            Only this child of a mapped `task`: its map index, or its item key.
        input
            What ``pause_task`` returns to them; JSON serializable; stored in the history until the run has ended.
        flow
            The flow with which to resume the run now; None: resume later with ``flow.resume(...)`` or the command.
        **options
            Options of ``flow.resume``: parameters, executor and others.

        Returns
        -------
        State
            The state of the flow; None if it is not resumed here.

        Raises
        ------
        KeyError
            No such child is paused.
        RunLocked
            The run is still active; use the handle of ``flow.start(...)``.
        ValueError
            The input cannot be stored.
        TypeError
            Options are given, and no flow that takes them.
        """
        if options and flow is None:
            raise TypeError(
                f"approve() takes {', '.join(options)} with flow=..., as options of flow.resume; "
                "item=... chooses a child of a mapped task"
            )
        name = task if task is None or isinstance(task, str) else getattr(task, "slug", None) or task.name
        now = self._as_it_is_now()
        if now.holder is not None and not now.is_lost:
            raise RunLocked(f"run {self.id} is held by {now.holder}: approve it there, or when it has ended")
        write_approvals(self._store, self._number, choose(self.paused(), name, item, self.id), input)
        if flow is None:
            return None
        state: State = flow.resume(self.id, **{"history": self._store.address, **options})
        return state

    def _as_it_is_now(self) -> RunRow:
        """Read the row of the run again: it may have been resumed in the meantime."""
        with self._store.reading() as connection:
            return RunRow(self._store, connection.execute(select(schema.runs).where(_r.number == self._number)).one())

    def waiting(self) -> list[WaitingRow]:
        """Return the children that wait for an approval or their next attempt, each with its newest state."""
        c = schema.children.c
        over = select(c.row).where(c.run == _a.run, c.step == _a.step, c.row == _a.row, c.part == _a.part)
        waits = _a.state.in_([schema.CODES[name] for name in ("Paused", "Resume", "Retrying", "Scheduled")])
        query = (
            select(schema.attempts, _s.slug, _s.name, _s.mapped, _t.text)
            .join(schema.steps, and_(_s.run == _a.run, _s.step == _a.step))
            .outerjoin(schema.texts, _t.number == _a.message)
            .where(_a.run == self._number, waits, ~over.exists())
            .order_by(_a.step, _a.part, _a.row, _a.number)
        )
        with self._store.reading() as connection:
            found = connection.execute(query).all()
            newest = {(row.step, row.part, row.row): row for row in found}.values()
            last = {key_of(row): row.part for row in newest}
            rows = [row for row in newest if row.part == last[key_of(row)]]
            if self.part and rows:
                rows = self._still_waiting(connection, rows)
            return [
                WaitingRow.of(row, self.label_of(row.slug)) for row in sorted(rows, key=lambda row: (row.step, row.row))
            ]

    def _still_waiting(self, connection: Connection, rows: list[Any]) -> list[Any]:
        """Drop children that waited in an earlier part and have ended since, possibly at another map index."""
        steps = {row.step for row in rows}
        c, now = schema.children.c, self._current().c
        before = select(c.step, c.item_key, c.row, c.part).where(c.run == self._number, c.step.in_(steps))
        ended_then = Counter((key_of(row), row.part) for row in connection.execute(before))
        after = select(now.step, now.item_key, now.row).where(now.step.in_(steps))
        ended_now = Counter(key_of(row) for row in connection.execute(after))
        waited = Counter(key_of(row) for row in rows)
        left = {key_of(row): ended_then[key_of(row), row.part] + waited[key_of(row)] for row in rows}
        kept = []
        for row in rows:
            what = key_of(row)
            if row.part == self.part or left[what] > ended_now[what]:
                left[what] -= 1
                kept.append(row)
        return kept

    def _current(self, gone: bool = False) -> FromClause:
        """Return the current children: of a resumed run, the newest record of an item, `gone` ones too if so."""
        c = schema.children.c
        if not self.part:
            # Without later parts, in case the run was resumed in the meantime: both would count.
            return select(schema.children).where(c.run == self._number, c.part == 0).subquery("current")
        if not gone and self._is_whole():
            return select(schema.children).where(c.run == self._number, c.part == self.part).subquery("current")
        # A task that ended in the last part has all of its children there, whatever others it had before.
        whole = select(_s.step).where(_s.run == self._number, _s.state.is_not(None))
        key = func.coalesce(c.item_key, literal("@") + cast(c.row, Text))
        again = func.row_number().over(partition_by=(c.step, c.part, key), order_by=c.row)
        these = select(schema.children, key.label("item"), again.label("again"))
        these = these.where(c.run == self._number, c.part <= self.part)
        every = (these if gone else these.where(or_(c.part == self.part, c.step.not_in(whole)))).subquery("every")
        newest = func.row_number().over(
            partition_by=(every.c.step, every.c.item, every.c.again), order_by=every.c.part.desc()
        )
        ranked = select(every, newest.label("age")).subquery("ranked")
        return select(ranked).where(ranked.c.age == 1).subquery("current")

    def _is_whole(self) -> bool:
        """Whether all tasks ended in the last part, which then has all children that there are."""
        open_steps = select(_s.step).where(_s.run == self._number, _s.state.is_(None))
        with self._store.reading() as connection:
            return connection.execute(open_steps.limit(1)).first() is None

    def _children(self, table: FromClause) -> Select[Any]:
        c = table.c
        message = schema.texts.alias("message")
        worker = schema.texts.alias("worker_name")
        return (
            select(
                table,
                _s.slug,
                _s.mapped,
                _e.type.label("error_type"),
                _e.message.label("error_message"),
                _e.traceback,
                message.c.text.label("text"),
                worker.c.text.label("worker_text"),
            )
            .join(schema.steps, (_s.run == self._number) & (_s.step == c.step))
            .outerjoin(schema.errors, _e.number == c.error)
            .outerjoin(message, message.c.number == c.message)
            .outerjoin(worker, worker.c.number == c.worker)
        )

    def _step(self, task: Any) -> int:
        name = task if isinstance(task, str) else getattr(task, "slug", None) or task.name
        named = self._named()
        slug = only_task(name, ((task.slug, task.label, task.name) for task in named), f"run {self.id}")
        return next(task.step for task in named if task.slug == slug)

    def report(self, path: str | os.PathLike[str]) -> str:
        """Write an HTML report of the run and return its path; see :meth:`State.report`."""
        from importlib import import_module

        written: str = import_module("prefectish.display.report").of_run(self, path)
        return written

    def _repr_html_(self) -> str:
        return as_html("of_recorded", self)

    def __repr__(self) -> str:
        return f"<run {self.id}: {printable(self.flow_name, MAX_LINE_LENGTH)}, {self.state}, {self.duration:.1f} s>"


class UnreadableRun(RunRow):
    """A run whose row has a value that cannot be read: it is listed, and hides no other run."""

    def __init__(self, store: HistoryStore, number: int, error: HistoryCorrupt) -> None:
        self._store, self._number, self._error = store, number, error
        known: dict[str, Any] = {"number": number, "state": 0, "part": 0, "started": 0.0, "heartbeat": 0.0}
        known |= {name: self._text(name) for name in ("id", "name", "flow_name")}
        self._read(SimpleNamespace(**{**dict.fromkeys(_r.keys()), **known}))
        self.state, self.message, self.exit_code = "Unreadable", str(error), error.exit_code

    def _text(self, column: str) -> str:
        """Return one of its names, if that can be read."""
        with suppress(HistoryCorrupt), self._store.reading() as connection:
            query = select(_r[column]).where(_r.number == self._number)
            return str(connection.execute(query).scalar())
        return "?"

    def _refuse(self, *args: Any, **options: Any) -> Any:
        raise self._error

    tasks = children = child = logs = notices = failures = paused = waiting = approve = cancel = report = _refuse
    asks = progress = _refuse


def _counts_of(text: str) -> TaskCounts:
    found = json_of("counts", text, dict)
    if found.keys() != {"items", "tasks"} or not all(
        type(part) is dict and all(type(number) is int for number in part.values()) for part in found.values()
    ):
        raise BadCell("counts must be numbers of items and tasks")
    return TaskCounts(**found)


def _task_facts(row: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "slug": row.slug,
        "name": row.name,
        "mapped": bool(row.mapped),
        "state": None if row.state is None else schema.STATES[row.state],
        "counts": known.get("counts", {}),
        "started": aware_time(known["began"]) if known else None,
        "ended": aware_time(known["ended"]) if known else None,
    }
