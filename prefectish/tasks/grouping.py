"""`group_by`: the results of a map in groups, by a key that is computed for each of them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from prefectish.kinds import is_a
from prefectish.tasks.recording import Home
from prefectish.tasks.task import Task, task

if TYPE_CHECKING:
    from prefectish.tasks.recording import RecordingFlow


class Groups(Task):
    """Groups values by their keys."""

    auto_generated = True

    def __init__(self) -> None:
        super().__init__("group_by")

    def run(self, keys: Sequence[Any], values: Sequence[Any]) -> list[tuple[Any, list[Any]]]:
        """Return each key with its values, by first appearance."""
        groups: dict[Any, list[Any]] = {}
        for place, (key, value) in enumerate(zip(keys, values, strict=True)):
            try:
                groups.setdefault(key, []).append(value)
            except TypeError as error:
                raise TypeError(
                    f"group_by: the key of item {place} must be hashable, got a {type(key).__name__}; "
                    f"return a tuple, a number or text"
                ) from error
        return list(groups.items())


def key_task(key: Callable[[Any], Any]) -> Task:
    """Return the task that computes keys; TypeError if `key` is no function and no task."""
    if is_a(key, Task):
        return key
    if not callable(key):
        raise TypeError(f"group_by: key must be a function of a result, or a task, got {key!r}")
    return task(key)


def grouped(mapped: Task, key: Callable[[Any], Any], flow: RecordingFlow) -> Task:
    """Record the tasks that group the results of a map; TypeError if it is no map."""
    if mapped not in flow or not any(edge.mapped for edge in flow.edges_to(mapped)):
        raise TypeError(f"group_by: {mapped.name} is not mapped; group the results of a map, as from .map(...)")
    keys = key_task(key).map(mapped, flow=flow)
    groups = Groups().bind(keys, mapped, flow=flow)
    groups._home = Home(weakref.ref(flow), flow.slugs[groups], flow.name)
    return groups
