"""Calls of tasks in the bodies of other tasks: they run as functions, and have no state of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prefectish.engine.context import current, get_logger
from prefectish.errors import FlowDefinitionError

if TYPE_CHECKING:
    from prefectish.tasks.task import Task

#: Runs and tasks whose calls in bodies this process has warned of, the last of them.
_warned: dict[tuple[str, str], None] = {}
MOST_REMEMBERED = 1000


def in_body() -> bool:
    """Whether this is the body of a task, in which no flow is built and no flow function runs."""
    here = current()
    return here.get("flow") is None and "task_run_id" in here


def function_run() -> Any:
    """Return the run of the enclosing flow function; None if calls are recorded, or rejected."""
    here = current()
    return None if here.get("flow") is not None else here.get("function_run")


def call_in_body(task: Task, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Run the function of a task in the body of another one; the first time in a run, a warning is logged.

    Raises TypeError for options of the call: there is nothing that they could be options of.
    """
    here = current()
    for name, value in options.items():
        if value:
            raise TypeError(
                f"{task.name}(..., {name}={value!r}) in the body of {here.get('task_name')}: it runs there as a "
                f"function, which has no such option; call it in the flow"
            )
    key = str(here.get("flow_run_id")), task.name
    if key not in _warned:
        _warned[key] = None
        while len(_warned) > MOST_REMEMBERED:
            del _warned[next(iter(_warned))]
        get_logger(str(here.get("task_name"))).warning(
            "%s was called in the body of %s: it runs as a function, and has no state, retries, cache or timeout of "
            "its own; call it in the flow, or call a @flow in the body",
            task.name,
            here.get("task_name"),
        )
    return task.run(*args, **kwargs)


def refuse_in_body(task: Task, method: str) -> None:
    """Refuse to submit tasks in a body."""
    if in_body():
        raise FlowDefinitionError(
            f"{task.name}.{method}(...) was called in the body of {current().get('task_name')}, which has no tasks of "
            f"its own; call {task.name}(...) there, which runs it as a function, or call a @flow that uses it"
        )
