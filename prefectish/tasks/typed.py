"""Types of calls of tasks, for type checkers only; not used at run time.

Where a task function takes an `A`, a call accepts an `A`, a task that returns one, an annotation, or a collection with
tasks; `.map` accepts anything whose items are an `A`. The result of a call is a `Task` of the return type, and
that of `.map` a `Task` of a list of it, against which the next task is checked.

Up to four positional arguments are checked. Types of keywords cannot be transformed in this way by any
type checker; their names are checked when the flow is built.
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
    """A task by its parameters and return type; for an async function that is the awaited type."""

    @property
    def run(self) -> Callable[Q, Any]:
        """The task function."""

    @property
    def _returned(self) -> Returned: ...


class Indexed(Protocol[Item]):
    """Anything that can be mapped over: a list, a range, an array; a string is refused as the flow is built."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...


class Decorator(Protocol):
    """The return type of `task(...)` with options."""

    @overload
    def __call__(
        self, function: Callable[Q, Coroutine[Any, Any, S]], /
    ) -> FunctionTask[Q, S, Coroutine[Any, Any, S]]: ...

    @overload
    def __call__(self, function: Callable[Q, S], /) -> FunctionTask[Q, S, S]: ...


#: Tasks may be anywhere in a collection, so its members are not checked.
Collection: TypeAlias = "list[Any] | tuple[Any, ...] | set[Any] | dict[Any, Any]"

Argument: TypeAlias = "A | Task[A] | Annotation | Collection"

#: A map whose results may include failures: ``list[Row | BaseException]``.
Whole: TypeAlias = "Task[Sequence[A]]"

#: In a flow function, a future stands for its result, and that of a map for a list.
Sent: TypeAlias = "A | TaskFuture[A] | MapFuture[Any] | Annotation | Collection"

Items: TypeAlias = "Indexed[A | Task[A]] | Iterator[A] | Task[Indexed[A]] | unmapped[A] | flatten | allow_failure"
