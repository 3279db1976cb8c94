"""How tasks are recorded: what they ask of their flow, and how they get arguments and edges in it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, KeysView, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from prefectish.engine.context import current
from prefectish.errors import FlowDefinitionError
from prefectish.tasks.operators import Operand
from prefectish.tasks.signatures import inputs_of

if TYPE_CHECKING:
    from prefectish.edges import Edge
    from prefectish.tasks.task import Task


class RecordingFlow(Protocol):
    """A flow under construction; :class:`prefectish.Flow` is the one there is, on a floor above."""

    name: str
    slugs: dict[Task, str]
    constants: dict[Task, dict[str, Any]]
    positions: dict[Any, tuple[str, ...]]

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


class FlowNode(Operand):
    """What a task is in a flow: a node with edges, which methods of the task and ``|`` add."""

    name: str
    tags: frozenset[str]
    run: Callable[..., Any]

    @property
    def _defaults(self) -> dict[str, Any]:
        """What the task function gets for arguments that are not passed, by name."""
        return inputs_of(self.run, self.name).defaults

    def bind(
        self,
        /,
        *args: Any,
        mapped: bool = False,
        upstream_tasks: Iterable[Any] | None = None,
        flow: RecordingFlow | None = None,
        **kwargs: Any,
    ) -> Self:
        """Set the arguments of this task itself, not a copy, in a flow; parameters and errors as for a call."""
        flow = self._flow(flow)
        if active := current().get("tags"):
            self.tags |= active
        inputs = inputs_of(self.run, self.name)
        keyword_tasks = inputs.bind(self.name, args, kwargs)
        flow.set_dependencies(self, upstream_tasks=upstream_tasks, keyword_tasks=keyword_tasks, mapped=mapped)
        flow.positions[self] = inputs.positional[: len(args)]
        return self

    def set_dependencies(
        self,
        flow: RecordingFlow | None = None,
        upstream_tasks: Iterable[Any] | None = None,
        downstream_tasks: Iterable[Any] | None = None,
        keyword_tasks: Mapping[str, Any] | None = None,
        mapped: bool = False,
        validate: bool | None = None,
    ) -> Self:
        """Add this task itself to a flow with its dependencies; see :meth:`prefectish.Flow.set_dependencies`."""
        self._flow(flow).set_dependencies(self, upstream_tasks, downstream_tasks, keyword_tasks, mapped, validate)
        return self

    def set_upstream(
        self, task: Any, flow: RecordingFlow | None = None, key: str | None = None, mapped: bool = False
    ) -> Self:
        """Wait for `task`; with a key, receive its result as the argument of that name."""
        if key is not None:
            return self.set_dependencies(flow, keyword_tasks={key: task}, mapped=mapped)
        return self.set_dependencies(flow, upstream_tasks=[task], mapped=mapped)

    def set_downstream(
        self, task: Task, flow: RecordingFlow | None = None, key: str | None = None, mapped: bool = False
    ) -> Self:
        """Make `task` wait for this one; with a key, it receives this task's result as the argument of that name."""
        task.set_upstream(self, flow, key, mapped)
        return self

    def _flow(self, flow: RecordingFlow | None) -> RecordingFlow:
        found: RecordingFlow | None = flow if flow is not None else current().get("flow")
        if found is None and current().get("function_run") is not None:
            raise FlowDefinitionError(
                f"a flow function has no graph, to which this would add {self.name}: compute with results, of "
                f"{self.name}(...), or of .submit(...) and .result(), and of a secret with what .get() returns"
            )
        if found is None:
            raise FlowDefinitionError(
                f"no active Flow: call {self.name} inside `with Flow(...)` or a @flow function, pass flow=, or call "
                f"{self.name}.run(...) to run only the function"
            )
        return found

    def __or__(self, other: Task) -> Task:
        if not isinstance(other, FlowNode):
            return NotImplemented
        return other.set_upstream(self)

    def __ror__(self, other: Any) -> Self:
        return self.set_upstream(other)
