"""Base class of `with` blocks that apply to all tasks recorded in them.

A flow reports each task that is added to it to the innermost open block (`context["block"]`). At its end the block
adds edges to its tasks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from prefectish.engine.context import Overlay, context, current
from prefectish.errors import FlowDefinitionError
from prefectish.parameters import Parameter
from prefectish.tasks.collections import Constant
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from prefectish.tasks.recording import RecordingFlow


def active_flow(flow: RecordingFlow | None, user: str) -> RecordingFlow:
    """Return the flow that was passed, else the active one; without either, the error names `user`."""
    found: RecordingFlow | None = flow if flow is not None else current().get("flow")
    if found is None:
        if function_run() is not None:
            raise FlowDefinitionError(
                f"{user} builds a graph, in `with Flow(...)` or in apply_map; in a @flow function write Python's own "
                f"if, match, for and with"
            )
        raise FlowDefinitionError(f"no active Flow: use {user} inside `with Flow(...)`, or pass flow=")
    return found


def function_run() -> Any:
    """Return the run of the flow function around; None if there is none, or a graph is being built in it."""
    here = current()
    return None if here.get("flow") is not None else here.get("function_run")


class Block:
    """The tasks of a `with` block, all of one flow."""

    def __init__(self) -> None:
        self._flow: RecordingFlow | None = None
        self._tasks: dict[Task, None] = {}
        self._around: Block | None = None
        self._overlay: Overlay | None = None

    def __enter__(self) -> Any:
        self._open()
        return self

    def _open(self) -> None:
        if self._overlay is not None:
            raise FlowDefinitionError(f"{self!r} is already open; create another one for a nested block")
        self._flow, self._tasks = None, {}
        self._around = current().get("block")
        self._overlay = context(block=self)
        self._overlay.__enter__()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._overlay is not None
        self._overlay.__exit__()
        self._overlay = None
        if kind is None:
            self._close()

    def note(self, task: Task, flow: RecordingFlow) -> None:
        """Note a task that was added to a flow inside the block; all tasks of a block are in one flow."""
        if self._flow is not None and self._flow is not flow:
            raise FlowDefinitionError(
                f"{self!r} has tasks of {self._flow!r}, and now {task!r} of {flow!r}: a block belongs to one flow"
            )
        self._flow = flow
        if not isinstance(task, Parameter | Constant):
            self._tasks[task] = None
        if self._around is not None:
            self._around.note(task, flow)

    @abstractmethod
    def _close(self) -> None:
        """Add the edges that the block stands for."""


def roots(flow: RecordingFlow, tasks: Collection[Task]) -> list[Task]:
    """Return the tasks that have no upstream among them."""
    return [task for task in tasks if not any(edge.upstream_task in tasks for edge in flow.edges_to(task))]


def leaves(flow: RecordingFlow, tasks: Collection[Task]) -> list[Task]:
    """Return the tasks that have no downstream among them."""
    return [task for task in tasks if not any(edge.downstream_task in tasks for edge in flow.edges_from(task))]
