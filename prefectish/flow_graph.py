"""The graph of a flow as it is built: calls in a ``with`` block, and methods, record tasks and edges in it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

from prefectish.edges import Edge, allow_failure, flattened_once, unwrap
from prefectish.engine.context import Overlay, context, current
from prefectish.errors import FlowDefinitionError
from prefectish.kinds import is_a
from prefectish.safe_repr import printable
from prefectish.task_graph import TaskGraph, check_results, task_list
from prefectish.tasks.collections import Constant, Flattened, as_task, collected, holds_tasks
from prefectish.tasks.mapping import check_constant, check_mappable, is_iterator
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from prefectish.tasks.recording import RecordingFlow


class FlowGraph(TaskGraph):
    """A named task graph that records calls; the base of :class:`prefectish.Flow`, which runs it."""

    result: Any = None

    def __init__(self, name: str, validate: bool) -> None:
        super().__init__(validate)
        self._unused: dict[Task, None] = {}
        self._open: list[Overlay] = []
        self._around: FlowGraph | None = None
        self.name = name

    def __repr__(self) -> str:
        return f"<Flow: name={printable(self.name)}>"

    def __enter__(self) -> Self:
        overlay = context(flow=self)
        overlay.__enter__()
        self._open.append(overlay)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._open.pop().__exit__()
        if kind is None:
            check_results(self, maps_only=True)
        unused, self._unused = [task for task in self._unused if not task.auto_generated], {}
        if kind is None and unused:
            names = ", ".join(map(repr, unused))
            warnings.warn(
                f"tasks were created but not added to {self!r}: {names}; call them, or use flow.add_task", stacklevel=2
            )

    def inner(self, name: str) -> FlowGraph:
        """Return an empty graph in which a part of this one is built: calls in it may use the tasks of this one."""
        new = FlowGraph(name, validate=False)
        new._around = self
        return new

    def note_created(self, task: Task) -> None:
        """Remember a task that was made in the flow's block, to warn if it never comes into the flow."""
        self._unused[task] = None

    def note_used(self, task: Task) -> None:
        """Forget a task that was added, or copied."""
        self._unused.pop(task, None)
        if self._around is not None:
            self._around.note_used(task)

    def add_task(self, task: Task) -> Task:
        """Add a task, if it is not there yet, and return it.

        Raises
        ------
        TypeError
            If it is not a task.
        FlowDefinitionError
            If another task has its explicit slug.
        """
        if task in self.slugs:
            return task
        super().add_task(task)
        self._unused.pop(task, None)
        block = current().get("block")
        if block is not None and (self._around is None or task not in self._around):
            block.note(task, self)
        return task

    def add_edge(
        self,
        upstream_task: Any,
        downstream_task: Task,
        key: str | None = None,
        mapped: bool = False,
        flattened: bool = False,
        validate: bool | None = None,
    ) -> Edge:
        """Add an edge, and the tasks at its ends if need be.

        Parameters
        ----------
        upstream_task
            A task, or a value that becomes one; what an annotation around it says holds before `mapped`.
        downstream_task
            The task that waits.
        key, mapped, flattened
            As for :class:`prefectish.edges.Edge`.
        validate
            Whether to check the flow now; default: what the flow was made with.

        Raises
        ------
        FlowDefinitionError
            If it joins a task with itself, leads into a parameter, or validation finds a fault.
        """
        value, wish, flat, failure_allowed = unwrap(upstream_task)
        ends = self.add_task(as_task(value, self)), self.add_task(downstream_task)
        maps = mapped if wish is None else wish
        return self.insert(Edge(*ends, key, maps, flattened or flat, failure_allowed), validate)

    def chain(self, *tasks: Any, validate: bool | None = None) -> list[Edge]:
        """Let each task wait for the one before it, and return the edges."""
        nodes = [as_task(task, self) for task in tasks]
        return [self.add_edge(first, then, validate=validate) for first, then in pairwise(nodes)]

    def set_dependencies(
        self,
        task: Any,
        upstream_tasks: Iterable[Any] | None = None,
        downstream_tasks: Iterable[Any] | None = None,
        keyword_tasks: Mapping[str, Any] | None = None,
        mapped: bool = False,
        validate: bool | None = None,
    ) -> Task:
        """Say what a task waits for, what waits for it, and where its arguments come from.

        Parameters
        ----------
        task
            Added if need be.
        upstream_tasks, downstream_tasks
            Tasks, or values that become tasks.
        keyword_tasks
            By argument: a task whose result it is, or a value; values that are not mapped are kept in `constants`.
        mapped
            Whether edges into the task map, where no wrapper says otherwise.
        validate
            As for :meth:`add_edge`.

        Returns
        -------
        Task
            The task itself.

        Raises
        ------
        FlowDefinitionError
            As for :meth:`add_edge`; and if a task is the result of a call in another flow.
        TypeError
            If a constant is to be mapped over and cannot be.
        """
        task_here = self._admit(task)
        for name, value in (keyword_tasks or {}).items():
            self._feed(task_here, name, value, mapped, validate)
        for value in task_list("upstream_tasks", upstream_tasks):
            self._feed(task_here, None, value, mapped, validate)
        for value in task_list("downstream_tasks", downstream_tasks):
            self._feed(self._admit(value), None, task_here, mapped, validate)
        return task_here

    def _admit(self, value: Any) -> Task:
        """Add what stands for a value; the result of a call in another flow has no inputs here, so it is refused."""
        if not is_a(value, Task):
            return self.add_task(as_task(value, self))
        home = value._home
        if home is not None and value not in self.slugs and not self._has_room_for(home.flow()):
            raise FlowDefinitionError(
                f"task {home.slug} belongs to flow {home.flow_name}: its inputs are not known in {self!r}; call it "
                f"again here, or pass its result as a Parameter"
            )
        return self.add_task(value)

    def _has_room_for(self, home: RecordingFlow | None) -> bool:
        """Whether tasks of a flow may be used here: its own, and those of the flow that it is a part of."""
        return home is not None and (home is self or home is self._around)

    def _feed(self, task: Task, key: str | None, value: Any, mapped: bool, validate: bool | None) -> None:
        """Add the edge, or keep the constant, that gives a value to a task."""
        value = flattened_once(value, lambda inner: Flattened().bind(inner, mapped=mapped, flow=self))
        value, wish, flattened, failure_allowed = unwrap(value)
        maps = mapped if wish is None else wish
        if not is_a(value, Task):
            argument = "upstream_tasks" if key is None else f"argument {key!r}"
            inside = holds_tasks(value)
            plain = not maps and not flattened
            check = check_mappable if maps else check_constant
            check(value, task.name, argument, flattened)
            if plain and not inside and key is not None:
                self.constants.setdefault(task, {})[key] = value
                return
            if plain and inside and key is None and is_a(value, (list, tuple, set, frozenset)):
                # To wait for a list is to wait for its members; the list itself is not needed.
                for member in value:
                    self._feed(task, None, allow_failure(member) if failure_allowed else member, maps, validate)
                return
            value = collected(value, self, maps and not flattened, failure_allowed) if inside else self._constant(value)
        self.insert(Edge(self._admit(value), task, key, maps, flattened, failure_allowed), validate)

    def _constant(self, value: Any) -> Constant:
        """Return a constant; of an iterator the existing one, since all that map over it read the same items."""
        known = self.slugs if is_iterator(value) else ()
        same = [task for task in known if isinstance(task, Constant) and task.value is value]
        return same[0] if same else Constant(value)

    def replace(self, old: Task, new: Any, validate: bool | None = None) -> None:
        """Put a task, or a value, in the place of a task.

        Parameters
        ----------
        old
            A task of the flow.
        new
            A task takes over edges, slug, constants and reference; a value becomes a constant of the tasks downstream.
        validate
            As for :meth:`add_edge`.

        Raises
        ------
        FlowDefinitionError
            If `old` is not in the flow, or the new edges make no sense.
        """
        self.own(old)
        if isinstance(new, Task) or holds_tasks(new):
            put = as_task(new, self)
            self.swap(old, put, keeps=lambda edge: True)
        else:
            put = Constant(new)
            self.swap_constant(old, put)
        chosen = [put if task is old else task for task in self._references]
        self._references = dict.fromkeys(task for task in chosen if task in self.slugs)
        if validate if validate is not None else self._validates:
            self.validate()
