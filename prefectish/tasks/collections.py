"""Constants and collections among the arguments of a task.

A list, tuple, set or dict, or a record such as a dataclass, without tasks is one constant. With a task or an annotation
inside, at any depth, it becomes a task that waits for its members and collects them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from prefectish.edges import Annotation, allow_failure
from prefectish.engine.signals import SKIP, TRIGGERFAIL
from prefectish.kinds import is_a
from prefectish.members import Slot, holds, rebuilt
from prefectish.tasks.task import Task
from prefectish.triggers import all_successful

if TYPE_CHECKING:
    from prefectish.engine.state import State
    from prefectish.tasks.recording import RecordingFlow

#: Collections that tasks of their own collect; others are filled.
_COLLECTED = (list, tuple, set, frozenset, dict)


class Constant(Task):
    """A constant value; it never runs."""

    auto_generated = True

    def __init__(self, value: Any, name: str | None = None) -> None:
        self.value = value
        self.is_read = False  # an iterator gives its items to the first run that maps over it
        super().__init__(name or f"Constant[{type(value).__name__}]")

    def run(self) -> Any:
        """Return the value."""
        return self.value


class Flattened(Task):
    """Give on what it is given: the step between two levels of ``flatten(flatten(...))``."""

    auto_generated = True

    def __init__(self) -> None:
        super().__init__("flatten", checkpoint=False, trigger=_succeeded, skip_on_upstream_skip=False)

    def run(self, value: Any) -> Any:
        """Return the value."""
        return value


def _succeeded(upstream_states: Mapping[Any, State]) -> bool:
    """Whether what is flattened succeeded; raise a failure, or a skip, with what it left, which others may read."""
    for state in upstream_states.values():
        if state.is_skipped():
            raise SKIP(str(state.message), result=state._raw_result)
        if state.is_failed():
            raise TRIGGERFAIL(str(state.message), result=state._raw_result)
    return all_successful(upstream_states)


class _Members(Task):
    """Base class of tasks that collect members, which are passed as `item_0`, `item_1`, ..."""

    auto_generated = True

    def bind(self, /, *members: Any, **options: Any) -> Self:
        """Set the members; other parameters and errors as for a call."""
        return super().bind(**{item_name(i): member for i, member in enumerate(members)}, **options)


class List(_Members):
    """Collect results in a list; the members are passed as `item_0`, `item_1`, ..."""

    def run(self, **items: Any) -> Any:
        """Return the members in their order."""
        return list(_in_order(items))


class Tuple(_Members):
    """Collect results in a tuple, or with `make` in a named tuple."""

    def __init__(self, make: Callable[[Iterable[Any]], Any] = tuple, **options: Any) -> None:
        self.make = make
        super().__init__(**options)

    def run(self, **items: Any) -> Any:
        """Return the members in their order."""
        return self.make(_in_order(items))


class Set(_Members):
    """Collect results in a set or frozenset."""

    def __init__(self, make: Callable[[Iterable[Any]], Any] = set, **options: Any) -> None:
        self.make = make
        super().__init__(**options)

    def run(self, **items: Any) -> Any:
        """Return the members."""
        return self.make(_in_order(items))


class Dict(Task):
    """Collect results in a dict; keys are passed as `key_0`, ..., values as `value_0`, ..."""

    auto_generated = True

    def bind(self, /, keys: Sequence[Any] = (), values: Sequence[Any] = (), **options: Any) -> Self:  # type: ignore[override]
        """Set keys and values; other parameters and errors as for a call."""
        entries = {f"key_{i}": key for i, key in enumerate(keys)}
        return super().bind(**entries, **{f"value_{i}": value for i, value in enumerate(values)}, **options)

    def run(self, keys: Iterable[Any] = (), values: Iterable[Any] = (), **entries: Any) -> Any:
        """Return the dict in its order: of keys and values, or as a flow passes them."""
        named = [
            _in_order({name: value for name, value in entries.items() if name.startswith(prefix)})
            for prefix in ("key_", "value_")
        ]
        return {**dict(zip(keys, values, strict=True)), **dict(zip(*named, strict=True))}


class Filled(_Members):
    """Put results into a copy of a record, or a collection, in which each has its place."""

    def __init__(self, template: Any) -> None:
        self.template = template
        super().__init__(type(template).__name__)

    def run(self, **items: Any) -> Any:
        """Return the copy."""
        return rebuilt(self.template, lambda member: items[member.key] if type(member) is Slot else member)


def _allowing_failure(value: Any) -> Any:
    """Return a collection whose members may fail."""
    if is_a(value, dict):
        return {allow_failure(key): allow_failure(member) for key, member in value.items()}
    members = [allow_failure(member) for member in value]
    return value._make(members) if hasattr(value, "_make") else type(value)(members)


def item_name(number: int) -> str:
    """Return the name of the argument that a member of a collection is."""
    return f"item_{number}"


def _in_order(items: dict[str, Any]) -> Iterator[Any]:
    """Return the values sorted by number, since edges and constants are passed in any order."""
    return (items[name] for name in sorted(items, key=lambda name: int(name.rpartition("_")[2])))


def holds_tasks(value: Any) -> bool:
    """Whether a collection or a record contains a task or an annotation, at any depth."""
    return holds(value, (Task, Annotation))


def as_task(value: Any, flow: RecordingFlow) -> Task:
    """Return a value as a task; a collection with tasks is recorded in the flow."""
    if is_a(value, Task):
        return value
    return collected(value, flow) if holds_tasks(value) else Constant(value)


def collected(value: Any, flow: RecordingFlow, mapped: bool = False, allow_failure: bool = False) -> Task:
    """Record the task that collects a collection, or a record, with tasks or annotations.

    What is allowed to fail has its exception in its place. Of one that is `mapped` over, a member that an annotation
    changes is a task of its own, so that it can fail alone.
    """
    if mapped and type(value) is not tuple and not hasattr(value, "_make"):
        value = list(value)  # items are taken by position, whatever they are in
    if mapped:
        members = [Flattened().bind(m, flow=flow) if isinstance(m, Annotation) else m for m in value]
        value = value._make(members) if hasattr(value, "_make") else type(value)(members)
    if type(value) not in _COLLECTED and not hasattr(value, "_make"):
        return _filled(value, flow, allow_failure)
    if allow_failure:
        value = _allowing_failure(value)
    if is_a(value, dict):
        keys = {f"key_{i}": key for i, key in enumerate(value.keys())}
        return Dict().bind(**keys, **{f"value_{i}": v for i, v in enumerate(value.values())}, flow=flow)
    items = {item_name(i): item for i, item in enumerate(value)}
    if is_a(value, list):
        return List().bind(**items, flow=flow)
    if is_a(value, tuple):
        return Tuple(getattr(value, "_make", tuple)).bind(**items, flow=flow)
    return Set(frozenset if is_a(value, frozenset) else set).bind(**items, flow=flow)


def _filled(value: Any, flow: RecordingFlow, failure_allowed: bool) -> Task:
    items: dict[str, Any] = {}

    def take(member: Any) -> Any:
        if not is_a(member, (Task, Annotation)):
            return member
        name = item_name(len(items))
        items[name] = allow_failure(member) if failure_allowed else member
        return Slot(name)

    try:
        template = rebuilt(value, take)
    except RecursionError:
        text = f"a {type(value).__name__} that holds itself, and a task, cannot be passed; pass the task alone"
        raise TypeError(text) from None
    made: Task = Filled(template).bind(*items.values(), flow=flow)
    return made
