"""Options of a call in a flow function, beside its arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class CallOptions:
    """Options of a call, beside its arguments.

    Parameters
    ----------
    wait_for
        Futures that must have ended before.
    return_state
        The call gives the state, whatever it is.
    allow_failure
        Failures of what it reads or waits for do not keep it from running; and its own failure is given as its state,
        and not raised.
    task_args
        Options of the task for this call.
    """

    __slots__ = ("allow_failure", "return_state", "task_args", "wait_for")

    def __init__(
        self,
        wait_for: Iterable[Any] = (),
        return_state: bool = False,
        allow_failure: bool = False,
        task_args: Mapping[str, Any] | None = None,
    ) -> None:
        self.wait_for = wait_for
        self.return_state = return_state
        self.allow_failure = allow_failure
        self.task_args = task_args

    @property
    def returns_state(self) -> bool:
        """Whether a failure is given as a state."""
        return self.return_state or self.allow_failure
