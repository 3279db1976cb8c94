"""What tasks, parameters and control flow ask of the flow that records them."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, KeysView, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    from prefectish.edges import Edge
    from prefectish.tasks.task import Task


class RecordingFlow(Protocol):
    """A flow under construction; :class:`prefectish.Flow` is the one there is, on a floor above."""

    name: str
    slugs: dict[Task, str]
    constants: dict[Task, dict[str, Any]]
    positions: dict[Task, tuple[str, ...]]

    @property
    def tasks(self) -> KeysView[Task]:
        """The tasks in the order in which they came."""

    @property
    def edges(self) -> KeysView[Edge]:
        """The edges in the order in which they came."""

    def edges_to(self, task: Task) -> KeysView[Edge]:
        """Return the edges into a task of the flow."""

    def edges_from(self, task: Task) -> KeysView[Edge]:
        """Return the edges out of a task of the flow."""

    def upstream_tasks(self, task: Task) -> KeysView[Task]:
        """Return the tasks that a task waits for."""

    def terminal_tasks(self) -> KeysView[Task]:
        """Return the tasks that none waits for."""

    def add_task(self, task: Task) -> Task:
        """Add a task, if it is not there yet, and return it."""

    def insert(self, edge: Edge, validate: bool | None = None) -> Edge:
        """Add an edge and the tasks at its ends."""

    def set_dependencies(
        self,
        task: Any,
        upstream_tasks: Iterable[Any] | None = None,
        downstream_tasks: Iterable[Any] | None = None,
        keyword_tasks: Mapping[str, Any] | None = None,
        mapped: bool = False,
        validate: bool | None = None,
    ) -> Task:
        """Set what a task waits for, what waits for it, and where its arguments come from."""

    def note_created(self, task: Task) -> None:
        """Remember a task that was made in the flow's block."""

    def note_used(self, task: Task) -> None:
        """Forget a task that was added, or copied."""

    def inner(self, name: str) -> RecordingFlow:
        """Return an empty flow in which a part of this one is built."""

    def __contains__(self, task: object) -> bool: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...


class Home(NamedTuple):
    """The flow that a call belongs to; its names outlive the flow."""

    flow: weakref.ref[RecordingFlow]
    slug: str
    flow_name: str
