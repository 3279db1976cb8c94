"""Time limits of a body, where the body runs.

``timeout`` is for one call of the body: each attempt, and each turn of a loop, has it anew. ``total_timeout`` is for
all calls of one child; the time used so far travels in the context of the state from which the next attempt starts.
Time between attempts does not count, nor do handlers.

How a limit is kept depends on where the body runs:

* ``isolation="process"``: in a process of its own, which is killed (:mod:`prefectish.engine.isolated`).
* In the main thread of a process, as in a local run and in a pool of processes: the system's alarm interrupts it, so
  that Python code and sleeps really stop. Code of an extension stops when it returns to Python.
* Elsewhere, or where somebody else uses the alarm: in a helper thread. The slot returns at the limit, the thread not.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from types import FrameType
from typing import Any

from prefectish.engine.body import call_body
from prefectish.engine.capture import Error, Value
from prefectish.engine.facts import AttemptFacts
from prefectish.engine.helper import Helper
from prefectish.engine.signals import TimeoutSignal
from prefectish.engine.state import Scheduled, State
from prefectish.tasks.task import Task

#: The alarm rings again after so many seconds, for a body that swallowed it, or was where an exception is lost (a
#: ``__del__``); until then the body may clean up.
AGAIN_SECONDS = 5.0
#: Where a state keeps the seconds that bodies of its child used, in its context.
USED = "task_seconds_used"


class Allowance:
    """The time that the bodies of one child may still take.

    Parameters
    ----------
    start : the state that the attempt starts from.

    Attributes
    ----------
    each, total : limits in seconds; None for no limit.
    used : seconds taken so far, in former attempts too; kept only if there is a total.
    """

    __slots__ = ("each", "total", "used")

    def __init__(self, task: Task, start: State) -> None:
        self.each = task.timeout
        self.total = task.total_timeout
        self.used: float = start.context.get(USED, 0.0) if self.total is not None else 0.0

    @property
    def left(self) -> float | None:
        """Seconds for the next call; None for no limit."""
        if self.total is None:
            return self.each
        rest = max(0.0, self.total - self.used)
        return rest if self.each is None else min(rest, self.each)

    @property
    def spent(self) -> bool:
        """Whether the total is used up, so that there is no time for another attempt."""
        return self.total is not None and self.used >= self.total

    def carried_by(self, state: State) -> State:
        """Return a state that waits with the time used so far in its context."""
        if self.total is None or not isinstance(state, Scheduled):
            return state
        return state.replace(context={**state.context, USED: self.used})


def call_limited(facts: AttemptFacts, inputs: dict[str, Any], allowance: Allowance) -> Value | Error:
    """Call the body of an attempt as :func:`call_body` does, but within its limits and in the process it asks for."""
    if not facts.spec.task.log_stdout:
        return _limited(facts, inputs, allowance)
    from prefectish.engine.prints import logged_prints

    with logged_prints(facts["logger"]):
        return _limited(facts, inputs, allowance)


def _limited(facts: AttemptFacts, inputs: dict[str, Any], allowance: Allowance) -> Value | Error:
    limit = allowance.left
    if limit is not None and limit <= 0:
        return Error(TimeoutSignal(f"total_timeout={allowance.total} s was used up by earlier attempts"))
    began = monotonic()
    task = facts.spec.task
    if task.isolation == "process":
        from prefectish.engine.isolated import call_isolated

        outcome = call_isolated(facts, inputs, limit)
        if limit is not None and _timed_out(outcome):
            _log_stopped(facts, limit)
    else:
        outcome = _called(partial(call_body, task, inputs), limit, facts)
    seconds = monotonic() - began
    if limit is not None and _timed_out(outcome):
        seconds = max(seconds, limit)  # so that a total that ran out is seen as spent, to the last bit
    allowance.used += seconds
    return outcome


def _called(call: Callable[[], Value | Error], limit: float | None, facts: AttemptFacts) -> Value | Error:
    if limit is None:
        return call()
    if _alarm_is_free():
        return _under_alarm(call, limit, facts)
    return _in_helper(call, limit, facts)


def _timed_out(outcome: Value | Error) -> bool:
    return type(outcome) is Error and isinstance(outcome.exception, TimeoutSignal)


# -- by a helper thread ------------------------------------------------------------------------------------------------


def _in_helper(call: Callable[[], Value | Error], limit: float, facts: AttemptFacts) -> Value | Error:
    helper = Helper(call, f"prefectish-{facts['task_full_name']}")
    try:
        outcome = helper.wait(limit)
    except BaseException:  # an interrupt
        helper.leave()
        raise
    if outcome is not None:
        return outcome
    count = helper.leave()
    if count:
        facts["logger"].warning(
            "Task %r: timed out after %g s, but its thread still runs; its result will be thrown away. Threads left "
            'behind in this process: %d. With isolation="process" the body would be ended',
            facts["task_full_name"], limit, count,
        )  # fmt: skip
    else:
        _log_stopped(facts, limit)
    return Error(TimeoutSignal())


def _log_stopped(facts: AttemptFacts, limit: float) -> None:
    """Warn that a body was ended at its limit."""
    facts["logger"].warning("Task %r: timed out after %g s and was stopped", facts["task_full_name"], limit)


# -- by the system's alarm ---------------------------------------------------------------------------------------------


def _alarm_is_free() -> bool:
    """Whether an alarm would reach the body, and nobody else waits for one (a limit of a flow that runs this one)."""
    return (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
        and not signal.getitimer(signal.ITIMER_REAL)[0]
    )


class _Alarm:
    """Raises the timeout in the main thread whenever it rings, while the body runs and not a moment later."""

    __slots__ = ("armed", "rang")

    def __init__(self) -> None:
        self.armed = True
        self.rang = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.armed:
            self.rang = True
            raise TimeoutSignal


def _under_alarm(call: Callable[[], Value | Error], limit: float, facts: AttemptFacts) -> Value | Error:
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
    _log_stopped(facts, limit)
    # A body that swallowed the signal, or a flow that it ran, may have gone on and returned: too late all the same.
    return outcome if _timed_out(outcome) else Error(TimeoutSignal())
