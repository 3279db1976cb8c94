"""State handlers: functions that see every change of state and may replace the new state.

A handler is called with the task or flow, the old and the new state.  What it returns is the new state
for the next handler; None leaves things as they are.  A handler that raises ends the run of the task at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prefectish.engine.capture import Error, capture
from prefectish.engine.context import get_logger
from prefectish.engine.signals import Signal
from prefectish.engine.state import Failed, State
from prefectish.errors import after_earlier, describe
from prefectish.kinds import is_a

Handler = Callable[[Any, State, State], State | None]


class Transition:
    """The outcome of a proposed change of state."""

    __slots__ = ("aborted", "state")

    def __init__(self, state: State, aborted: bool) -> None:
        self.state = state  # the state after the handlers
        # Whether a handler raised an error or a signal: `state` is then final, and a failure is not retried.
        self.aborted = aborted

    def __repr__(self) -> str:
        return f"Transition({self.state!r}, aborted={self.aborted})"


def call_handlers(obj: Any, handlers: Sequence[Handler], old: State, new: State) -> Transition:
    """Show a change of state of a task or flow to all handlers in order; each sees what the one before made of it."""
    for handler in handlers:
        outcome = capture(handler, obj, old, new)
        if isinstance(outcome, Error):
            return Transition(_after_error(outcome.exception, _error_of(new) or _error_of(old)), aborted=True)
        if is_a(outcome.value, State):
            new = outcome.value
        elif outcome.value is not None:
            earlier = _error_of(new) or _error_of(old)
            return Transition(_after_nonsense(handler, outcome.value, earlier), aborted=True)
    return Transition(new, aborted=False)


def notify_map_ended(task: Any, state: State) -> None:
    """Call the method `map_ended` of handlers that have one with the Mapped state, when all children have ended."""
    for handler in task.state_handlers:
        tell = getattr(handler, "map_ended", None)
        outcome = None if tell is None else capture(tell, task, state)
        if isinstance(outcome, Error):
            get_logger("engine").error("map_ended of %r: %s", handler, describe(outcome.exception))


def _error_of(state: State) -> BaseException | None:
    """Return the error that a state was made of, which a handler must not hide by failing."""
    return state._raw_result if is_a(state._raw_result, BaseException) else None


def _after_error(error: BaseException, earlier: BaseException | None) -> State:
    if isinstance(error, Signal):
        return error.state
    text = f"Unexpected error while calling state handlers: {describe(error)}"
    return Failed(f"{text}{after_earlier(error, earlier)}", error)


#: The error of a handler that returns something else than a state; under `prefectish.compat` an AttributeError, too.
no_state_error: type[Exception] = TypeError


def _after_nonsense(handler: Handler, value: Any, earlier: BaseException | None) -> State:
    name = getattr(handler, "__name__", type(handler).__name__)
    error = no_state_error(f"state handler {name} returned {type(value).__name__}")
    return Failed(f"{error}{after_earlier(error, earlier)}", error)


class _Callback:
    """Calls a function on some states only; a class, so that it can be pickled."""

    __slots__ = ("check", "fn")

    def __init__(self, fn: Callable[[Any, State], Any], check: Callable[[State], bool]) -> None:
        self.fn = fn
        self.check = check

    def __call__(self, obj: Any, old: State, new: State) -> State:
        if self.check(new) is True:
            self.fn(obj, new)
        return new

    def __repr__(self) -> str:
        return f"callback_factory({self.fn!r}, {self.check!r})"


def callback_factory(fn: Callable[[Any, State], Any], check: Callable[[State], bool]) -> Handler:
    """Return a state handler that calls `fn(obj, new_state)` whenever `check(new_state)` is True.

    The new state is always passed on unchanged.

    Examples
    --------
    >>> from prefectish.engine.state import Running, Success
    >>> shout = callback_factory(lambda obj, state: print(f"{obj}: {state}"), lambda state: state.is_finished())
    >>> shout("report", Running(), Success("Task run succeeded."))
    report: Success("Task run succeeded.")
    Success("Task run succeeded.")
    """
    return _Callback(fn, check)


def on_failure_handler(fn: Callable[[Any, State], Any]) -> Handler:
    """Return a state handler that calls `fn(obj, new_state)` on every failure, also one that is retried."""
    return _Callback(fn, State.is_failed)
