"""Options of a call in a flow function, beside its arguments."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, NamedTuple

#: What holds several things to wait for; anything else is one, also a map, which is a sequence.
_SEVERAL = (list, tuple, set, frozenset, deque, KeysView, ValuesView, Iterator)


class CallOptions(NamedTuple):
    """Options of a call, beside its arguments."""

    #: Futures that must have ended before.
    wait_for: Iterable[Any] = ()
    #: Whether the call gives the state, whatever it is.
    return_state: bool = False
    #: Whether it runs even if something that it reads or waits for failed; its own failure is given as its state then.
    allow_failure: bool = False
    #: Options of the task for this call.
    task_args: Mapping[str, Any] | None = None
    #: Whether the call itself asks for the state: `submit` and `map` wait then, and give it in place of a future.
    waits_for_state: bool = False

    @property
    def returns_state(self) -> bool:
        """Whether a failure is given as a state."""
        return self.return_state or self.allow_failure


def options_of_call(
    task: Any,
    wait_for: Iterable[Any] | None,
    return_state: bool | None,
    allow_failure: bool,
    task_args: Mapping[str, Any] | None,
) -> CallOptions:
    """Return the options of a call of a task, which says whether its calls return states by default."""
    wants_state = task.return_state if return_state is None else return_state
    return CallOptions(several(wait_for), bool(wants_state), allow_failure, task_args, bool(return_state))


def several(tasks: Any) -> Iterable[Any]:
    """Return what to wait for as an iterable; a single task or future becomes a list."""
    if tasks is None:
        return ()
    return list(tasks) if isinstance(tasks, _SEVERAL) else [tasks]
