"""A run in the background, and what can be asked of it from outside."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from prefectish.engine.capture import Error, Value
from prefectish.engine.driver.control import (
    Approve,
    CancelRun,
    CancelTask,
    DrainRun,
    Interrupt,
    PauseRun,
    Reply,
    ResumeRun,
    RetryFailed,
    RunControl,
    SetTagLimit,
    SetTaskLimit,
    check_index,
    check_limit,
)
from prefectish.engine.driver.interrupts import Terminated, terminable
from prefectish.engine.driver.progress_view import counts_by_state
from prefectish.engine.scheduling.retry_failed import CannotRetry, chooser
from prefectish.engine.scheduling.verdict import expand, states_so_far
from prefectish.engine.state import Paused, Running, Skipped, State, Success
from prefectish.engine.task_states import is_by_task, story_of, task_of
from prefectish.interrupting import Latch
from prefectish.safe_repr import as_html
from prefectish.slugs import child_label
from prefectish.tasks.task import Task
from prefectish.validation import unknown_tag

#: Seconds in which a run whose program ends has to end by itself; then it is ended as it stands.
END_WITHIN = 3.0
#: Seconds between two checks whether a run that was asked something has ended.
POLL_INTERVAL = 0.05
logger = logging.getLogger("prefectish")


class Drive(Protocol):
    """Drives a run in the thread that calls it."""

    def __call__(self, *, control: RunControl) -> State:
        """Return the state of the flow."""


class RunHandle:
    """A run in a thread of its own; made by ``flow.start(...)``.

    Attributes
    ----------
    id
        Identifier of the run.
    """

    def __init__(self, flow: Any, drive: Drive, approved: Callable[[str, str, int | None, Any], Drive]) -> None:
        self._flow = flow
        self._approved = approved
        self._begin(drive)

    def _begin(self, drive: Drive) -> None:
        self._control = RunControl()
        self._state: State | None = None
        self._error: BaseException | None = None
        self._is_paused = False
        self._process = os.getpid()
        self._ended = Latch()  # a join that was interrupted leaves a thread that passes for ended
        self._thread = threading.Thread(target=self._drive, args=(drive,), name="prefectish-run", daemon=True)
        try:
            _end_with_the_program(self)
            self._thread.start()
            self._control.begun.wait()
            _end_with_the_program(self)  # again, for what the run has imported
        except BaseException as error:  # Ctrl-C: the caller gets no handle, so the run must end here
            if self._thread not in threading.enumerate() and not self._ended.is_set():  # it has none, and never began
                self._error = error
                self._ended.set()
            interrupt_all([self], KeyboardInterrupt)
            raise

    def _drive(self, drive: Drive) -> None:
        try:
            self._state = drive(control=self._control)
        except BaseException as error:  # `wait` raises it
            self._error = error
        finally:
            self._control.begun.set()
            self._ended.set()

    @property
    def id(self) -> str | None:
        """Return the identifier of the run; None if it could not begin."""
        return self._control.run_id

    @property
    def state(self) -> State:
        """Return the state of the flow: Running until the run has ended, or Paused after :meth:`pause`."""
        if self._state is not None:
            return self._state
        return Paused("Nothing more is sent to be run until resume().") if self._is_paused else Running("Running flow.")

    def wait(self, timeout: float | None = None) -> State:
        """Wait for the end of the run and return its state.

        Ctrl-C ends the wait, and the run only with the program. SIGTERM ends both.

        Parameters
        ----------
        timeout
            Seconds to wait at most.

        Raises
        ------
        TimeoutError
            The run has not ended after `timeout` seconds.
        BaseException
            What ended the run without a state; a SystemExit with code 143 after SIGTERM.
        """
        try:
            with terminable():
                self._ended.wait(timeout)
        except Terminated:
            interrupt_all([self], Terminated)
        if not self._ended.is_set():
            raise TimeoutError(f"run {self.id} did not finish within {timeout:g} s")
        if self._error is not None:
            raise self._error
        assert self._state is not None
        return self._state

    def cancel(self, task: Any = None, index: int | None = None, drain: bool = False) -> None:
        """Cancel the run, or a task, or one child of a map. Running bodies end by themselves; nothing new starts.

        Parameters
        ----------
        task
            Cancel only this task; what follows it decides by its trigger.
        index
            Cancel only this child of a mapped `task`.
        drain
            Let what runs end, and keep its results.

        Raises
        ------
        TypeError, ValueError
            `task` is not in the flow, or `index` comes without a task, or is not a position.
        """
        check_index(index, task)
        if task is not None:
            for slug in self._slugs(task, index):
                self._control.mailbox.post(CancelTask(slug, index))
        else:
            self._control.mailbox.post(DrainRun() if drain else CancelRun())

    def approve(self, task: Any, input: Any = None, index: int | None = None) -> None:
        """Resume a paused task; a run that has ended meanwhile, because only paused work was left, is continued.

        Parameters
        ----------
        task
            A task of the flow.
        input
            What ``pause_task`` returns to it.
        index
            Only this child of a mapped `task`. Default: all that are paused.

        Raises
        ------
        ValueError
            `task` is not in the flow, or nothing of it is paused.
        KeyError
            The run has ended, and nothing of it is paused.
        RuntimeError
            The run has ended, and was not recorded.
        """
        slugs = self._slugs(task, index)
        answers = [self._ask(Approve(slug, index, input)) for slug in slugs]
        if None in answers:
            self.wait()
            assert self.id is not None
            self._begin(
                self._approved(self.id, slugs[0] if len(slugs) == 1 else getattr(task, "name", task), index, input)
            )
            return
        for answer in answers:
            if isinstance(answer, Error):
                raise answer.exception
        if not any(answer.value for answer in answers if isinstance(answer, Value)):
            named = " and ".join(child_label(self._called(slug), index) for slug in slugs)
            raise ValueError(f"{named} is not paused")

    def pause(self) -> None:
        """Send nothing more to be run until :meth:`resume`. Retries that are due wait; time limits keep running.

        What was sent already is run to its end: of a map up to a window, whose width ``DaskExecutor(max_branches=...)``
        says.
        """
        self._is_paused = True
        self._control.mailbox.post(PauseRun())

    def resume(self) -> None:
        """Continue after :meth:`pause`."""
        self._is_paused = False
        self._control.mailbox.post(ResumeRun())

    def set_limit(self, task_or_tag: Task | str, n: int | None) -> None:
        """Change how many children may run at once, from now on; nothing that was sent to be run is taken back.

        Parameters
        ----------
        task_or_tag
            A task of the flow, whose `max_concurrency` it is; or a tag, of whose `tag_limits` it is.
        n
            0 to start none, None for no limit.

        Raises
        ------
        TypeError, ValueError
            The task or the tag is not in the flow, or `n` is not a number of children.
        """
        check_limit(n)
        if isinstance(task_or_tag, str):
            self._control.mailbox.post(SetTagLimit(self._tag(task_or_tag), n))
        else:
            self._control.mailbox.post(SetTaskLimit(self._limited(task_or_tag), n))

    def retry(self, task: Task, where: Any = None) -> int:
        """Run failed children of a map again, and what followed them, while the map runs.

        Parameters
        ----------
        task
            A mapped task of the flow.
        where
            Which of them: an exception type or several, the name of one, a function of the failed state, or a group of
            ``history.run(id).failures()``. Default: all that failed by themselves.

        Returns
        -------
        How many run again.

        Raises
        ------
        RuntimeError
            The map, or the run, has ended, or what followed cannot be taken back; the error names the way out,
            :meth:`prefectish.Flow.resume`.
        TypeError, ValueError
            `where` is of another kind, or `task` is not in the flow.
        """
        slugs, chosen = self._slugs(task), chooser(where)
        hint = f"flow.resume({self.id!r}, retry_failed=True) runs failed children again once the run has ended"
        count, refused = 0, []
        for slug in slugs:
            answer = self._ask(RetryFailed(slug, chosen))
            if answer is None:
                raise RuntimeError(f"run {self.id} has ended; {hint}")
            if isinstance(answer, Value):
                count += answer.value
            elif isinstance(answer.exception, CannotRetry):
                refused.append(f"{self._called(slug)} cannot run again now: {answer.exception}; {hint}")
            else:
                raise answer.exception
        if len(refused) == len(slugs):
            raise RuntimeError(refused[0])
        return count

    def _slugs(self, task: Any, index: int | None = None) -> Sequence[str]:
        """Return the slugs of a task, given as itself, as the one that was called, or by its name or slug.

        With an `index` it must be one.
        """
        slugs: Mapping[Any, str] = self._flow.slugs
        try:
            return [slugs[task_of(slugs, task)]]
        except KeyError as error:
            raise ValueError(f"{task!r} is not in {self._flow!r}: {error.args[0]}") from None

    def _called(self, slug: str) -> str:
        """Return what a task of the run is called."""
        progress = self._control.progress
        return slug if progress is None else progress.run_state.find(slug).step.label

    def _limited(self, task: Any) -> Any:
        """Return what a request for a limit calls a task."""
        return self._slugs(task)[0]

    def _tag(self, tag: str) -> str:
        """Return a tag of the flow."""
        tags = {tag for task in self._flow.tasks for tag in task.tags}
        if tag not in tags:
            raise ValueError(unknown_tag(tag, tags, repr(self._flow)))
        return tag

    def _ask(self, request: Any) -> Value | Error | None:
        """Have a request carried out by the loop and return the answer; None if the run has ended."""
        if threading.current_thread() is self._control.thread:
            raise RuntimeError(
                "cannot be called from a handler or task body of the same run: its loop is blocked until they return"
            )
        reply = Reply()
        self._control.mailbox.post(request, reply)
        # Which comes first: a run that ends leaves the requests that came too late unanswered.
        while not reply.known.wait(POLL_INTERVAL) and not self._ended.is_set():
            pass
        return reply.answer

    def counts(self, task: Any = None) -> dict[str, int]:
        """Return how many tasks and children are in which state, by the name of the state.

        Parameters
        ----------
        task
            Count only this task and its children.

        Raises
        ------
        ValueError
            `task` is not in the flow.
        """
        slug = None if task is None else self._slugs(task)[0]
        if self._state is None:
            progress = self._control.progress
            return {} if progress is None else counts_by_state(progress, slug)
        slugs = self._flow.slugs
        states = [state for known, state in self._state.result.items() if slug in (None, slugs.get(known))]
        return dict(Counter(type(child).__name__ for state in states for child in expand(state)))

    def snapshot(self) -> State:
        """Return the state of the flow with those of its tasks and children as they are now.

        Read it as the state of a run that has ended: ``run.snapshot()["load"].results()``.
        """
        progress, state = self._control.progress, self.state
        if progress is None or is_by_task(state.result):
            return state
        run_state = progress.run_state
        return state.replace(result=states_so_far(run_state.plan, run_state.step_states))

    def results(self, task: Any) -> dict[int | None, Any]:
        """Return what the children of a task that have succeeded so far returned, by map index; None for a single task.

        Parameters
        ----------
        task
            A task, its name or its slug.

        Raises
        ------
        ValueError
            `task` is not in the flow.
        """
        slug, found = self._slugs(task)[0], self.snapshot().result
        state = next((found[known] for known, own in found.slugs.items() if own == slug), None)
        if state is None:
            return {}
        children = {None: state} if state.map_states is None else dict(enumerate(state.map_states))
        return {i: c.result for i, c in children.items() if isinstance(c, Success) and not isinstance(c, Skipped)}

    def children(self, task: Any, state: str | None = None) -> list[Any]:
        """Return the children of a task that have ended so far, from the history, which is half a second late at most.

        Parameters
        ----------
        task
            A task, its name or its slug.
        state
            Only children in the state of this name.

        Raises
        ------
        ValueError
            `task` is not in the flow.
        RuntimeError
            The run is not recorded.
        """
        from importlib import import_module

        slug, progress = self._slugs(task)[0], self._control.progress
        row = None if self.id is None else import_module("prefectish.history.outline").find(self.id)
        if row is None or progress is None:
            raise RuntimeError(f"run {self.id} has no history; results() and snapshot() read it in this process")
        if slug not in {facts["slug"] for facts in row.tasks()}:  # a flow function has only just called it
            return []
        found: list[Any] = row.children(slug, state)
        return found

    def story(self, key: str) -> str:
        """Return what happened so far to a task (``"load"``) or a child (``"load[17]"``), moment by moment.

        Raises
        ------
        RuntimeError
            The run keeps no story: start it with ``story=True``, or with ``PREFECTISH_VALIDATE=1`` in the environment.
        KeyError
            The run has no such task.
        """
        return story_of(self.id, key)

    def _repr_html_(self) -> str:
        if self._state is not None:
            return as_html("of_state", self._state)
        return as_html("of_active_run", self._flow.name, self._control.progress, self.id, self._control)

    def __repr__(self) -> str:
        link = f", dashboard {self.dashboard_link}" if self.dashboard_link and self._state is None else ""
        link += f", page {self.page_link}" if self.page_link else ""
        return f"<RunHandle: {self.id} of {self._flow!r}, {type(self.state).__name__}{link}>"

    @property
    def page_link(self) -> str | None:
        """Return the link to the page that shows it, of ``start(..., page=True)``; None without."""
        return self._control.page

    @property
    def dashboard_link(self) -> str | None:
        """Return the address of the dashboard of the cluster that runs it; None if it has none."""
        return self._control.dashboard


#: Runs that end with the program, if they have not ended before.
_active: weakref.WeakSet[RunHandle] = weakref.WeakSet()


def _end_with_the_program(run: RunHandle) -> None:
    """Have a run end, with a state for every child and in its history, if the program ends before it."""
    _active.add(run)
    # A pool of processes waits for its work in a hook of this kind, and hooks are called the last one first: so this
    # one is put behind those of whatever the run has just imported. It is harmless to call it twice.
    register: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
    register(_program_ends)


def _program_ends() -> None:
    left = [run for run in _active if not run._ended.is_set() and run._process == os.getpid()]
    for run in left:
        progress = run._control.progress
        recorded = progress is not None and progress.run_state.events is not None
        hint = f"; flow.resume({run.id!r}) continues it" if recorded else ""
        logger.warning("%r is interrupted: the program ends before it%s", run._flow.name, hint)
    interrupt_all(left, KeyboardInterrupt)


def interrupt_all(runs: Iterable[RunHandle], kind: type[KeyboardInterrupt]) -> None:
    """Interrupt runs and wait until they have ended; those held up by a body are ended from here."""
    end = time.monotonic() + END_WITHIN
    for run in runs:
        run._control.mailbox.post(Interrupt(kind))
    for run in runs:
        if not run._ended.wait(max(0.0, end - time.monotonic())):
            interrupted = run._control.interrupt_from_thread  # None if only a flow function holds it up
            run._error = kind() if interrupted is None else interrupted(kind())
            run._ended.set()
