"""A flow: tasks, the edges between them and the constants they take, recorded by calls or by hand.

A flow only records. Order and cycles are :mod:`prefectish.graphs`, what a run makes of it is the engine's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, KeysView, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

from prefectish import config, graphs
from prefectish.edges import Edge, unwrap
from prefectish.engine.context import Overlay, context, current
from prefectish.engine.handlers import on_failure_handler
from prefectish.errors import FlowDefinitionError
from prefectish.parameters import Parameter, settle
from prefectish.slugs import SlugBook
from prefectish.tasks.collections import Constant, as_task, holds_tasks
from prefectish.tasks.mapping import check_mappable
from prefectish.tasks.options import handler_list
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from prefectish.engine.state import State

Item = TypeVar("Item")


class Flow:
    """A graph of tasks that is run as one.

    Parameters
    ----------
    name
        Not empty.
    tasks, edges
        What it begins with.
    reference_tasks
        The tasks whose states decide the flow's; default: the terminal tasks.
    state_handlers
        Called in order at each change of the flow's state with (flow, old state, new state).
    on_failure
        Called with (flow, state) when it failed.
    terminal_state_handler
        Called with (flow, state, states of the reference tasks); may return another final state.
    executor
        Default of :meth:`run`.
    validate
        Whether each new edge is checked for cycles at once; otherwise ordering and running find them.

    Raises
    ------
    ValueError
        If the name is empty.
    """

    def __init__(
        self,
        name: str,
        *,
        tasks: Iterable[Task] | None = None,
        edges: Iterable[Edge] | None = None,
        reference_tasks: Iterable[Task] | None = None,
        state_handlers: Iterable[Callable[..., Any]] | None = None,
        on_failure: Callable[..., Any] | None = None,
        terminal_state_handler: Callable[..., Any] | None = None,
        executor: Any = None,
        validate: bool = False,
    ) -> None:
        if not name:
            raise FlowDefinitionError(f"a flow needs a name, got {name!r}")
        self.name = name
        self.executor = executor
        self.state_handlers = handler_list("state_handlers", state_handlers)
        if on_failure is not None:
            self.state_handlers += [on_failure_handler(f) for f in handler_list("on_failure", [on_failure])]
        if terminal_state_handler is not None:
            handler_list("terminal_state_handler", [terminal_state_handler])
        self.terminal_state_handler = terminal_state_handler
        #: Slug of each task.
        self.slugs: dict[Task, str] = {}
        #: For a task the arguments that are constants; tasks without any are left out.
        self.constants: dict[Task, dict[str, Any]] = {}
        self._edges: dict[Edge, None] = {}
        self._into: dict[Task, list[Edge]] = {}
        self._out_of: dict[Task, list[Edge]] = {}
        self._slug_book = SlugBook()
        self._references: dict[Task, None] = {}
        self._validates = validate
        self._open: list[Overlay] = []
        self._unused: dict[Task, None] = {}
        for task in tasks or ():
            self.add_task(task)
        for edge in edges or ():
            self._add(edge)
        self.set_reference_tasks(reference_tasks or ())
        if validate:
            self.validate()

    # ------------------------------------------------------------------ reading

    @property
    def tasks(self) -> KeysView[Task]:
        """The tasks in the order in which they came."""
        return self.slugs.keys()

    @property
    def edges(self) -> KeysView[Edge]:
        """The edges in the order in which they came."""
        return self._edges.keys()

    def edges_to(self, task: Task) -> list[Edge]:
        """Return the edges into a task of the flow."""
        return self._into[self._own(task)]

    def edges_from(self, task: Task) -> list[Edge]:
        """Return the edges out of a task of the flow."""
        return self._out_of[self._own(task)]

    def upstream_tasks(self, task: Task) -> KeysView[Task]:
        """Return the tasks that a task waits for."""
        return _ordered(edge.upstream_task for edge in self.edges_to(task))

    def downstream_tasks(self, task: Task) -> KeysView[Task]:
        """Return the tasks that wait for a task."""
        return _ordered(edge.downstream_task for edge in self.edges_from(task))

    def root_tasks(self) -> KeysView[Task]:
        """Return the tasks that wait for none."""
        return _ordered(task for task, edges in self._into.items() if not edges)

    def terminal_tasks(self) -> KeysView[Task]:
        """Return the tasks that none waits for."""
        return _ordered(task for task, edges in self._out_of.items() if not edges)

    def parameters(self) -> KeysView[Parameter]:
        """Return the parameters of the flow."""
        return _ordered(task for task in self.slugs if isinstance(task, Parameter))

    def reference_tasks(self) -> KeysView[Task]:
        """Return the tasks whose states decide the flow's."""
        return self._references.keys() if self._references else self.terminal_tasks()

    def set_reference_tasks(self, tasks: Iterable[Task]) -> None:
        """Choose the tasks whose states decide the flow's; none: the terminal tasks.

        Raises
        ------
        FlowDefinitionError
            If one of them is not in the flow.
        """
        chosen = dict.fromkeys(tasks)
        for task in chosen:
            self._own(task)
        self._references = chosen

    def get_tasks(
        self,
        name: str | None = None,
        slug: str | None = None,
        tags: Iterable[str] | None = None,
        task_type: type[Task] | None = None,
    ) -> list[Task]:
        """Return the tasks that fit all criteria: name, slug, all of the tags, class."""
        wanted = frozenset(tags or ())
        return [
            task
            for task, own_slug in self.slugs.items()
            if (name is None or task.name == name)
            and (slug is None or own_slug == slug)
            and wanted <= task.tags
            and (task_type is None or isinstance(task, task_type))
        ]

    def sorted_tasks(self) -> list[Task]:
        """Return the tasks so that each comes after those it waits for.

        Raises
        ------
        FlowDefinitionError
            ``cycle: a -> b -> a``.
        """
        return graphs.order(self.slugs, lambda task: (e.upstream_task for e in self._into[task]), self._label)

    def validate(self) -> None:
        """Check the flow for cycles.

        Raises
        ------
        FlowDefinitionError
            ``cycle: a -> b -> a``.
        """
        self.sorted_tasks()

    def __contains__(self, task: object) -> bool:
        return task in self.slugs

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, Flow):
            return NotImplemented
        return (self.name, self.tasks, self.edges, self.reference_tasks()) == (
            other.name,
            other.tasks,
            other.edges,
            other.reference_tasks(),
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Flow: name={self.name}>"

    # ------------------------------------------------------------------ recording

    def __enter__(self) -> Self:
        overlay = context(flow=self)
        overlay.__enter__()
        self._open.append(overlay)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._open.pop().__exit__()
        unused, self._unused = [t for t in self._unused if not t.auto_generated], {}
        if kind is None and unused:
            names = ", ".join(map(repr, unused))
            warnings.warn(
                f"tasks were created but not added to {self!r}: {names}; call them, or use flow.add_task", stacklevel=2
            )

    def note_created(self, task: Task) -> None:
        """Remember a task that was made in the flow's block, to warn if it never comes into the flow."""
        self._unused[task] = None

    def note_used(self, task: Task) -> None:
        """Forget a task that was added, or copied by a call."""
        self._unused.pop(task, None)

    def add_task(self, task: Task) -> Task:
        """Add a task, if it is not there yet, and return it.

        Raises
        ------
        TypeError
            If it is no task.
        FlowDefinitionError
            If another task has its explicit slug.
        """
        if not isinstance(task, Task):
            raise TypeError(f"{self!r}: a Task is wanted, got {task!r}")
        if task in self.slugs:
            return task
        if task.slug is None:
            slug = self._slug_book.make(task.name, task.tags)
        else:
            slug = task.slug
            if not self._slug_book.take(slug):
                raise FlowDefinitionError(f"{self!r}: {task!r} has the slug {slug!r}, which another task has already")
        self.slugs[task] = slug
        self._into[task] = []
        self._out_of[task] = []
        self.note_used(task)
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

        Raises
        ------
        FlowDefinitionError
            If it would join a task with itself, lead into a parameter, give an argument twice, or (validating) close a
            cycle.
        """
        upstream_task = as_task(upstream_task, self)
        edge = Edge(upstream_task, downstream_task, key, mapped, flattened)
        return self._add(edge, validate)

    def _add(self, edge: Edge, validate: bool | None = None) -> Edge:
        if edge in self._edges:
            return edge
        into: Task = edge.downstream_task
        if edge.upstream_task is into:
            raise FlowDefinitionError(graphs.cycle_text([into.name]))
        if isinstance(into, Parameter):
            raise FlowDefinitionError(f"{into!r} cannot wait for {edge.upstream_task!r}: its value is there at the start")
        self.add_task(edge.upstream_task)
        self.add_task(into)
        validate = self._validates if validate is None else validate
        if validate and edge.key is not None and edge.key in {e.key for e in self._into[into]}:
            raise FlowDefinitionError(f"{into!r}: the argument {edge.key!r} has an edge already")
        self._edges[edge] = None
        self._into[into].append(edge)
        self._out_of[edge.upstream_task].append(edge)
        if validate:
            self.validate()
        return edge

    def chain(self, *tasks: Any, validate: bool | None = None) -> list[Edge]:
        """Let each task wait for the one before it, and return the edges."""
        nodes = [as_task(task, self) for task in tasks]
        return [self.add_edge(a, b, validate=validate) for a, b in zip(nodes, nodes[1:], strict=False)]

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
            By argument: a task whose result it is, or a value; a value on an unmapped argument is kept in `constants`.
        mapped
            Whether upstream edges map, where no wrapper says otherwise.
        validate
            Whether to check for cycles now.

        Raises
        ------
        FlowDefinitionError
            As for :meth:`add_edge`; and if a task is the result of a call in another flow.
        TypeError
            If a constant is to be mapped over and cannot be.
        """
        task = self.add_task(as_task(task, self))
        for name, value in (keyword_tasks or {}).items():
            self._feed(task, name, value, mapped, validate)
        for value in _several("upstream_tasks", upstream_tasks):
            self._feed(task, None, value, mapped, validate)
        for value in _several("downstream_tasks", downstream_tasks):
            self._feed(self.add_task(as_task(value, self)), None, task, mapped, validate)
        return task

    def _feed(self, task: Task, key: str | None, value: Any, mapped: bool, validate: bool | None) -> None:
        value, wish, flattened, failure_allowed = unwrap(value)
        maps = mapped if wish is None else wish
        if isinstance(value, Task):
            self._refuse_foreign(value)
        else:
            if maps:
                check_mappable(value, task.name, "upstream_tasks" if key is None else f"argument {key!r}")
            if key is not None and not maps and not flattened and not holds_tasks(value):
                self.constants.setdefault(task, {})[key] = value
                return
            value = as_task(value, self)
        self._add(Edge(value, task, key, maps, flattened, failure_allowed), validate)

    def _refuse_foreign(self, task: Task) -> None:
        if task._home is not None and task not in self.slugs:
            flow, slug, name = task._home
            if flow() is not self:
                raise FlowDefinitionError(
                    f"task {slug} belongs to flow {name}: what it returns there is not known in {self!r}; call the task "
                    f"again here, or pass the value as a Parameter"
                )

    def _own(self, task: Task) -> Task:
        if task not in self.slugs:
            raise FlowDefinitionError(f"{task!r} is not in {self!r}")
        return task

    def _label(self, task: Task) -> str:
        return task.name

    # ------------------------------------------------------------------ changing as a whole

    def copy(self) -> Self:
        """Return a flow of the same tasks that can be changed by itself."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.state_handlers = list(self.state_handlers)
        new.slugs = dict(self.slugs)
        new.constants = {task: dict(values) for task, values in self.constants.items()}
        new._edges = dict(self._edges)
        new._into = {task: list(edges) for task, edges in self._into.items()}
        new._out_of = {task: list(edges) for task, edges in self._out_of.items()}
        new._slug_book = self._slug_book.copy()
        new._references = dict(self._references)
        new._open = []
        new._unused = {}
        return new

    __copy__ = copy

    # ------------------------------------------------------------------ running

    def run(
        self,
        parameters: Mapping[str, Any] | None = None,
        *,
        executor: Any = None,
        context: Mapping[str, Any] | None = None,
        task_states: Mapping[Task, State] | None = None,
        state: State | None = None,
        flow_run_name: str | None = None,
        **parameter_values: Any,
    ) -> State:
        """Run the flow and return its state, whose result maps each task to its state.

        Parameters
        ----------
        parameters, **parameter_values
            Values of parameters by name.
        executor
            Default: the flow's, else the configured one, else this process.
        context
            Values that bodies find in `prefectish.context`.
        task_states
            States from a former run: finished tasks are not run again.
        state
            The state to begin with; a finished one is returned as it is.
        flow_run_name
            A name for this run.

        Raises
        ------
        ParameterError
            ``missing: x; unknown: y``.
        FlowDefinitionError
            ``cycle: a -> b -> a``.
        RuntimeError
            Inside a flow's `with` block.
        """
        active = current().get("flow")
        if active is not None:
            raise RuntimeError(f"{self!r}.run() inside `with {active!r}`: run it after the block")
        given = {**(parameters or {}), **parameter_values}
        elsewhere = {**(current().get("parameters") or {}), **((context or {}).get("parameters") or {})}
        values = settle(self.parameters(), given, elsewhere)
        if state is not None and state.is_finished():
            return state
        from prefectish.engine.drive import run_flow

        return run_flow(
            self,
            parameters=values,
            executor=executor or self.executor or config.default_executor(),
            context=context,
            task_states=task_states,
            state=state,
            flow_run_name=flow_run_name,
        )


def _ordered(items: Iterable[Item]) -> KeysView[Item]:
    """Return a set that keeps its order."""
    return dict.fromkeys(items).keys()


def _several(name: str, tasks: Iterable[Any] | None) -> Iterable[Any]:
    if isinstance(tasks, Task):
        raise TypeError(f"{name}={tasks!r}: a list of tasks is wanted; pass [{tasks.name}]")
    return tasks or ()
