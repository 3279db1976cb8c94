"""A handle on a run that another process drives, by its history: ``prefectish.attach(run_id)``."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from prefectish.engine.driver.control import check_index, check_limit
from prefectish.engine.state import Cancelled, Failed, Paused, Running, Scheduled, State
from prefectish.engine.task_states import Story
from prefectish.engine.worker.body_progress import BodyProgress
from prefectish.errors import RunNotActive
from prefectish.history.children import ChildRow
from prefectish.history.outline import find as find_anywhere
from prefectish.history.queries import LAST_RUN, RunRow
from prefectish.history.queries import run as recorded_run
from prefectish.history.recorded_states import flow_state, results
from prefectish.history.registry_tables import ENDED, WAITING
from prefectish.history.run_requests import answer_to, post
from prefectish.history.signing import Signer
from prefectish.history.store import HistoryStore, open_store, patiently
from prefectish.registry import queue
from prefectish.registry.drive import record_end, recorded_row
from prefectish.safe_repr import as_html
from prefectish.slugs import child_label

#: Seconds between two looks whether a run has ended.
POLL_INTERVAL = 0.2


class AttachedRun:
    """A run that another process drives; what a handle of ``flow.start()`` can do, by the history.

    Requests are carried out within a second or two, and the history keeps who asked for what.

    Attributes
    ----------
    id
        Identifier of the run.
    """

    def __init__(self, store: HistoryStore, run_id: str) -> None:
        self._store = store
        self.id = run_id
        self._is_paused = False

    @property
    def state(self) -> State:
        """Return the state of the flow: Scheduled until the run begins, Running until it has ended.

        The result of one that has ended are the states of its tasks, by name; of a flow function what it returned, if
        the flow has a result store.
        """
        asked, row = (
            queue.row_of(self._store, self.id),
            self._row(),
        )  # in this order: the record ends before the request
        if row is not None and row.ended is not None and (asked is None or asked.state == ENDED):
            return flow_state(row)
        if asked is not None and asked.state == ENDED and (row is None or row.ended is None):
            kind = Cancelled if asked.exit_code is None or asked.exit_code == 6 else Failed
            return kind(asked.message, context={"flow_run_id": self.id, "exit_code": asked.exit_code or 6})
        if row is None or (asked is not None and asked.state == WAITING and not asked.resumes):
            return Scheduled("It waits for its time and an agent.")
        if self._is_paused:
            return Paused("Nothing more is sent to be run until resume().")
        return Running("Running flow.")

    def wait(self, timeout: float | None = None) -> State:
        """Wait for the end of the run and return its state. Ctrl-C ends the wait, not the run.

        Parameters
        ----------
        timeout
            Seconds to wait at most.

        Raises
        ------
        TimeoutError
            The run has not ended after `timeout` seconds.
        RunNotActive
            Its driver died, and no agent will continue it.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            state, is_over, is_lost = patiently(self._looked_at)
            if is_over:
                return state
            if is_lost:
                raise RunNotActive(f"the driver of run {self.id} died; flow.resume({self.id!r}) continues it")
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"run {self.id} did not finish within {timeout:g} s")
            time.sleep(POLL_INTERVAL)

    def cancel(self, task: Any = None, index: int | None = None, drain: bool = False) -> None:
        """Cancel the run, or a task, or one child of a map, as :meth:`RunHandle.cancel`; also before the run begins."""
        check_index(index, task)
        if task is not None:
            self._ask("cancel_task", slug=self._slug(task), row=index)
            return
        while not queue.cancel_waiting(self._store, self.id):
            if self._row() is not None or self.has_ended() or queue.row_of(self._store, self.id) is None:
                self._ask("drain" if drain else "cancel")
                return
            time.sleep(POLL_INTERVAL)  # a driver has it, and begins
        if (row := self._row()) is not None:  # its driver was lost, and no other one continues it now
            record_end(self._store, self.id, row.flow_name, Cancelled("cancelled before it was continued"), None)

    def approve(self, task: Any, input: Any = None, index: int | None = None) -> None:
        """Resume a paused task while the run is active; for one that has ended use :meth:`RunRow.approve`.

        Raises
        ------
        ValueError
            Nothing of the task is paused.
        RunNotActive
            The run has ended.
        """
        slug = self._slug(task)
        if not self._ask("approve", slug=slug, index=index, input=input):
            raise ValueError(f"{child_label(self._begun().label_of(slug), index)} is not paused")

    def pause(self) -> None:
        """Send nothing more to be run until :meth:`resume`."""
        self._ask("pause")
        self._is_paused = True

    def resume(self) -> None:
        """Continue after :meth:`pause`."""
        self._ask("resume")
        self._is_paused = False

    def set_limit(self, task_or_tag: Any, n: int | None) -> None:
        """Change how many children of a task, or with a tag, may run at once, as :meth:`RunHandle.set_limit`.

        A name that is not a task of the run is taken for a tag.

        Raises
        ------
        KeyError
            The run has no such task, and no task with such a tag.
        """
        check_limit(n)
        try:
            slug = self._slug(task_or_tag)
        except KeyError as no_task:
            if not isinstance(task_or_tag, str):
                raise
            try:
                self._ask("set_tag_limit", tag=task_or_tag, size=n)
            except RuntimeError as no_tag:
                raise KeyError(f"{no_task.args[0]}; {no_tag}") from None
        else:
            self._ask("set_task_limit", slug=slug, size=n)

    def retry(self, task: Any, where: Any = None) -> int:
        """Run failed children of a map again while the map runs; return how many, as :meth:`RunHandle.retry`.

        Parameters
        ----------
        where
            The name of an exception, its type, or a group of ``history.run(id).failures()``. Default: all that failed
            by themselves.
        """
        rows = None
        if hasattr(where, "children"):
            rows, where = [child.index for child in where.children], None
        elif isinstance(where, type) and issubclass(where, BaseException):
            where = where.__name__
        elif where is not None and not isinstance(where, str):
            raise TypeError(
                f"where must be an exception, its name, or a group of failures, got {where!r}: a function cannot be "
                f"sent to the process that drives the run"
            )
        answer: int = self._ask("retry", slug=self._slug(task), where=where, rows=rows)
        return answer

    def story(self, key: str) -> Story:
        """Return what happened so far to a task or a child, as :meth:`RunHandle.story`."""
        return Story(self._ask("story", key=key))

    def counts(self, task: Any = None) -> dict[str, int]:
        """Return how many tasks and children have ended in which state, by the name of the state."""
        row = self._begun()
        slug = None if task is None else self._slug(task)
        found: Counter[str] = Counter()
        for facts in row.tasks():
            if slug in (None, facts["slug"]):
                found.update(facts["counts"])
        return dict(found)

    def children(self, task: Any, state: str | None = None) -> list[ChildRow]:
        """Return the children of a task that have ended so far, as :meth:`prefectish.history.RunRow.children`."""
        return self._begun().children(self._slug(task), state)

    def progress(self) -> list[BodyProgress]:
        """Return how far the running bodies are, as they say by ``context.progress(...)``."""
        return self._begun().progress()

    def results(self, task: Any) -> dict[int | None, Any]:
        """Return what the children of a task that have succeeded so far returned, by map index; None for a single task.

        Raises
        ------
        ResultReleased
            Results of the flow are not stored: give it ``result=``.
        """
        return results(self._begun(), self._slug(task))

    def asks(self) -> list[Any]:
        """Return what was asked of the run, by whom, and what became of it."""
        return self._begun().asks()

    def _ask(self, verb: str, **arguments: Any) -> Any:
        row = self._begun()
        if self.has_ended() or self._is_lost():
            raise RunNotActive(f"run {self.id} is not active: it ended as {row.state}, or its driver is gone")
        with self._store.writing() as connection:
            number = post(connection, row._number, verb, arguments, Signer())
        return answer_to(self._store, number, lambda: self.has_ended() or self._is_lost())

    def _slug(self, task: Any) -> str:
        """Return the slug of a task that is given as itself, or by its name or slug."""
        row = self._begun()
        number = row._step(task)
        slug: str = next(facts["slug"] for facts in row.tasks() if row._step(facts["slug"]) == number)
        return slug

    def _begun(self) -> RunRow:
        row = self._row()
        if row is None:
            raise RunNotActive(f"run {self.id} has not begun")
        return row

    def _row(self) -> RunRow | None:
        return recorded_row(self._store, self.id)

    def has_ended(self) -> bool:
        """Whether the run has ended, in whatever state; one that an agent will continue has not."""
        row, asked = self._row(), queue.row_of(self._store, self.id)
        if asked is not None:
            return bool(asked.state == ENDED)
        return row is not None and row.ended is not None

    def _looked_at(self) -> tuple[State, bool, bool]:
        """Return the state of the run, whether it is over, and whether it has lost its driver."""
        is_over, state = self.has_ended(), self.state  # in this order: the state is the last one
        is_over = is_over or state.is_finished()
        return state, is_over, not is_over and self._is_lost()

    def _is_lost(self) -> bool:
        row = self._row()
        return row is not None and row.is_lost and queue.row_of(self._store, self.id) is None

    def _repr_html_(self) -> str:
        row = self._row()
        return repr(self) if row is None else as_html("of_run", row)

    def __repr__(self) -> str:
        return f"<AttachedRun: {self.id}, {type(self.state).__name__}>"


def attach(run_id: str, store: str | os.PathLike[str] | None = None) -> AttachedRun:
    """Return a handle on a run that another process drives, or will drive, or has driven.

    Parameters
    ----------
    run_id
        Its identifier, or the beginning of it if that is unambiguous; ``"last"`` is the newest run.
    store
        Path or database URL of the history that has it; default: histories of this process, then the one in the home
        folder.

    Raises
    ------
    KeyError
        There is no such run.
    """
    if store is None and (known := find_anywhere(run_id)) is not None:
        return AttachedRun(known._store, known.id)
    opened = open_store(store)
    return AttachedRun(opened, recorded_run(run_id, store).id if run_id == LAST_RUN else _whole_id(opened, run_id))


def _whole_id(store: HistoryStore, run_id: str) -> str:
    if not isinstance(run_id, str) or not run_id:
        raise TypeError(f'run_id must be a string, state.context["flow_run_id"], got {run_id!r}')
    found: Mapping[str, None] = dict.fromkeys(queue.ids_that_begin_with(store, run_id))
    if len(found) != 1:
        raise KeyError(f"{'several runs begin with' if found else 'no run'} {run_id!r} in the history {store.location}")
    return next(iter(found))
