"""What a run changes of its tasks, for its time: more handlers, and a context of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from prefectish.compat.stores import NAMES, in_context
from prefectish.engine.context import context, current
from prefectish.tasks.task import Task


@contextmanager
def more_handlers(tasks: Iterable[Task], handlers: Sequence[Callable[..., Any]] | None) -> Iterator[None]:
    """Give tasks more state handlers for the time of a `with` block."""
    own = {task: task.state_handlers for task in tasks} if handlers else {}
    for task, before in own.items():
        task.state_handlers = [*before, *(handlers or ())]
    try:
        yield
    finally:
        for task, before in own.items():
            task.state_handlers = before


class InContext:
    """The body of a task with more values in its context."""

    def __init__(self, body: Callable[..., Any], values: Mapping[str, Any]) -> None:
        self.__wrapped__ = body
        self.values = dict(values)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the body."""
        with context(self.values):
            return self.__wrapped__(*args, **kwargs)


@contextmanager
def task_contexts_in(contexts: Mapping[Any, Mapping[str, Any]] | None) -> Iterator[None]:
    """Lay values over the context of some tasks' bodies for the time of a `with` block."""
    own = {task: task.__dict__.get("run") for task in contexts or ()}
    for task in own:
        task.__dict__["run"] = InContext(task.run, (contexts or {})[task])
    try:
        yield
    finally:
        for task, body in own.items():
            if body is None:
                del task.__dict__["run"]
            else:
                task.__dict__["run"] = body


@contextmanager
def context_in_names(flow: Any, given: Mapping[str, Any]) -> Iterator[None]:
    """Let names of results take what is in the context of a run by its name; what an argument is called is that."""
    inputs = {edge.key for edge in flow.edges} | {name for values in flow.constants.values() for name in values}
    token = NAMES.set(frozenset({*current(), *given} - inputs))
    own = {task: task.target for task in flow.tasks if isinstance(task.target, str)}
    for task, target in own.items():
        task.target = in_context(target)
    try:
        yield
    finally:
        NAMES.reset(token)
        for task, target in own.items():
            task.target = target
