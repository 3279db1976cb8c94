"""Exceptions by which a task names its own state.

They derive from `BaseException`, so that `except Exception` in a task does not swallow them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from prefectish.engine.state import (
    Failed,
    Looped,
    Paused,
    Retrying,
    Skipped,
    State,
    Success,
    TimedOut,
    TriggerFailed,
    ValidationFailed,
)
from prefectish.missing_names import lead_out


class Signal(BaseException):
    """Base class of all signals; `state` is the state that a signal requests, `Failed` if none is given."""

    state: State

    def __init__(self, message: Any = None, state: State | None = None) -> None:
        super().__init__(*(() if message is None else (message,)))
        self.state = Failed(message, self) if state is None else state

    def __reduce__(self) -> tuple[Any, ...]:
        hung = {name: value for name, value in self.__dict__.items() if name != "state"}
        own = self.state._raw_result is self
        state = self.state.replace(result=None) if own else self.state
        return _restored, (type(self), self.args, state, own), hung or None


class StateSignal(Signal):
    """Requests a state of one class.

    Parameters
    ----------
    message
        The message of the state.
    **keywords
        What else the class of the state takes; the result is the signal itself, if left out.

    Raises
    ------
    TypeError
        If the class of the state does not know a keyword.
    """

    state_class: ClassVar[type[State]] = State

    def __init__(self, message: Any = None, **keywords: Any) -> None:
        super().__init__(message, self.state_class(message, **{"result": self, **keywords}))


class FAIL(StateSignal):
    """Ends the task in `Failed`; retries are made as after any other error."""

    state_class = Failed


class TRIGGERFAIL(FAIL):
    """Ends the task in `TriggerFailed`, as a trigger does that does not let it run."""

    state_class = TriggerFailed


class VALIDATIONFAIL(FAIL):
    """Ends the task in `ValidationFailed`: it ran, but what it made is not acceptable."""

    state_class = ValidationFailed


class SUCCESS(StateSignal):
    """Ends the task in `Success`; give `result=`, or what follows gets the signal as its input."""

    state_class = Success


class RETRY(StateSignal):
    """Runs the task again, at once or at `start_time=`."""

    state_class = Retrying


class SKIP(StateSignal):
    """Ends the task in `Skipped`, which counts as a success; tasks after it are skipped too.

    Those with ``skip_on_upstream_skip=False`` run, with the signal as their input unless it has a `result=`.
    """

    state_class = Skipped


class PAUSE(StateSignal):
    """Pauses the task until it is resumed or, if given, until `start_time=`."""

    state_class = Paused


class LOOP(StateSignal):
    """Runs the task again with `result=` in the context as `task_loop_result`."""

    state_class = Looped

    def __init__(self, message: Any = None, **keywords: Any) -> None:
        BaseException.__init__(self, *(() if message is None else (message,)))
        super().__init__(message, **{"result": repr(self), **keywords})


class ENDRUN(Signal):
    """Ends the run of the task in a state.

    Parameters
    ----------
    state
        The state to end in, as if the body had returned it.
    """

    def __init__(self, state: State) -> None:
        if not isinstance(state, State):
            raise TypeError(f"ENDRUN takes the state to end in, got {state!r}")
        super().__init__(state.message, state)


class TimeoutSignal(Signal):
    """Raised in a body that exceeds its time limit."""

    def __init__(self, message: Any = "Task timed out during execution.") -> None:
        super().__init__(message, TimedOut(message, self))


_BY_STATE: dict[type[State], type[StateSignal]] = {
    signal.state_class: signal for signal in (FAIL, TRIGGERFAIL, VALIDATIONFAIL, SUCCESS, RETRY, SKIP, PAUSE, LOOP)
}


def signal_from_state(state: State) -> type[StateSignal]:
    """Return the class of the signal that requests a state of exactly this class.

    Raises
    ------
    ValueError
        If there is none.
    """
    try:
        return _BY_STATE[type(state)]
    except KeyError:
        known = ", ".join(sorted(cls.__name__ for cls in _BY_STATE))
        raise ValueError(f"no signal asks for {type(state).__name__}; there are signals for {known}") from None


def _restored(cls: type[Signal], args: tuple[Any, ...], state: State, own: bool) -> Signal:
    signal = cls.__new__(cls, *args)
    signal.args = args
    signal.state = state.replace(result=signal) if own else state
    return signal


if not TYPE_CHECKING:
    __getattr__ = lead_out(__name__)
