"""Where a task, or a child of it, runs: resources, workers, priority."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from prefectish.tasks import options
from prefectish.tasks.task import Task

#: Tags of this form stand for resources, ``dask-resource:GPU=1``.
RESOURCE_TAG = "dask-resource:"


class Placement(NamedTuple):
    """Resources by name, workers by address, host or name, and a priority: larger comes first."""

    resources: tuple[tuple[str, float], ...]
    workers: tuple[str, ...]
    priority: float


_ANYWHERE = Placement((), (), 0.0)


def placement_of(task: Task) -> Placement:
    """Return where a task runs, as far as that is the same for all of its children.

    A priority by item only orders the children and counts as 0 here.

    Raises ValueError if a resource tag does not end with a number.
    """
    if not (task.tags or task.resources or task.workers or task.priority):
        return _ANYWHERE
    fixed = {} if callable(task.resources) else task.resources or {}
    workers = () if callable(task.workers) else tuple(task.workers or ())
    number = 0.0 if callable(task.priority) else float(task.priority or 0)
    return Placement(tuple(sorted({**resources_of(task.tags, task.name), **fixed}.items())), workers, number)


def differs_by_child(task: Task) -> bool:
    """Whether the children of a task may run in different places, so that each is asked for its own."""
    return callable(task.resources) or callable(task.workers) or takes_run_count(task.priority)


def placement_of_child(task: Task, item: Any, run_count: int) -> Placement:
    """Return where a child runs this time.

    Parameters
    ----------
    item
        Its first mapped input; of a single task its first argument.
    run_count
        Number of the try, from 1: retries count, and deaths of workers for want of memory.

    Raises
    ------
    Exception
        What a function of the user raised; TypeError or ValueError if it returned what the option does not take.
    """
    resources, workers, priority = placement_of(task)
    if callable(task.resources):
        asked = options.amounts("resources", ask(task.resources, item, run_count) or {})
        resources = tuple(sorted({**dict(resources), **asked}.items()))
    if callable(task.workers):
        named = ask(task.workers, item, run_count)
        workers = () if named is None else options.addresses_of("workers", named)
    if takes_run_count(task.priority):
        priority = float(options.number("priority", ask(task.priority, item, run_count)))
    return Placement(resources, workers, priority)


def ask(function: Callable[..., Any], item: Any, run_count: int) -> Any:
    """Call a function of the item, or of the item and the run count."""
    return function(item, run_count) if takes_run_count(function) else function(item)


def takes_run_count(function: Any) -> bool:
    """Whether an option is a function of the item and the run count.

    A second argument with a default is the user's own (``lambda item, sizes=sizes: ...``), unless it is `run_count`.
    """
    if not callable(function):
        return False
    try:
        return _takes_two(function)
    except TypeError:  # it cannot be hashed
        return _takes_two.__wrapped__(function)


@lru_cache(maxsize=256)
def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        given = [p for p in inspect.signature(function).parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
    except (TypeError, ValueError):  # written in C, and without a signature
        return False
    return len(given) > 1 and (given[1].default is inspect.Parameter.empty or given[1].name == "run_count")


def resources_of(tags: Iterable[str], name_of_task: str) -> dict[str, float]:
    """Return the resources that tags of a task stand for."""
    found: dict[str, float] = {}
    for tag in tags:
        if not tag.startswith(RESOURCE_TAG):
            continue
        name, _, number = tag.removeprefix(RESOURCE_TAG).partition("=")
        try:
            found[name] = float(number or 1)
        except ValueError:
            raise ValueError(
                f"task {name_of_task}: tag {tag!r}: must end with a number, as {RESOURCE_TAG}{name}=1 does"
            ) from None
    return found
