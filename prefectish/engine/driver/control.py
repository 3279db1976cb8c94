"""Requests to a run, from any thread to the one that drives it.

Only the thread of the loop changes the tables of a run. Every other thread posts a request, which the loop carries out
between two batches of receipts.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.clock import Now
from prefectish.engine.scheduling.progress import Progress
from prefectish.engine.scheduling.run_state import NEVER_STARTED
from prefectish.engine.state import Cancelled, State
from prefectish.engine.worker.yielding import Yielded
from prefectish.interrupting import Latch

#: Requests that can wait, until they are carried out for their number.
MOST_WAITING = 256


class CancelRun(NamedTuple):
    """Cancel what runs and what was not started; `message` says why."""

    message: str = "cancelled"


class DrainRun(NamedTuple):
    """Start nothing more, let what runs end, and then end the run."""


class Interrupt(NamedTuple):
    """End the run as after a signal: the loop raises what it would have raised there."""

    kind: type[KeyboardInterrupt]


class PauseRun(NamedTuple):
    """Start nothing more until the run is resumed."""


class ResumeRun(NamedTuple):
    """Start again what waits since the run was paused."""


class CancelTask(NamedTuple):
    """Cancel a task, or one child of it; `row` is None for all of it."""

    slug: str
    row: int | None


class SetTaskLimit(NamedTuple):
    """Let at most `size` children of a task run at once; None for no limit."""

    task: Any  # a slug; of a flow function the task, whose calls are several steps
    size: int | None


class SetTagLimit(NamedTuple):
    """Let at most `size` children of all tasks with a tag run at once; None for no limit."""

    tag: str
    size: int | None


class SetSharedLimit(NamedTuple):
    """Let at most `size` children run at once under a limit across runs: as many slots as the run holds of it."""

    name: str
    size: int


class Approve(NamedTuple):
    """Resume paused work of a task, of one child or of all; answered with whether there was any."""

    slug: str
    row: int | None
    answer: Any


class RetryFailed(NamedTuple):
    """Run failed children of a map again; `chosen` says which. Answered with their number."""

    slug: str
    chosen: Callable[[int, State], bool]


def check_index(index: Any, task: Any) -> None:
    """Refuse what cannot be the position of a child of a task: TypeError, ValueError."""
    if index is None:
        return
    if isinstance(index, bool) or not isinstance(index, int):
        raise TypeError(f"index must be an int, the position of a child, got {index!r}")
    if index < 0:
        raise ValueError(f"index must be >= 0, got {index}: children are counted from 0")
    if task is None:
        raise ValueError(f"index={index!r} requires task=: an index selects one child of a mapped task")


def check_limit(n: Any) -> None:
    """Refuse what cannot be a number of children that may run at once: TypeError, ValueError."""
    if n is None:
        return
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"n must be an int, or None for no limit, got {n!r}")
    if n < 0:
        raise ValueError(f"n must be >= 0, got {n}")


def carry_out(request: Any, progress: Progress, now: Now) -> Any:  # noqa: C901  one case for each request
    """Do what a request asks for, in the thread of the loop, and return the answer.

    Raises KeyboardInterrupt if it asks to end the run as after a signal.
    """
    match request:
        case CancelRun(message):
            progress.cancellation.end(lambda run, row: Cancelled(message), NEVER_STARTED, now)
        case DrainRun():
            progress.cancellation.drain(now)
        case Interrupt(kind):
            raise kind
        case PauseRun():
            progress.controls.pause()
        case ResumeRun():
            progress.controls.resume()
        case CancelTask(slug, row):
            progress.cancellation.cancel(slug, row, now)
        case SetTaskLimit(slug, size):
            progress.controls.limit_task(slug, size)
        case SetTagLimit(tag, size):
            progress.controls.limit_tag(tag, size)
        case SetSharedLimit(name, size):
            progress.admission.limits.hold_shared(name, size)
            progress.admission.requeue_deferred()
        case Approve(slug, row, answer):
            paused = [place for place in paused_rows(progress, slug) if row in (None, place[1])]
            progress.approve(paused, now, answer)
            return bool(paused)
        case Yielded():
            progress.streams.take(request)
        case RetryFailed(slug, chosen):
            return progress.retrier.retry(slug, chosen, now)
        case _:
            raise TypeError(f"request must be one of prefectish.engine.driver.control, got {request!r}")
    return None


def paused_rows(progress: Progress, slug: str) -> list[tuple[int, int]]:
    """Return the step and the rows of a task that are paused."""
    return [(step, row) for step, row, _ in progress.paused() if progress.run_state.step_states[step].step.slug == slug]


class Reply:
    """The answer to a request, for the thread that waits for it."""

    __slots__ = ("answer", "known")

    def __init__(self) -> None:
        self.known = Latch()
        self.answer: Value | Error | None = None


class Mailbox:
    """Requests that wait for the loop."""

    def __init__(self) -> None:
        # Those not carried out yet, each with the reply that its sender waits for, or None.
        self.requests: deque[tuple[Any, Reply | None]] = deque()
        self.is_cancelled = False  # whether the run was asked to cancel all; it may not have come to it yet
        self._posted = Latch()
        self._wake_session: Callable[[], None] | None = None

    def connect(self, wake: Callable[[], None]) -> None:
        """Let a request end the wait for receipts, by the session's `wake`."""
        self._wake_session = wake

    def post(self, request: Any, reply: Reply | None = None) -> None:
        """Leave a request; the loop carries it out at once."""
        if request == CancelRun():
            self.is_cancelled = True
        self.requests.append((request, reply))
        self.wake()

    def leave(self, request: Any) -> None:
        """Leave a request that waits until the loop turns; this takes no lock, and may be called at any moment."""
        self.requests.append((request, None))

    def post_later(self, request: Any) -> None:
        """Leave a request that can wait until the loop turns for another reason, or until there are many."""
        self.leave(request)
        if not len(self.requests) % MOST_WAITING:
            self.wake()

    def wake(self) -> None:
        """Let the loop turn now."""
        self._posted.set()
        if self._wake_session is not None:
            self._wake_session()

    def idle(self, seconds: float) -> None:
        """Wait for a request while nothing runs."""
        self._posted.wait(seconds)
        # A request is left before it is announced: one that comes between these lines is seen in the turn that follows.
        self._posted.clear()

    def deliver(self, act: Callable[[Any], Any]) -> None:
        """Carry out all requests, in the order in which they came."""
        while self.requests:
            request, reply = self.requests.popleft()
            if reply is None:
                act(request)
            else:
                reply.answer = capture(act, request)
                reply.known.set()

    def withdraw(self) -> list[Any]:
        """Return the requests that came too late; those whose senders wait for an answer get none."""
        late = []
        while self.requests:
            request, reply = self.requests.popleft()
            if reply is None:
                late.append(request)
        return late


class RunControl:
    """What the thread that drives a run shares with others."""

    def __init__(self) -> None:
        self.mailbox = Mailbox()  # requests to the run
        self.run_id: str | None = None  # identifier of the run; None before it has one
        # The tables of the run, once it has some; read by other threads, written by the loop only.
        self.progress: Progress | None = None
        self.begun = Latch()  # set once the run has tables, or has ended without
        self.dashboard: str | None = None  # address of the page on which the executor shows its work, if it has one
        self.page: str | None = None  # link to the page that shows the run, if there is one
        self.is_shown = False  # whether a live view shows the run
        self.thread: threading.Thread | None = None  # the one whose loop carries out requests
        # Ends the run as an interrupt does, from another thread, while a body holds up the loop; returns what is to be
        # raised. None while there is nothing to end.
        self.interrupt_from_thread: Callable[[KeyboardInterrupt], BaseException] | None = None

    def begin(self, progress: Progress, wake: Callable[[], None]) -> None:
        """Note that the loop begins."""
        self.progress = progress
        self.thread = threading.current_thread()
        self.mailbox.connect(wake)
        self.begun.set()
