"""Edges between tasks, and the annotations that choose the kind of edge in a call.

An edge is a dependency of a task. It may pass a result (with a key), one item to each child (mapped), remove one level
of nesting (flattened), or pass on failures (allow_failure). The engine interprets these properties.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, NoReturn, overload

from prefectish.errors import FlowDefinitionError
from prefectish.kinds import is_a

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # part of what type checkers bring

    from prefectish.tasks.task import Task

    V = TypeVar("V", default=Any)
else:
    from typing import TypeVar

    V = TypeVar("V")


class Edge:
    """A dependency of a task on another: immutable, compared by value, with its tasks by identity.

    Parameters
    ----------
    upstream_task, downstream_task
        The task to wait for, and the task that waits. What an annotation around the former says holds before the rest.
    key
        Name of the argument of `downstream_task.run` that receives the result; None: no data is passed.
    mapped
        Whether child i of the downstream task receives item i.
    flattened
        Whether one level of nesting is removed from the result first.
    allow_failure
        Whether a failed upstream task passes on its result and does not count as failed.

    Raises
    ------
    FlowDefinitionError
        If the key is not a valid name of an argument.
    """

    __slots__ = ("allow_failure", "downstream_task", "flattened", "key", "mapped", "upstream_task")

    upstream_task: Any
    downstream_task: Any
    key: str | None
    mapped: bool
    flattened: bool
    allow_failure: bool

    def __init__(
        self,
        upstream_task: Any,
        downstream_task: Any,
        key: str | None = None,
        mapped: bool = False,
        flattened: bool = False,
        allow_failure: bool = False,
    ) -> None:
        if isinstance(upstream_task, Annotation):
            upstream_task, wish, is_flat, is_allowed = unwrap(upstream_task)
            mapped, flattened = mapped if wish is None else wish, flattened or is_flat
            allow_failure = allow_failure or is_allowed
        if key is not None and (not isinstance(key, str) or not key.isidentifier() or keyword.iskeyword(key)):
            raise FlowDefinitionError(
                f"edge {upstream_task.name} -> {downstream_task.name}: key {key!r} is not a valid argument name"
            )
        fill = object.__setattr__
        fill(self, "upstream_task", upstream_task)
        fill(self, "downstream_task", downstream_task)
        fill(self, "key", key)
        fill(self, "mapped", mapped)
        fill(self, "flattened", flattened)
        fill(self, "allow_failure", allow_failure)

    @property
    def tasks(self) -> frozenset[Any]:
        """The tasks at both ends."""
        return frozenset((self.upstream_task, self.downstream_task))

    def _values(self) -> tuple[Any, Any, str | None, bool, bool, bool]:
        return (self.upstream_task, self.downstream_task, self.key, self.mapped, self.flattened, self.allow_failure)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"an Edge is frozen; {name!r} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an Edge is frozen; {name!r} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if type(other) is not Edge:
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __reduce__(self) -> tuple[Any, ...]:
        return Edge, self._values()

    def __repr__(self) -> str:
        flags = [name for name in ("mapped", "flattened", "allow_failure") if getattr(self, name)]
        words = ["" if self.key is None else f"key={self.key}", *flags]
        ends = f"{self.upstream_task.name} to {self.downstream_task.name}"
        return f"<Edge: {', '.join(word for word in [ends, *words] if word)}>"


class Annotation:
    """Base class of annotations: an argument of a call with properties of its edge."""

    __slots__ = ("value",)

    #: Properties of the edge; None: not set by this annotation.
    mapped: bool | None = None
    flattened: bool = False
    failure_allowed: bool = False

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"

    def __iter__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__}(...) is not iterable; annotate each value instead")


class unmapped(Annotation, Generic[V]):
    """Pass the whole value to every child of a map, in the place of an item of it.

    Parameters
    ----------
    value
        A constant, the result of a task, or a future; a large constant is sent to each worker once.

    Examples
    --------
    >>> from prefectish import Flow, task, unmapped
    >>> with Flow("scaled") as flow:
    ...     scaled = task(lambda x, factors: x * sum(factors), name="scale").map([1, 2], unmapped([10, 20]))
    >>> flow.run(history=False)[scaled].result
    [30, 60]
    """

    __slots__ = ()
    mapped = False

    if TYPE_CHECKING:

        @overload
        def __init__(self, value: Task[V]) -> None: ...

        @overload
        def __init__(self: unmapped[Any], value: Annotation) -> None: ...

        @overload
        def __init__(self, value: V) -> None: ...

        def __init__(self: Any, value: Any) -> None: ...


class mapped(Annotation):
    """Map over this argument in a plain call of a task, and pass the others whole.

    Parameters
    ----------
    value
        What `.map` would map over: a list, the result of a task that is one, or a future.

    Examples
    --------
    >>> from prefectish import Flow, mapped, task
    >>> with Flow("scaled") as flow:
    ...     scaled = task(lambda x, factors: x * sum(factors), name="scale")(mapped([1, 2]), [10, 20])
    >>> flow.run(history=False)[scaled].result
    [30, 60]
    """

    __slots__ = ()
    mapped = True


class flatten(Annotation):
    """Remove one level of nesting from the value before it is passed or mapped; ``flatten(flatten(x))`` removes two.

    Elements of a map's results are mapped over as they come: the children of one list do not wait for the other lists.

    Parameters
    ----------
    value
        A list of lists, a map whose children return lists, or a future of either.

    Examples
    --------
    >>> from prefectish import Flow, flatten, task
    >>> with Flow("pages") as flow:
    ...     links = task(lambda page: [page, -page], name="links").map([1, 2])
    ...     sizes = task(lambda link: link * 10, name="size").map(flatten(links))
    >>> flow.run(history=False)[sizes].result
    [10, -10, 20, -20]
    """

    __slots__ = ()
    flattened = True


class allow_failure(Annotation):
    """Pass the result of a task even if it fails: the exception is passed instead.

    The trigger of the task that takes it sees a success in its place, so that the task runs.

    Parameters
    ----------
    value
        The result of a task, a map, of which each failed child becomes its exception, or a future.

    Examples
    --------
    >>> from prefectish import Flow, allow_failure, task
    >>> with Flow("careful") as flow:
    ...     parsed = task(lambda text: int(text), name="parse")("two")
    ...     kind = task(lambda value: type(value).__name__, name="kind")(allow_failure(parsed))
    >>> flow.run(history=False)[kind].result
    'ValueError'
    """

    __slots__ = ()
    failure_allowed = True


class Unwrapped(NamedTuple):
    """A value without its annotations, and their properties."""

    value: Any
    mapped: bool | None
    flattened: bool
    allow_failure: bool


def unwrap(value: Any) -> Unwrapped:
    """Remove the annotations from a value; `mapped` is None if none sets it; with several the innermost counts."""
    is_mapped: bool | None = None
    flattened = failure_allowed = False
    while is_a(value, Annotation):
        is_mapped = value.mapped if value.mapped is not None else is_mapped
        flattened = flattened or value.flattened
        failure_allowed = failure_allowed or value.failure_allowed
        value = value.value
    return Unwrapped(value, is_mapped, flattened, failure_allowed)


def flattened_once(value: Any, step_between: Callable[[Any], Any]) -> Any:
    """Return a value that is flattened at most once; for each further level `step_between` makes a step of the rest.

    Examples
    --------
    >>> flattened_once(flatten(unmapped(flatten("x"))), lambda inner: inner)
    unmapped(flatten(unmapped(flatten('x'))))
    """
    bare, levels = value, 0
    while is_a(bare, Annotation):
        levels += bare.flattened
        bare = bare.value
    if levels < 2:
        return value
    _, is_mapped, _, failure_allowed = unwrap(value)

    def annotated(inner: Any) -> Annotation:
        made: Annotation = flatten(inner)
        if failure_allowed:
            made = allow_failure(made)
        return made if is_mapped is None else (mapped if is_mapped else unmapped)(made)

    for _ in range(levels - 1):
        bare = step_between(annotated(bare))
    return annotated(bare)
