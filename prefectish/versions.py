"""The version of a flow: a hash of what it does, the same in every process, another one once anything of it changes.

It covers tasks (options, bodies, classes), edges, constants and reference tasks; not the flow's name, its executor and
its handlers, and not the functions that bodies call by a global name.
"""

from __future__ import annotations

from typing import Any

from prefectish.fingerprint import fingerprint, is_ours
from prefectish.tasks.task import FunctionTask, Task


def version_of(flow: Any) -> str:
    """Return 32 hexadecimal digits for the content of a flow; the order in which tasks were added does not count."""
    slugs = flow.slugs
    tasks = {slug: task for task, slug in slugs.items()}
    edges = {
        (slugs[e.upstream_task], slugs[e.downstream_task], e.key, e.mapped, e.flattened, e.allow_failure)
        for e in flow.edges
    }
    constants = {slugs[task]: values for task, values in flow.constants.items() if values}
    references = {slugs[task] for task in flow.reference_tasks()}
    bodies = {task.run for task in tasks.values() if isinstance(task, FunctionTask) and isinstance(task.run, type)}

    def is_body(cls: type) -> bool:
        return cls in bodies or (issubclass(cls, Task) and not is_ours(cls.__module__))

    return fingerprint((tasks, edges, constants, references), is_body)
