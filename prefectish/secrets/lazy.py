"""Results that are never transferred: a recipe is sent instead, and the value is computed where it is read.

The result of a secret is one. So is the result of an expression, an index or a collection with a secret: such a step
only combines its inputs, and does so again where its result is read. The result of a task function that uses a
secret is ordinary data and is transferred.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from prefectish.engine.deferred import Deferred
from prefectish.engine.jobs.envelope import encode
from prefectish.engine.state import State
from prefectish.kinds import is_a
from prefectish.secrets.output_masking import mask_output
from prefectish.tasks.collections import Dict, List, Set, Tuple
from prefectish.tasks.control_flow import Merge
from prefectish.tasks.secrets import SecretBase
from prefectish.tasks.task import Operation, Task

#: Tasks that only combine their inputs.
_DERIVING = (Operation, List, Tuple, Set, Dict, Merge)
#: Options that only the engine reads; handlers often hold objects that cannot be pickled.
_ENGINE_ONLY = ("state_handlers", "trigger", "retry_delay", "retry_backoff", "priority", "resources", "workers")
_UNREAD = object()


class LazySecret(Deferred):
    """A value that is computed where it is read, once in each process."""

    __slots__ = ("_value", "function", "inputs", "label")

    def __init__(self, function: Any, inputs: Mapping[str, Any], label: str) -> None:
        # What computes it; each may be a `Deferred` itself.
        self.function = function
        self.inputs = inputs
        self.label = label  # the step that it is the result of
        self._value: Any = _UNREAD

    def get(self) -> Any:
        """Return the value; raise what the function raises, such as ValueError for a secret unknown in this process."""
        if self._value is _UNREAD:
            function: Callable[..., Any] = _opened(self.function)
            self._value = function(**{name: _opened(value) for name, value in self.inputs.items()})
        return self._value

    def packed(self, label: str) -> LazySecret:
        """Return a copy that can be sent to another process; raise whatever pickling raises."""
        function = _packed(self.function, label)
        return LazySecret(function, {name: _packed(value, label) for name, value in self.inputs.items()}, self.label)

    def __reduce__(self) -> tuple[Any, ...]:
        return LazySecret, (self.function, self.inputs, self.label)

    def __repr__(self) -> str:
        return f"<secret result of {self.label}>"


def _opened(value: Any) -> Any:
    return value.get() if is_a(value, Deferred) else value


def _packed(value: Any, label: str) -> Any:
    if is_a(value, LazySecret):
        return value.packed(label)
    return value if is_a(value, Deferred) else encode(value, label)


def is_deriving(task: Task) -> bool:
    """Whether a task only combines its inputs, so that its result can be recomputed where it is read."""
    return isinstance(task, _DERIVING)


def storage_of(task: Task) -> NoStorage | None:
    """Return the storage for a task whose results must not be transferred; None for any other task."""
    return NoStorage() if isinstance(task, SecretBase) else None


class SecretAttempt(Protocol):
    """What is read of the context of an attempt."""

    spec: Any
    index: int


class NoStorage:
    """Storage of secrets, which stores nothing; replaces :class:`prefectish.engine.worker.storage.ResultStorage`."""

    __slots__ = ()

    def load_previous(self, ctx: SecretAttempt, inputs: dict[str, Any]) -> State | None:
        """Return None: nothing was stored."""
        return None

    def record_outcome(self, ctx: SecretAttempt, state: State) -> None:
        """Do nothing."""

    def target_state(self, ctx: SecretAttempt, inputs: dict[str, Any]) -> State | None:
        """Return None: a secret has no target."""
        return None

    def save(self, ctx: SecretAttempt, inputs: dict[str, Any], state: State) -> State:
        """Replace the result of a successful attempt by a `LazySecret`."""
        result = LazySecret(_without_engine_options(ctx.spec.task).get, {}, ctx.spec.label_of(ctx.index))
        result._value = mask_output(state._raw_result)
        return state.replace(result=result)


def _without_engine_options(task: Any) -> Any:
    copy = object.__new__(type(task))
    copy.__dict__.update(task.__getstate__())
    for name in _ENGINE_ONLY:
        copy.__dict__.pop(name, None)
    return copy
