"""What can be said of a task or a flow at one moment.

A state is a frozen value: it is replaced, never changed.  Two states are equal if they have the same
exact class, result and public attributes; the message and the context are remarks and do not count.
What may follow what is the table of :mod:`prefectish.engine.transitions`.

    State
    ├── Pending
    │   └── Scheduled
    │       ├── Retrying
    │       ├── Paused
    │       ├── Resume
    │       └── Queued
    ├── Submitted
    ├── Running
    │   └── Cancelling
    └── Finished
        ├── Success
        │   ├── Cached
        │   ├── Skipped
        │   └── Mapped
        ├── Looped
        ├── Cancelled
        └── Failed
            ├── TriggerFailed
            ├── TimedOut
            ├── ValidationFailed
            └── Crashed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, overload

from prefectish.callable_pickling import portable_class
from prefectish.engine import clock as clocks
from prefectish.engine.capture import same_value, sound_message
from prefectish.engine.context import current
from prefectish.engine.deferred import Deferred
from prefectish.engine.state_column import SUCCEEDED, StateColumn
from prefectish.engine.task_counts import TASK_NAME
from prefectish.engine.task_states import Readable
from prefectish.exception_pickling import PickledException, traceback_of
from prefectish.missing_names import lead_out
from prefectish.safe_repr import printable
from prefectish.source_lines import name_cells


class State(Readable):
    """The state of a task or a flow; base class of all states.

    Parameters
    ----------
    message
        A remark for the reader; any object, an exception too.
    result
        What the task returned or raised, or a `Deferred` that fetches it.
    context
        Values that describe the run in which the state arose.
    cached_inputs
        The inputs of the task by name, for a later run that starts from this state.
    """

    __slots__ = ("_cached_inputs", "_context", "_raw_result", "message")

    color: ClassVar[str] = "#59646f"
    _slots: ClassVar[tuple[str, ...]] = ("message", "_raw_result", "_context", "_cached_inputs")
    _public: ClassVar[tuple[str, ...]] = ("cached_inputs",)

    message: Any
    _raw_result: Any
    _context: dict[str, Any] | None
    _cached_inputs: dict[str, Any] | None

    def __init__(
        self,
        message: Any = None,
        result: Any = None,
        *,
        context: Mapping[str, Any] | None = None,
        cached_inputs: Mapping[str, Any] | None = None,
    ) -> None:
        _set_message(self, message if message is None or type(message) is str else sound_message(message))
        _set_result(self, result)
        if tags := current().get("task_tags"):
            context = {"tags": list(tags), **(context or {})}
        _set_context(self, dict(context) if context else None)
        _set_cached_inputs(self, dict(cached_inputs) if cached_inputs else None)

    def __init_subclass__(cls, public: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = cls.__dict__.get("__slots__", ())
        cls._slots = (*cls._slots, *own)
        cls._public = (*cls._public, *public)

    @property
    def result(self) -> Any:
        """Return the result; a deferred one is fetched."""
        result = self._raw_result
        return result.get() if issubclass(type(result), Deferred) else result

    @property
    def context(self) -> dict[str, Any]:
        """Return values that describe the run in which the state arose."""
        return {} if self._context is None else self._context

    @property
    def cached_inputs(self) -> dict[str, Any]:
        """Return the inputs kept for a later run, by name."""
        return {} if self._cached_inputs is None else self._cached_inputs

    @property
    def exit_code(self) -> int:
        """Return the exit code of a program that ends with this state."""
        if (known := self.context.get("exit_code")) is not None:
            return int(known)
        if isinstance(self, Success):
            return 0
        if isinstance(self, Failed):
            return 3 if isinstance(self, Crashed) else 1
        return 6 if isinstance(self, Cancelled) else 5

    def why_not_cached(self) -> str | None:
        """Say why a task with a cache had to run; None for one that did not, or has no cache."""
        reason: str | None = self.context.get("why_not_cached")
        return reason

    def replace(self, **changes: Any) -> Self:
        """Return a state of the same class that differs in the keywords given.

        Raises
        ------
        TypeError
            If the class has no such keyword.
        """
        own = {name.removeprefix("_raw").removeprefix("_"): getattr(self, name) for name in self._slots}
        return type(self)(**{**own, **changes})

    def is_pending(self) -> bool:
        """Tell whether it has not started."""
        return isinstance(self, Pending)

    def is_scheduled(self) -> bool:
        """Tell whether it waits for a time."""
        return isinstance(self, Scheduled)

    def is_retrying(self) -> bool:
        """Tell whether it waits for another attempt."""
        return isinstance(self, Retrying)

    def is_queued(self) -> bool:
        """Tell whether it waits for a free place."""
        return isinstance(self, Queued)

    def is_submitted(self) -> bool:
        """Tell whether it was handed over, to be run elsewhere."""
        return isinstance(self, Submitted)

    def is_running(self) -> bool:
        """Tell whether it runs."""
        return isinstance(self, Running)

    def is_finished(self) -> bool:
        """Tell whether it has ended, in whatever way."""
        return isinstance(self, Finished)

    def is_successful(self) -> bool:
        """Tell whether it ended well; a skipped task did."""
        return isinstance(self, Success)

    def is_cached(self) -> bool:
        """Tell whether its result is kept for, or comes from, another run."""
        return isinstance(self, Cached)

    def is_skipped(self) -> bool:
        """Tell whether it was left out on purpose."""
        return isinstance(self, Skipped)

    def is_mapped(self) -> bool:
        """Tell whether it is the parent of mapped children."""
        return isinstance(self, Mapped)

    def is_looped(self) -> bool:
        """Tell whether one turn of a loop has ended."""
        return isinstance(self, Looped)

    def is_failed(self) -> bool:
        """Tell whether it ended badly."""
        return isinstance(self, Failed)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other):
            return NotImplemented if not isinstance(other, State) else False
        return same_value(self.result, other.result) and all(
            same_value(getattr(self, name), getattr(other, name)) for name in self._public
        )

    def __hash__(self) -> int:
        try:
            return hash((type(self), self.result))
        except Exception:  # the hash of a result is the user's code
            return hash(type(self))

    def __repr__(self) -> str:
        quoted = "" if self.message is None or self.message == "" else f'"{printable(self.message)}"'
        text, name, counts = f"{type(self).__name__}({quoted})", self.context.get(TASK_NAME), self.counts()
        text = f"{text} of {printable(name)}" if name else text
        return text if counts is None or counts.is_clean or not counts.items else f"{text}: {counts.text()}"

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen; write state.replace({name}=...)")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name!r} cannot be deleted")

    def __copy__(self) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (portable_class(type(self)), self._packed()), getattr(self, "__dict__", None) or None

    def _packed(self) -> dict[str, Any]:
        packed = {name: value for name in self._slots if (value := getattr(self, name)) is not None}
        for name, value in packed.items():
            if issubclass(type(value), BaseException):
                packed[name] = PickledException(value)
        return packed


# The setters of the slots are the quickest way past `__setattr__`, and a state is made for every child.
_set_message, _set_result, _set_context, _set_cached_inputs = (State.__dict__[name].__set__ for name in State._slots)
_set = object.__setattr__


class Pending(State):
    """Has not started."""

    __slots__ = ()
    color = "#d3d3d3"


class Scheduled(Pending, public=("start_time",)):
    """Waits for a time.

    Parameters
    ----------
    start_time
        When it may start, with a time zone; now, if left out.

    Raises
    ------
    ValueError
        If `start_time` has no time zone.
    TypeError
        If it is not a datetime.
    """

    __slots__ = ("start_time",)
    color = "#ffab00"
    start_time: datetime | None

    def __init__(
        self, message: Any = None, result: Any = None, *, start_time: datetime | None = None, **common: Any
    ) -> None:
        if (run_count := current().get("task_run_count")) is not None:
            common["context"] = {"task_run_count": run_count, **(common.get("context") or {})}
        super().__init__(message, result, **common)
        _set(self, "start_time", self._checked(start_time))

    @classmethod
    def _checked(cls, start_time: datetime | None) -> datetime | None:
        if start_time is None:
            return cls._default_start_time()
        if not isinstance(start_time, datetime):
            raise TypeError(f"{cls.__name__}: start_time must be a datetime, got {start_time!r}")
        has_zone = start_time.utcoffset() is not None
        return start_time if has_zone else clocks.zoned(start_time, f"{cls.__name__}: start_time")

    @classmethod
    def _default_start_time(cls) -> datetime | None:
        return clocks.now()


class Retrying(Scheduled, public=("run_count",)):
    """Waits for another attempt.

    Parameters
    ----------
    run_count
        The number of the attempt that has just failed, from 1; taken from the context, if left out.
    """

    __slots__ = ("run_count",)
    color = "#ff5131"
    run_count: int

    def __init__(self, message: Any = None, result: Any = None, *, run_count: int | None = None, **common: Any) -> None:
        super().__init__(message, result, **common)
        _set(self, "run_count", current().get("task_run_count") or 1 if run_count is None else run_count)


class Paused(Scheduled):
    """Waits until it is resumed or, if it has a start time, until then."""

    __slots__ = ()
    color = "#bd83e6"

    @classmethod
    def _default_start_time(cls) -> datetime | None:
        return None


class Resume(Scheduled):
    """Was paused and may continue."""

    __slots__ = ()
    color = "#00e5ff"


class Queued(Scheduled, public=("state",)):
    """Waits for a free slot.

    Parameters
    ----------
    state
        The state in which it waits.
    """

    __slots__ = ("state",)
    color = "#ffd54f"
    state: State | None

    def __init__(self, message: Any = None, result: Any = None, *, state: State | None = None, **common: Any) -> None:
        super().__init__(message, result, **common)
        _set(self, "state", innermost(state))


class Submitted(State, public=("state",)):
    """Was submitted, to run elsewhere.

    Parameters
    ----------
    state
        The state in which it was handed over.
    """

    __slots__ = ("state",)
    color = "#ffecb3"
    state: State | None

    def __init__(self, message: Any = None, result: Any = None, *, state: State | None = None, **common: Any) -> None:
        super().__init__(message, result, **common)
        _set(self, "state", innermost(state))


class Running(State):
    """Runs."""

    __slots__ = ()
    color = "#3d67ff"


class Cancelling(Running):
    """Still runs, but was asked to end."""

    __slots__ = ()
    color = "#6c5b7b"


class Finished(State):
    """Has ended."""

    __slots__ = ()
    color = "#ba68c8"


class Looped(Finished, public=("loop_count",)):
    """Has ended one turn of a loop; the result is passed to the next.

    Parameters
    ----------
    loop_count
        The number of the turn, from 1; taken from the context, if left out.
    """

    __slots__ = ("loop_count",)
    color = "#e5a00d"
    loop_count: int

    def __init__(
        self, message: Any = None, result: Any = None, *, loop_count: int | None = None, **common: Any
    ) -> None:
        super().__init__(message, result, **common)
        _set(self, "loop_count", current().get("task_loop_count") or 1 if loop_count is None else loop_count)


class Cancelled(Finished):
    """Was ended, or never started, on request: neither a success nor a failure."""

    __slots__ = ()
    color = "#f5a9b8"


class Success(Finished):
    """Ended well."""

    __slots__ = ()
    color = "#27b558"


def plain_success(result: Any) -> Success:
    """Return the state of a task that ended as most do, whatever the task is that asks."""
    state = Success.__new__(Success)
    _set_message(state, SUCCEEDED)
    _set_result(state, result)
    _set_context(state, None)
    _set_cached_inputs(state, None)
    return state


#: A result of these is kept in its state: it could be taken for that of the child, or pickles only with it.
_NO_CELLS = (State, BaseException)


def cell_of(state: State) -> Any:
    """Return what a `StateColumn` keeps of a state: of a plain success its result, else the state."""
    if type(state) is not Success or state._context is not None or state._cached_inputs is not None:
        return state
    is_plain = type(state.message) is str and state.message == SUCCEEDED
    return state._raw_result if is_plain and not issubclass(type(state._raw_result), _NO_CELLS) else state


def plain_cells(results: list[Any]) -> list[Any]:
    """Return what a `StateColumn` keeps of plain successes with these results: the same list, if it can."""
    has_others = any(issubclass(kind, _NO_CELLS) for kind in set(map(type, results)))
    return [cell_of(plain_success(result)) for result in results] if has_others else results


StateColumn.success, StateColumn.cell_of = plain_success, cell_of


class Cached(Success, public=("hashed_inputs", "cached_parameters", "cached_result_expiration")):
    """Ended well, and the result is kept for other runs or comes from one.

    Parameters
    ----------
    hashed_inputs
        Stands for the inputs that led to the result.
    cached_parameters
        The parameters of the run that led to it.
    cached_result_expiration
        When the result goes stale, with a time zone; never, if None.
    """

    __slots__ = ("cached_parameters", "cached_result_expiration", "hashed_inputs")
    color = "#34d058"
    hashed_inputs: Any
    cached_parameters: dict[str, Any] | None
    cached_result_expiration: datetime | None

    def __init__(
        self,
        message: Any = None,
        result: Any = None,
        *,
        hashed_inputs: Any = None,
        cached_parameters: dict[str, Any] | None = None,
        cached_result_expiration: datetime | None = None,
        **common: Any,
    ) -> None:
        super().__init__(message, result, **common)
        _set(self, "hashed_inputs", hashed_inputs)
        _set(self, "cached_parameters", cached_parameters)
        _set(self, "cached_result_expiration", clocks.with_zone(cached_result_expiration))


class Skipped(Success):
    """Was left out on purpose, which counts as a success."""

    __slots__ = ()
    color = "#62757f"


class Mapped(Success, public=("map_states", "n_map_states")):
    """Stands for all children of a mapped task; successful whatever became of them.

    Parameters
    ----------
    map_states
        The states of the children in map order; None for a child of which nothing is known.
    n_map_states
        How many children there are; the length of `map_states`, if 0 or left out.
    """

    __slots__ = ("_n_map_states", "map_states")
    color = "#97ffee"
    map_states: Sequence[State | None]
    _n_map_states: int | None

    def __init__(
        self,
        message: Any = None,
        result: Any = None,
        *,
        map_states: Sequence[State | None] | None = None,
        n_map_states: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(message, result, **common)
        _set(self, "map_states", [] if map_states is None else map_states)
        _set(self, "_n_map_states", n_map_states or None)

    @property
    def n_map_states(self) -> int:
        """Return the number of children."""
        return self._n_map_states or len(self.map_states)

    @property
    def result(self) -> Any:
        """Return the results of the children in map order; None for a child of which nothing is known."""
        if self._raw_result is not None:
            return super().result
        states = self.map_states
        known = states.results() if type(states) is StateColumn else [None if s is None else s.result for s in states]
        return known + [None] * (self.n_map_states - len(known))


class Failed(Finished):
    """Ended badly; the result is the exception.

    Parameters
    ----------
    traceback
        The text of the traceback, if the exception does not carry it.
    """

    __slots__ = ("_traceback",)
    color = "#eb0000"
    _traceback: str | None

    def __init__(self, message: Any = None, result: Any = None, *, traceback: str | None = None, **common: Any) -> None:
        super().__init__(message, result, **common)
        _set(self, "_traceback", traceback)

    @property
    def traceback(self) -> str | None:
        """Return the text of the traceback, causes included, or None if there never was one."""
        text = self._traceback or traceback_of(self._raw_result)
        return None if text is None else name_cells(text)

    def _packed(self) -> dict[str, Any]:
        packed = super()._packed()
        if (text := self.traceback) is not None:
            # An exception loses its traceback and its causes on the way; the text goes along.
            packed["_traceback"] = text
        return packed


class TriggerFailed(Failed):
    """Did not run, because its trigger did not allow it."""

    __slots__ = ()
    color = "#f58c0c"


class TimedOut(Failed):
    """Took longer than it may."""

    __slots__ = ()
    color = "#cf3c00"


class ValidationFailed(Failed):
    """Ran, but what it returned is not acceptable."""

    __slots__ = ()
    color = "#a11500"


class Crashed(Failed, public=("cause", "evidence")):
    """Was lost with the infrastructure under it; no fault of the task's code is implied.

    Parameters
    ----------
    cause
        What went away, in one word such as `killed-worker` or `scheduler-lost`.
    evidence
        What is known about it.
    """

    __slots__ = ("cause", "evidence")
    color = "#8b0a50"
    cause: str | None
    evidence: dict[str, Any] | None

    def __init__(
        self,
        message: Any = None,
        result: Any = None,
        *,
        cause: str | None = None,
        evidence: dict[str, Any] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(message, result, **common)
        _set(self, "cause", cause)
        _set(self, "evidence", evidence)


@overload
def innermost(state: State) -> State: ...
@overload
def innermost(state: None) -> None: ...
def innermost(state: State | None) -> State | None:
    """Return the ordinary state inside states that wrap another."""
    while isinstance(state, Queued | Submitted) and state.state is not None:
        state = state.state
    return state


_Parcel = PickledException  # the former name, in stored states


def _restored(cls: type[State], packed: dict[str, Any]) -> State:
    state = cls.__new__(cls)
    traceback = packed.get("_traceback")
    if "_result" in packed:  # the former name, in stored states
        packed["_raw_result"] = packed.pop("_result")
    for name in cls._slots:
        value = packed.get(name)
        _set(state, name, value.opened(traceback) if type(value) is PickledException else value)
    return state


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Return the table of transitions or its question, which stood in this module: a former name."""
        if name in ("TRANSITIONS", "allowed"):
            from importlib import import_module

            return getattr(import_module(f"{__package__}.transitions"), name)
        lead_out(__name__)(name)
