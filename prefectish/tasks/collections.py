"""Constants and collections among the arguments of a task.

A list, tuple, set or dict without a task inside is one constant. With a task or a wrapper inside, at any depth, it
becomes a task of its own that waits for its members and puts them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from prefectish.edges import Annotation
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from prefectish.flows import Flow

_CONTAINERS = (list, tuple, set, frozenset, dict)


class Constant(Task):
    """A value that stands for itself; it never runs."""

    auto_generated = True

    def __init__(self, value: Any, name: str | None = None) -> None:
        self.value = value
        super().__init__(name or f"Constant[{type(value).__name__}]")

    def run(self) -> Any:
        """Return the value."""
        return self.value


class List(Task):
    """Puts results together as a list; members arrive as `item_0`, `item_1`, ..."""

    auto_generated = True

    def run(self, **items: Any) -> Any:
        """Return the members in their order."""
        return list(_in_order(items))


class Tuple(Task):
    """Puts results together as a tuple, a named one if `make` says so."""

    auto_generated = True

    def __init__(self, make: Callable[[Iterable[Any]], Any] = tuple) -> None:
        self.make = make
        super().__init__()

    def run(self, **items: Any) -> Any:
        """Return the members in their order."""
        return self.make(_in_order(items))


class Set(Task):
    """Puts results together as a set, or a frozenset."""

    auto_generated = True

    def __init__(self, make: Callable[[Iterable[Any]], Any] = set) -> None:
        self.make = make
        super().__init__()

    def run(self, **items: Any) -> Any:
        """Return the members."""
        return self.make(_in_order(items))


class Dict(Task):
    """Puts results together as a dict; keys arrive as `key_0`, ..., values as `value_0`, ..."""

    auto_generated = True

    def run(self, **entries: Any) -> Any:
        """Return the dict in its order."""
        keys = {name: value for name, value in entries.items() if name.startswith("key_")}
        values = {name: value for name, value in entries.items() if name.startswith("value_")}
        return dict(zip(_in_order(keys), _in_order(values), strict=True))


def _in_order(items: dict[str, Any]) -> Iterator[Any]:
    """Sort by number: edges and constants arrive in an order of their own."""
    return (items[name] for name in sorted(items, key=lambda name: int(name.rpartition("_")[2])))


def holds_tasks(value: Any) -> bool:
    """Whether a collection has a task or a wrapper inside, at any depth."""
    if not isinstance(value, _CONTAINERS):
        return False
    seen: set[int] = set()
    open_ = [value]
    while open_:
        collection = open_.pop()
        if id(collection) in seen:
            continue
        seen.add(id(collection))
        for members in _parts(collection):
            # One pass in C over the types: a constant may have a million members.
            kinds = set(map(type, members))
            if any(issubclass(kind, (Task, Annotation)) for kind in kinds):
                return True
            if any(issubclass(kind, _CONTAINERS) for kind in kinds):
                open_.extend(member for member in members if isinstance(member, _CONTAINERS))
    return False


def _parts(collection: Any) -> tuple[Iterable[Any], ...]:
    return (collection.keys(), collection.values()) if isinstance(collection, dict) else (collection,)


def as_task(value: Any, flow: Flow) -> Task:
    """Return the task that stands for a value without wrappers, recorded in the flow if it had to be made."""
    if isinstance(value, Task):
        return value
    return collected(value, flow) if holds_tasks(value) else Constant(value)


def collected(value: Any, flow: Flow) -> Task:
    """Record the task that puts a collection together which has tasks or wrappers inside."""
    if isinstance(value, dict):
        keys = {f"key_{i}": key for i, key in enumerate(value.keys())}
        return Dict().bind(**keys, **{f"value_{i}": v for i, v in enumerate(value.values())}, flow=flow)
    items = {f"item_{i}": item for i, item in enumerate(value)}
    if isinstance(value, list):
        return List().bind(**items, flow=flow)
    if isinstance(value, tuple):
        return Tuple(getattr(value, "_make", tuple)).bind(**items, flow=flow)
    return Set(frozenset if isinstance(value, frozenset) else set).bind(**items, flow=flow)
