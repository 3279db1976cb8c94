"""What a task answers when it is used as if it were its result, which is not known while the flow is built.

Each refusal says where the value is. Comparing and formatting are not errors in Python, so they are warned of, where
the line of the user says so: the engine compares tasks, too.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

from prefectish.engine.context import current
from prefectish.missing_names import missing_attribute
from prefectish.validation import did_you_mean

if TYPE_CHECKING:
    from types import FrameType


class NotAValue:
    """Mixin of tasks: uses of a task as a value are refused, or warned of, with the way out."""

    name: str

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} has no truth value while the flow is built, so `if`, `and`, `or` and `not` cannot "
            f"use it; use and_, or_ and not_, or branch with case(...) or in a task"
        )

    def _refusal(self, what: str, used: str) -> TypeError:
        return TypeError(
            f"{self!r} is a task: while the flow is built it has no result yet, and so is {what}"
            f"; call {used} in a task that takes it: task({used if used.isidentifier() else 'function'})({self.name})"
        )

    if not TYPE_CHECKING:  # type checkers refuse these by themselves, and tell a task from a list by them

        def __len__(self) -> NoReturn:
            raise self._refusal("no length", "len")

        def __float__(self) -> NoReturn:
            raise self._refusal("not a number", "float")

        def __int__(self) -> NoReturn:
            raise self._refusal("not a number", "int")

        def __index__(self) -> NoReturn:
            raise self._refusal("not a number", "range")

        def __contains__(self, item: object) -> NoReturn:
            raise self._refusal("no members", "the test")

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):  # a property raised an AttributeError of its own, and does so again
                return object.__getattribute__(self, name)
            raise missing_attribute(self, "task", name, lambda: _otherwise(self, name))

    def __eq__(self, other: object) -> bool:
        if self is not other and _is_open() and is_written(sys._getframe(1)):
            text = f"{self!r} == {other!r} compares the task, not its result, and is always False; "
            warnings.warn(f"{text}use .is_equal(...), or compare in a task", stacklevel=2)
        return self is other

    __hash__ = object.__hash__

    def __format__(self, how: str) -> str:
        if _is_open() and not _is_ours(sys._getframe(1)):
            text = f"a string was made of {self!r}, not of its result, which is not known while the flow is built; "
            warnings.warn(f"{text}format it in a task", stacklevel=2)
        return format(repr(self), how)


def _otherwise(of: NotAValue, name: str) -> str:
    """Return what to write in place of a name that a task does not have: one of its own, or that of its result."""
    if near := did_you_mean(name, (each for each in dir(of) if not each.startswith("_"))):
        return near
    own = of.__dict__.get("name", "the task")
    return (
        f": {own!r} is a task, and what it returns is "
        f"not known while the flow is built; use .{name} in a task that takes it"
    )


class ResultOption:
    """The option `result` of a task; read from a task in an open flow, the return value may be meant."""

    def __get__(self, task: Any, owner: type | None = None) -> Any:
        if task is None:
            return None
        store = task.__dict__.get("result")
        if store is None and _is_open() and not _is_ours(sys._getframe(1)):
            text = f"{task.name}.result is where results are stored, not what the task returns; "
            warnings.warn(f"{text}read it when the flow has run: state[{task.name!r}].result", stacklevel=2)
        return store

    def __set__(self, task: Any, store: Any) -> None:
        task.__dict__["result"] = store


def _is_open() -> bool:
    """Whether a flow is being built."""
    return current().get("flow") is not None


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    return (
        isinstance(name, str) and name.partition(".")[0] == "prefectish" and not name.startswith("prefectish.examples")
    )


def is_written(frame: FrameType) -> bool:
    """Whether the line itself says ``==`` or ``!=``: looking for a task in a list compares, too."""
    if _is_ours(frame):
        return False
    import opcode

    return opcode.opname[frame.f_code.co_code[frame.f_lasti]] == "COMPARE_OP"
