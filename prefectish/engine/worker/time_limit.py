"""Time limits of a body, where the body runs.

``timeout`` is for one call of the body: each attempt, and each turn of a loop, has it anew. ``total_timeout`` is for
all calls of one child; the time used so far travels in the context of the state from which the next attempt starts.
Time between attempts does not count. What else an attempt calls of the user's (the key of its item, trigger, handlers,
the repr of an exception, the pickling of a result) has `timeout` too, all of it together: :func:`bounded`.
Where the loop of the run is busy with the body, in a local run, it cannot abandon the body when the time of its map or
of the run is over: the body then has that limit too.

How a limit is enforced depends on where the body runs:

* ``isolation="process"``: in a process of its own, which is killed (:mod:`prefectish.engine.worker.isolation.parent`).
* In the main thread of a process, as in a local run and in a pool of processes: SIGALRM interrupts it, so that Python
  code and sleeps really stop. Code of an extension stops when it returns to Python.
* Elsewhere, or where the program itself uses SIGALRM: in a side thread. The slot is free at the limit, the thread
  continues.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from prefectish.engine import clock as clocks
from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.plan.item_key import item_key
from prefectish.engine.side_thread import SideThread
from prefectish.engine.signals import ENDRUN, TimeoutSignal
from prefectish.engine.state import Pending, Scheduled, State, TimedOut
from prefectish.engine.worker.attempt_context import AttemptContext
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from prefectish.engine.jobs.job import StepSpec

#: The alarm rings again after so many seconds, for a body that swallowed it, or was where an exception is lost (a
#: ``__del__``); until then the body may clean up.
AGAIN_SECONDS = 5.0
#: Key of the context of a state: the seconds that bodies of its child used.
USED = "task_seconds_used"

Outcome = TypeVar("Outcome")
_PENDING = Pending()

#: From the slug of a task to the seconds that its map and its run have left, and the message when they are over.
TimeLeft: TypeAlias = Callable[[str], tuple[float, str] | None]

#: The limits of the run whose loop calls bodies in this thread; None if it has none.
surrounding: ContextVar[TimeLeft | None] = ContextVar("surrounding", default=None)


@contextmanager
def within(time_left: TimeLeft | None) -> Iterator[None]:
    """Apply the time limits of a run to the bodies that this thread calls, in place of those of a run around it."""
    token = surrounding.set(time_left)
    try:
        yield
    finally:
        surrounding.reset(token)


class Allowance:
    """The time that the bodies of one child may still take.

    Parameters
    ----------
    start
        The state that the attempt starts from.
    outer
        Returns the seconds that the run has left for it, and the message when they are over; None for no limit.

    Attributes
    ----------
    each, total
        Limits in seconds; None for no limit.
    used
        Seconds taken so far, in former attempts too; kept only if there is a total.
    """

    __slots__ = ("each", "outer", "total", "used")

    def __init__(self, task: Task, start: State, outer: Callable[[], tuple[float, str] | None] | None = None) -> None:
        self.outer = outer
        self.each = task.timeout
        self.total = task.total_timeout
        self.used: float = start.context.get(USED, 0.0) if self.total is not None else 0.0

    @property
    def left(self) -> float | None:
        """Seconds for the next call; None for no limit."""
        outer = None if self.outer is None else self.outer()
        rest = None if self.total is None else max(0.0, self.total - self.used)
        limits = (self.each, rest, None if outer is None else max(0.0, outer[0]))
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def spent(self) -> bool:
        """Whether no time is left for another attempt."""
        return (self.total is not None and self.used >= self.total) or self.overrun is not None

    @property
    def overrun(self) -> str | None:
        """The message if the time of the map or of the run is over."""
        outer = None if self.outer is None else self.outer()
        return None if outer is None or outer[0] > 0 else outer[1]

    def carried_by(self, state: State) -> State:
        """Return a state that waits with the time used so far in its context."""
        if self.total is None or not isinstance(state, Scheduled):
            return state
        return state.replace(context={**state.context, USED: self.used})


def allowance_of(ctx: AttemptContext) -> Allowance:
    """Return the time that the body of an attempt may take, by its task and by the run around this thread."""
    time_left = surrounding.get()
    return Allowance(ctx.spec.task, ctx.start, None if time_left is None else partial(time_left, ctx.spec.slug))


class AttemptOverran(BaseException):
    """Raised when code of the user around a body has used up the time of its attempt.

    Attributes
    ----------
    state
        In which the attempt ends; no handler sees it.
    """

    def __init__(self, what: str, limit: float) -> None:
        text = f"Task timed out during execution: {what} did not end within timeout={limit:g} s"
        super().__init__(text)
        self.state = TimedOut(text, TimeoutSignal(text))


def bounded(ctx: AttemptContext, what: str, call: Callable[..., Outcome], /, *args: Any) -> Outcome:
    """Call code of the user around a body, within what is left of the task's `timeout` for it.

    Raises
    ------
    AttemptOverran
        It did not end in time. `what` says what it is.
    """
    limit = ctx.spec.limit
    if limit is None:
        return call(*args)
    left = limit - ctx.hook_seconds
    began = clocks.current.seconds()
    outcome = Error(TimeoutSignal()) if left <= 0 else _called(partial(capture, call, *args), left, ctx)
    ctx.hook_seconds += clocks.current.seconds() - began
    if isinstance(outcome, Value):
        value: Outcome = outcome.value
        return value
    if _timed_out(outcome):
        raise AttemptOverran(what, limit)
    raise outcome.exception


def key_in_time(spec: StepSpec, upstream: Sequence[State], run: Mapping[str, Any], index: int = -1) -> str | None:
    """Return the key of an item as the client asks for it; None if that takes too long, which its attempt tells."""
    try:
        return before_attempt(spec, run, index, "the key of its item", item_key, spec, upstream, run)
    except AttemptOverran:
        return None


def before_attempt(
    spec: StepSpec, run: Mapping[str, Any], index: int, what: str, call: Callable[..., Outcome], /, *args: Any
) -> Outcome:
    """Call code of the user that the client asks before there is an attempt, as `bounded` does."""
    if spec.limit is None:
        return call(*args)
    return bounded(AttemptContext(run, spec, index, _PENDING), what, call, *args)


def is_run_over() -> bool:
    """Whether the run around this thread has no time left."""
    time_left = surrounding.get()
    left = None if time_left is None else time_left("")
    return left is not None and left[0] <= 0


def call_limited(
    ctx: AttemptContext, inputs: dict[str, Any], allowance: Allowance, call: Callable[[], Value | Error]
) -> Value | Error:
    """Call the body of an attempt within its limits, by `call` or, if it is isolated, in a process of its own."""
    limit = allowance.left
    if limit is not None and limit <= 0:
        return _overrun(allowance) or Error(
            TimeoutSignal(f"total_timeout={allowance.total} s was used up by earlier attempts")
        )
    began = clocks.current.seconds()
    task = ctx.spec.task
    if task.isolation == "process":
        from prefectish.engine.worker.isolation.parent import call_isolated

        outcome = call_isolated(ctx, inputs, limit)
        if limit is not None and _timed_out(outcome):
            _log_stopped(ctx, limit)
    else:
        outcome = _called(call, limit, ctx)
    seconds = clocks.current.seconds() - began
    if limit is not None and _timed_out(outcome):
        seconds = max(seconds, limit)  # so that a total that ran out is seen as spent, to the last bit
        outcome = _overrun(allowance) or outcome
    allowance.used += seconds
    return outcome


def _called(call: Callable[[], Value | Error], limit: float | None, ctx: AttemptContext) -> Value | Error:
    if limit is None:
        return call()
    return clocks.current.limited(call, limit, partial(_enforced, call, limit, ctx))


def _enforced(call: Callable[[], Value | Error], limit: float, ctx: AttemptContext) -> Value | Error:
    """Call a body that the system ends at its limit."""
    if _alarm_is_free():
        return _under_alarm(call, limit, ctx)
    return _in_side_thread(call, limit, ctx)


def _overrun(allowance: Allowance) -> Error | None:
    """Return the end of a body whose map, or whose run, has no time left, in the state that its siblings get."""
    text = allowance.overrun
    return None if text is None else Error(ENDRUN(TimedOut(text, TimeoutError(text))))


def _timed_out(outcome: Value | Error) -> bool:
    return type(outcome) is Error and isinstance(outcome.exception, TimeoutSignal)


# -- in a side thread --------------------------------------------------------------------------------------------------


def _in_side_thread(call: Callable[[], Value | Error], limit: float, ctx: AttemptContext) -> Value | Error:
    thread = SideThread(call, f"prefectish-{ctx['task_full_name']}")
    try:
        outcome = thread.wait(limit)
    except BaseException:  # an interrupt
        thread.abandon()
        raise
    if outcome is not None:
        return outcome
    count = thread.abandon()
    if count:
        ctx["logger"].warning(
            "Task %r: timed out after %g s, but its thread still runs; its result will be thrown away. Threads left "
            'behind in this process: %d. With isolation="process" the body would be ended',
            ctx.spec.label_of(ctx.index), limit, count,
        )  # fmt: skip
    else:
        _log_stopped(ctx, limit)
    return Error(TimeoutSignal())


def _log_stopped(ctx: AttemptContext, limit: float) -> None:
    """Warn that a body was ended at its limit."""
    ctx["logger"].warning("Task %r: timed out after %g s and was stopped", ctx.spec.label_of(ctx.index), limit)


# -- by SIGALRM --------------------------------------------------------------------------------------------------------


def _alarm_is_free() -> bool:
    """Whether SIGALRM would reach the body, and is not in use (by a time limit of a flow around this one)."""
    return (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
        and not signal.getitimer(signal.ITIMER_REAL)[0]
    )


class _Alarm:
    """Raises the timeout in the main thread at each signal, as long as the body runs."""

    __slots__ = ("armed", "rang")

    def __init__(self) -> None:
        self.armed = True
        self.rang = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.armed:
            self.rang = True
            raise TimeoutSignal


def _under_alarm(call: Callable[[], Value | Error], limit: float, ctx: AttemptContext) -> Value | Error:
    alarm = _Alarm()
    outcome: Value | Error | None = None
    before = signal.signal(signal.SIGALRM, alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, limit, AGAIN_SECONDS)
        outcome = call()
        alarm.armed = False
    except TimeoutSignal as error:  # it rang between the end of the body and the line above
        outcome = Error(error)
    finally:
        alarm.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert outcome is not None
    if not alarm.rang:
        return outcome
    _log_stopped(ctx, limit)
    # A body that swallowed the signal, or a flow that it ran, may have gone on and returned: too late all the same.
    return outcome if _timed_out(outcome) else Error(TimeoutSignal())
