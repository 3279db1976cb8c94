"""The version of a flow: a hash of its content, the same in every process, which changes with the flow.

It covers tasks (options, functions, classes), edges, constants and reference tasks; not the flow's name, its executor
and handlers, not the result stores, and not functions that task functions call by a global name.
"""

from __future__ import annotations

from typing import Any

from prefectish.fingerprint import fingerprint, is_own_module
from prefectish.tasks.task import FunctionTask, Task


def version_of(flow: Any) -> str:
    """Return 32 hexadecimal digits for the content of a flow, independent of the order in which tasks were added."""
    slugs = flow.slugs
    tasks = {slug: _without_store(task) for task, slug in slugs.items()}
    edges = {
        (slugs[e.upstream_task], slugs[e.downstream_task], e.key, e.mapped, e.flattened, e.allow_failure)
        for e in flow.edges
    }
    constants = {slugs[task]: values for task, values in flow.constants.items() if values}
    references = {slugs[task] for task in flow.reference_tasks()}
    bodies = {task.run for task in slugs if isinstance(task, FunctionTask) and isinstance(task.run, type)}

    def is_body(cls: type) -> bool:
        return cls in bodies or (issubclass(cls, Task) and not is_own_module(cls.__module__))

    return fingerprint((tasks, edges, constants, references), is_body)


#: Number of digits in each half of the version of a task.
HALF_LENGTH = 16


def task_version(task: Task) -> str:
    """Return 32 hexadecimal digits for the code of a task: its function, or its class and attributes.

    Options are ignored: a run may be resumed with another time limit, more retries, or another result store.
    The second half ignores mutable values in the closure of the function, such as a list that it appends to.
    """
    from prefectish.caching.keys import code_digest, loose_code_digest

    return code_digest(task)[:HALF_LENGTH] + loose_code_digest(task)[:HALF_LENGTH]


def differs_only_in_closure(one: str | None, other: str) -> bool:
    """Whether two versions of a task have the same code, and differ at most in mutable values in the closure."""
    return one is not None and one[HALF_LENGTH:] == other[HALF_LENGTH:]


def _without_store(task: Task) -> Task:
    attributes = task.__getstate__()
    if attributes.pop("result", None) is None:
        return task
    bare = object.__new__(type(task))
    bare.__dict__.update(attributes)
    return bare
