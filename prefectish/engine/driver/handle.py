"""A run in the background, and what can be asked of it from outside.

The run's own thread drives it; every other thread leaves a request, which the loop takes up between two batches of
receipts. So the tables of a run have one writer.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from prefectish.engine.capture import Error
from prefectish.engine.clock import Now
from prefectish.engine.driver.controls import HandleControls
from prefectish.engine.driver.interrupts import Terminated, terminable
from prefectish.engine.driver.progress_view import counts_by_state
from prefectish.engine.jobs.protocol import Session
from prefectish.engine.scheduling.progress import Progress
from prefectish.engine.scheduling.run_state import NEVER_STARTED
from prefectish.engine.scheduling.verdict import expand
from prefectish.engine.state import Cancelled, Paused, Running, State

#: Seconds in which a run whose program ends has to end by itself; then it is ended as it stands.
END_WITHIN = 3.0
logger = logging.getLogger("prefectish")
#: What a request does; it is called in the thread that drives the run.
Request = Callable[[Progress, Now], None]


class Drive(Protocol):
    """Drives a run in the thread that calls it."""

    def __call__(self, *, control: Control) -> State:
        """Return the state of the flow."""


class Control:
    """Requests on their way to a loop.

    Attributes
    ----------
    progress
        The tables of the run, once it has some; read by other threads, written by the loop only.
    is_open
        The run does not end because nothing of it runs: more may come.
    break_off
        Ends the run as an interrupt does, from another thread, where the loop is held up by a body; returns what is to
        be raised.
    """

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.run_id: str | None = None
        self.is_open = False
        self.begun = threading.Event()
        self.break_off: Callable[[KeyboardInterrupt], BaseException] | None = None
        self._requests: deque[Request] = deque()
        self._asked = threading.Event()
        self._wake: Callable[[], None] | None = None

    def begin(self, progress: Progress, session: Session) -> None:
        """Note that the loop begins."""
        self.progress = progress
        self._wake = session.wake
        self.begun.set()

    def ask(self, request: Request) -> None:
        """Leave a request; the loop takes it up at once."""
        self._requests.append(request)
        self.wake()

    def leave(self, request: Request) -> None:
        """Leave a request that the loop takes up in its own time."""
        self._requests.append(request)

    def wake(self) -> None:
        """Have the loop look at its requests now."""
        self._asked.set()
        if self._wake is not None:
            self._wake()

    def idle(self, seconds: float) -> None:
        """Wait for a request while nothing runs."""
        self._asked.wait(seconds)

    def verdict(self, progress: Progress) -> State:
        """Return the state of a flow whose plan grew."""
        return progress.verdict()

    def answer(self, progress: Progress, now: Now) -> None:
        """Do what was asked meanwhile."""
        self._asked.clear()
        while self._requests:
            self._requests.popleft()(progress, now)


class RunHandle(HandleControls):
    """A run that goes on in a thread of its own; made by ``flow.start(...)``.

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
        self._control = Control()
        self._state: State | None = None
        self._error: BaseException | None = None
        self._is_paused = False
        self._process = os.getpid()
        self._ended = threading.Event()  # a join that was interrupted leaves a thread that passes for ended
        self._thread = threading.Thread(target=self._drive, args=(drive,), name="prefectish-run", daemon=True)
        self._thread.start()
        try:
            self._control.begun.wait()
        except KeyboardInterrupt:  # nobody will have a handle on it
            self._control.ask(_interrupt(KeyboardInterrupt))
            raise
        _end_with_the_program(self)

    def _drive(self, drive: Drive) -> None:
        try:
            self._state = drive(control=self._control)
        except BaseException as error:  # it is raised where somebody waits for the run
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
            The run goes on after `timeout` seconds.
        BaseException
            What made the run break off; a SystemExit with code 143 after SIGTERM.
        """
        try:
            with terminable():
                self._ended.wait(timeout)
        except Terminated:
            _interrupt_all([self], Terminated)
        if not self._ended.is_set():
            raise TimeoutError(f"run {self.id} goes on after {timeout:g} s")
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
            `task` is not in the flow, `index` comes without a task, or is no position.
        """
        if index is not None and (isinstance(index, bool) or not isinstance(index, int)):
            raise TypeError(f"index={index!r}: the position of a child, a whole number, is wanted")
        if index is not None and index < 0:
            raise ValueError(f"index={index}: children are counted from 0 on")
        if task is None:
            if index is not None:
                raise ValueError(f"index={index!r} without a task: whose child is meant?")
            self._control.ask(_drain if drain else cancel_run)
            return
        slug = self._slug(task)
        self._control.ask(lambda progress, now: progress.cancellation.cancel(slug, index, now))

    def approve(self, task: Any, input: Any = None, index: int | None = None) -> None:
        """Let a paused task go on; if the run has ended meanwhile, because only paused work was left, it goes on too.

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
        slug = self._slug(task)
        answer = self._answer(lambda progress, now: _approve(progress, slug, index, input, now))
        if answer is None:
            self.wait()
            assert self.id is not None
            self._begin(self._approved(self.id, slug, index, input))
        elif isinstance(answer, Error):
            raise answer.exception
        elif not answer.value:
            raise ValueError(f"{slug if index is None else f'{slug}[{index}]'} is not paused")

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
        slug = None if task is None else self._slug(task)
        if self._state is None:
            progress = self._control.progress
            return {} if progress is None else counts_by_state(progress, slug)
        slugs = self._flow.slugs
        states = [state for known, state in self._state.result.items() if slug in (None, slugs.get(known))]
        return dict(Counter(type(child).__name__ for state in states for child in expand(state)))

    def _repr_html_(self) -> str:
        from importlib import import_module

        reprs = import_module("prefectish.display.reprs")
        progress = self._control.progress
        html: str = reprs.of_going_on(self._flow.name, progress) if self._state is None else reprs.of_state(self._state)
        return html

    def __repr__(self) -> str:
        return f"<RunHandle: {self.id} of {self._flow!r}, {type(self.state).__name__}>"


def _approve(progress: Progress, slug: str, index: int | None, answer: Any, now: Now) -> bool:
    """Let paused work of a step go on; return whether there was any."""
    paused = [
        (number, row)
        for number, row, _ in progress.paused()
        if progress.run_state.step_states[number].step.slug == slug and index in (None, row)
    ]
    progress.approve(paused, now, answer)
    return bool(paused)


#: Runs that end with the program, if they have not ended before.
_going_on: weakref.WeakSet[RunHandle] = weakref.WeakSet()


def _end_with_the_program(run: RunHandle) -> None:
    """Have a run end, with a state for every child and in its history, if the program ends before it."""
    _going_on.add(run)
    # A pool of processes waits for its work in a hook of this kind, and hooks are called the last one first: so this
    # one is put behind those of whatever the run has just imported. It is harmless to call it twice.
    register: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
    register(_program_ends)


def _program_ends() -> None:
    left = [run for run in _going_on if not run._ended.is_set() and run._process == os.getpid()]
    for run in left:
        progress = run._control.progress
        recorded = progress is not None and progress.run_state.events is not None
        hint = f"; flow.resume({run.id!r}) goes on with it" if recorded else ""
        logger.warning("%r is interrupted: the program ends before it%s", run._flow.name, hint)
    _interrupt_all(left, KeyboardInterrupt)


def _interrupt_all(runs: Iterable[RunHandle], kind: type[KeyboardInterrupt]) -> None:
    """Interrupt runs and wait until they have ended; those that are held up are ended where they stand."""
    end = time.monotonic() + END_WITHIN
    for run in runs:
        run._control.ask(_interrupt(kind))
    for run in runs:
        if not run._ended.wait(max(0.0, end - time.monotonic())) and run._control.break_off is not None:
            run._error = run._control.break_off(kind())
            run._ended.set()


def _interrupt(kind: type[KeyboardInterrupt]) -> Request:
    """Return the request to end as after a signal: the loop is raised what it would have raised there."""

    def raise_it(progress: Progress, now: Now) -> None:
        raise kind

    return raise_it


def cancel_run(progress: Progress, now: Now) -> None:
    """Cancel what runs and what was not started; to be asked of a :class:`Control`."""
    progress.cancellation.end(lambda run, row: Cancelled("cancelled"), NEVER_STARTED, now)


def _drain(progress: Progress, now: Now) -> None:
    progress.cancellation.drain(now)
