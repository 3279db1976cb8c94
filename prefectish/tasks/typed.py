"""What type checkers know of calls of tasks; nothing here is looked at while a flow is built or runs.

A body that takes an `A` may be given, in a call, an `A`, a task that returns one, a wrapper, or a collection with tasks
in it; in `.map`, something of which each item is an `A`. The result of a call is a `Task` of what the body returns, and
that of `.map` a `Task` of a list of it: so the next task is checked against it, mapped or not.

Positional arguments are checked, up to four of them. Types of keywords cannot be lifted in this way by any
checker; they are checked by name, when the flow is built.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeAlias, TypeVar, overload

if TYPE_CHECKING:
    from prefectish.edges import Annotation, allow_failure, flatten, unmapped
    from prefectish.functions.futures import MapFuture, TaskFuture
    from prefectish.tasks.task import FunctionTask, Task

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
S = TypeVar("S")
Q = ParamSpec("Q")
Item = TypeVar("Item", covariant=True)
Returned = TypeVar("Returned", covariant=True)


class Takes(Protocol[Q, Returned]):
    """A task by what its body takes, and what the task returns: that of an async body is what it awaits."""

    @property
    def run(self) -> Callable[Q, Any]:
        """The body."""

    @property
    def _returned(self) -> Returned: ...


class Indexed(Protocol[Item]):
    """What can be mapped over: a list, a range, a string, an array."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...


class Decorator(Protocol):
    """What `task(...)` with options returns."""

    @overload
    def __call__(
        self, function: Callable[Q, Coroutine[Any, Any, S]], /
    ) -> FunctionTask[Q, S, Coroutine[Any, Any, S]]: ...

    @overload
    def __call__(self, function: Callable[Q, S], /) -> FunctionTask[Q, S, S]: ...


#: Tasks may be anywhere in a collection, so its members are not looked at.
Collection: TypeAlias = "list[Any] | tuple[Any, ...] | set[Any] | dict[Any, Any]"

Argument: TypeAlias = "A | Task[A] | Annotation | Collection"

#: A map, where the body takes its results with failures among them: ``list[Row | BaseException]``.
Whole: TypeAlias = "Task[Sequence[A]]"

#: In a flow function, futures stand for what they will give; that of a map for a list.
Sent: TypeAlias = "A | TaskFuture[A] | MapFuture[Any] | Annotation | Collection"

Items: TypeAlias = "Indexed[A | Task[A]] | Iterator[A] | Task[Indexed[A]] | unmapped[A] | flatten | allow_failure"
