"""Where a task runs: resources, workers, priority."""

from __future__ import annotations

from typing import NamedTuple

from prefectish.tasks.task import Task

#: Tags of this form stand for resources, ``dask-resource:GPU=1``.
RESOURCE_TAG = "dask-resource:"


class Placement(NamedTuple):
    """Resources by name, workers by address, host or name, and a priority: larger comes first."""

    resources: tuple[tuple[str, float], ...]
    workers: tuple[str, ...]
    priority: float


def placement_of(task: Task) -> Placement:
    """Return where a task runs; a priority by item only orders the children and counts as 0 here.

    Raises ValueError if a resource tag does not end with a number.
    """
    resources = {**_from_tags(task), **(task.resources or {})}
    priority = task.priority
    number = float(priority) if isinstance(priority, int | float) else 0.0
    return Placement(tuple(sorted(resources.items())), tuple(task.workers or ()), number)


def _from_tags(task: Task) -> dict[str, float]:
    found: dict[str, float] = {}
    for tag in task.tags:
        if not tag.startswith(RESOURCE_TAG):
            continue
        name, _, number = tag.removeprefix(RESOURCE_TAG).partition("=")
        try:
            found[name] = float(number or 1)
        except ValueError:
            raise ValueError(
                f"task {task.name}: tag {tag!r}: must end with a number, as {RESOURCE_TAG}{name}=1 does"
            ) from None
    return found
