"""Results that do not travel: what is handed on is how to make them, where they are read.

The result of a secret is one. So is that of an expression, an index or a collection with a secret in it: such a step
only puts its inputs together, and does so again wherever its result is read. What a body of the user's makes of a
secret is data, and travels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prefectish.engine.jobs.envelope import encode
from prefectish.engine.state import Deferred, State
from prefectish.secrets.output_masking import mask_output
from prefectish.tasks.collections import Dict, List, Set, Tuple
from prefectish.tasks.control_flow import Merge
from prefectish.tasks.secrets import SecretBase
from prefectish.tasks.task import Operation, Task

if TYPE_CHECKING:
    from prefectish.engine.worker.attempt_context import AttemptContext

#: Tasks that only put their inputs together.
_DERIVING = (Operation, List, Tuple, Set, Dict, Merge)
#: What only the engine asks of a task; a handler often holds what cannot be pickled.
_ENGINE_ONLY = ("state_handlers", "trigger", "retry_delay", "retry_backoff", "priority")
_UNREAD = object()


class LazySecret(Deferred):
    """A value that is made where it is read, once in each process, and stays there.

    Attributes
    ----------
    function, inputs
        What makes it; each may be a `Deferred` itself.
    label
        The step whose result it is.
    """

    __slots__ = ("_value", "function", "inputs", "label")

    def __init__(self, function: Any, inputs: Mapping[str, Any], label: str) -> None:
        self.function = function
        self.inputs = inputs
        self.label = label
        self._value: Any = _UNREAD

    def get(self) -> Any:
        """Return the value.

        Raises
        ------
        Exception
            Whatever making it raises, a ValueError for a secret that is not known here.
        """
        if self._value is _UNREAD:
            function: Callable[..., Any] = _opened(self.function)
            self._value = function(**{name: _opened(value) for name, value in self.inputs.items()})
        return self._value

    def packed(self, label: str) -> LazySecret:
        """Return it as it crosses a process boundary.

        Raises
        ------
        Exception
            Whatever pickling raised.
        """
        function = _packed(self.function, label)
        return LazySecret(function, {name: _packed(value, label) for name, value in self.inputs.items()}, self.label)

    def __reduce__(self) -> tuple[Any, ...]:
        return LazySecret, (self.function, self.inputs, self.label)

    def __repr__(self) -> str:
        return f"<secret result of {self.label}>"


def _opened(value: Any) -> Any:
    return value.get() if isinstance(value, Deferred) else value


def _packed(value: Any, label: str) -> Any:
    if isinstance(value, LazySecret):
        return value.packed(label)
    return value if isinstance(value, Deferred) else encode(value, label)


def is_deriving(task: Task) -> bool:
    """Whether a task only puts its inputs together, so that it can do so again where its result is read."""
    return isinstance(task, _DERIVING)


def storage_of(task: Task) -> NoStorage | None:
    """Return how the results of a task are handed on that must not travel; None for any other task."""
    return NoStorage() if isinstance(task, SecretBase) else None


class NoStorage:
    """How a secret is kept: not at all. Takes the place of :class:`prefectish.engine.worker.storage.ResultStorage`."""

    __slots__ = ()

    def load_previous(self, ctx: AttemptContext, inputs: dict[str, Any]) -> State | None:
        """Return None: nothing was stored."""
        return None

    def record_outcome(self, ctx: AttemptContext, state: State) -> None:
        """Store nothing of how an attempt ended."""

    def target_state(self, ctx: AttemptContext, inputs: dict[str, Any]) -> State | None:
        """Return None: nothing stands for a run."""
        return None

    def save(self, ctx: AttemptContext, inputs: dict[str, Any], state: State) -> State:
        """Return the state of a successful attempt with the way to its result in the place of it."""
        result = LazySecret(_without_engine_options(ctx.spec.task).get, {}, ctx.spec.label(ctx.index))
        result._value = mask_output(state._result)
        return state.replace(result=result)


def _without_engine_options(task: Any) -> Any:
    bare = object.__new__(type(task))
    bare.__dict__.update(task.__getstate__())
    for name in _ENGINE_ONLY:
        bare.__dict__.pop(name, None)
    return bare
