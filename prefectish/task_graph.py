"""The tasks of a flow and the edges between them: an ordered graph with an index in both directions.

Calls and runs are handled by :mod:`prefectish.flows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, KeysView
from operator import attrgetter
from typing import Any, TypeVar

from prefectish.control_flow.resources import default_references
from prefectish.edges import Annotation, Edge
from prefectish.errors import FlowDefinitionError
from prefectish.graphs import cycle_text, order
from prefectish.kinds import is_a
from prefectish.parameters import Parameter
from prefectish.slugs import SlugBook, labels_of_tasks
from prefectish.tasks.collections import Constant
from prefectish.tasks.mapping import check_constant, check_mappable
from prefectish.tasks.task import Task

Item = TypeVar("Item")


def ordered(items: Iterable[Item]) -> KeysView[Item]:
    """Return a set that keeps its order.

    Examples
    --------
    >>> list(ordered("caba")), ordered("caba") == {"a", "b", "c"}
    (['c', 'a', 'b'], True)
    """
    return dict.fromkeys(items).keys()


class TaskGraph:
    """Tasks with slugs, edges and constants.

    Parameters
    ----------
    validate
        Whether to check the graph after each new edge.
    """

    def __init__(self, validate: bool = False) -> None:
        #: Slug of each task.
        self.slugs: dict[Task, str] = {}
        #: Constant arguments by task; only tasks that have some.
        self.constants: dict[Task, dict[str, Any]] = {}
        #: Names of the arguments that were given by position, by task.
        self.positions: dict[Task, tuple[str, ...]] = {}
        self._edges: dict[Edge, None] = {}
        self._into: dict[Task, list[Edge]] = {}
        self._out_of: dict[Task, list[Edge]] = {}
        self._slug_book = SlugBook()
        self._references: dict[Task, None] = {}
        self._validates = validate

    @property
    def tasks(self) -> KeysView[Task]:
        """The tasks in the order in which they were added."""
        return self.slugs.keys()

    @property
    def edges(self) -> KeysView[Edge]:
        """The edges in the order in which they were added."""
        return self._edges.keys()

    def edges_to(self, task: Task) -> KeysView[Edge]:
        """Return the edges into a task of the flow."""
        return ordered(self._into[self.own(task)])

    def edges_from(self, task: Task) -> KeysView[Edge]:
        """Return the edges out of a task of the flow."""
        return ordered(self._out_of[self.own(task)])

    def upstream_tasks(self, task: Task) -> KeysView[Task]:
        """Return the tasks that a task waits for."""
        return ordered(edge.upstream_task for edge in self.edges_to(task))

    def downstream_tasks(self, task: Task) -> KeysView[Task]:
        """Return the tasks that wait for a task."""
        return ordered(edge.downstream_task for edge in self.edges_from(task))

    def root_tasks(self) -> KeysView[Task]:
        """Return the tasks without upstream tasks."""
        return ordered(task for task, edges in self._into.items() if not edges)

    def terminal_tasks(self) -> KeysView[Task]:
        """Return the tasks without downstream tasks."""
        return ordered(task for task, edges in self._out_of.items() if not edges)

    def parameters(self) -> KeysView[Parameter]:
        """Return the parameters of the flow."""
        return ordered(task for task in self.slugs if isinstance(task, Parameter))

    def get_tasks(
        self,
        name: str | None = None,
        slug: str | None = None,
        tags: Iterable[str] | None = None,
        task_type: type[Task] | None = None,
    ) -> list[Task]:
        """Return the tasks that match all criteria: name, slug, all of the tags, class."""
        all_tags = frozenset(tags or ())
        return [
            task
            for task, own_slug in self.slugs.items()
            if (name is None or task.name == name)
            and (slug is None or own_slug == slug)
            and all_tags <= task.tags
            and (task_type is None or isinstance(task, task_type))
        ]

    def sorted_tasks(self, root_tasks: Iterable[Task] | None = None) -> list[Task]:
        """Return the tasks in topological order.

        Parameters
        ----------
        root_tasks
            If given, only these tasks and those downstream of them.

        Raises
        ------
        FlowDefinitionError
            ``cycle: a -> b -> a``.
        """
        tasks = order(self.slugs, lambda task: (edge.upstream_task for edge in self._into[task]), attrgetter("name"))
        if root_tasks is None:
            return tasks
        found = {self.own(task) for task in root_tasks}
        for task in tasks:  # in this order, upstream tasks come first
            if any(edge.upstream_task in found for edge in self._into[task]):
                found.add(task)
        return [task for task in tasks if task in found]

    def validate(self) -> None:
        """Check the flow as a whole.

        Raises
        ------
        FlowDefinitionError
            ``cycle: a -> b -> a``; or if an argument has several sources.
        """
        self.sorted_tasks()
        for task, edges in self._into.items():
            keys: set[str] = set()
            for edge in edges:
                if edge.key in keys:
                    sources = " and ".join(each.upstream_task.name for each in edges if each.key == edge.key)
                    raise FlowDefinitionError(
                        f"{labels_of_tasks(self.slugs)[task]}: argument {edge.key!r} has several sources: {sources}"
                    )
                if edge.key is not None:
                    keys.add(edge.key)

    def own(self, task: Task) -> Task:
        """Return the task if it is in the flow; FlowDefinitionError if not."""
        if task not in self.slugs:
            raise FlowDefinitionError(f"{task!r} is not in {self!r}; add it with add_task, or call it in the flow")
        return task

    def __contains__(self, task: object) -> bool:
        return task in self.slugs

    def add_task(self, task: Task) -> Task:
        """Add a task, if it is not in the flow yet, and return it.

        Raises
        ------
        TypeError
            If it is not a task.
        FlowDefinitionError
            If its explicit slug is used by another task.
        """
        if not isinstance(task, Task):
            raise TypeError(f"{self!r}: expected a Task, got {task!r}")
        if task in self.slugs:
            return task
        slug = task.slug
        if slug is None:
            slug = self._slug_book.make(task.name, task.tags)
        elif not self._slug_book.take(slug):
            hint = "use one Parameter in all places" if isinstance(task, Parameter) else "give it another slug="
            raise FlowDefinitionError(f"{self!r}: the slug {slug!r} of {task!r} is used by another task; {hint}")
        self.slugs[task] = slug
        self._into[task] = []
        self._out_of[task] = []
        return task

    def insert(self, edge: Edge, validate: bool | None = None) -> Edge:
        """Add an edge and the tasks at its ends; one that the flow has stays as it is.

        Raises FlowDefinitionError if it connects a task with itself or leads into a parameter; or as :meth:`validate`.
        """
        if not isinstance(edge, Edge):
            raise TypeError(f"{self!r}: expected an Edge(upstream, downstream), got {edge!r}")
        if edge in self._edges:
            return edge
        _check_ends(edge)
        upstream, downstream = self.add_task(edge.upstream_task), self.add_task(edge.downstream_task)
        self._edges[edge] = None
        self._into[downstream].append(edge)
        self._out_of[upstream].append(edge)
        if edge.key is not None and downstream in self.constants:
            self.constants[downstream].pop(edge.key, None)
        if self._validates if validate is None else validate:
            self.validate()
        return edge

    def swap(self, old: Task, new: Task, keeps: Callable[[Edge], bool]) -> None:
        """Replace a task: the new one takes over its slug, its constants and the edges accepted by `keeps`.

        Raises FlowDefinitionError, and changes nothing, if an edge between the two would connect the new one with
        itself.
        """
        edges = [_redirected(edge, old, new) for edge in self._edges if keeps(edge)]
        for edge in edges:
            _check_ends(edge)
        slug = self.slugs[old]
        if new in self.slugs:
            del self.slugs[old]
            self._slug_book.free(slug)
        else:
            self.slugs = {new if task is old else task: name for task, name in self.slugs.items()}
        constants = {**self.constants.pop(old, {}), **self.constants.get(new, {})}
        if constants:
            self.constants[new] = constants
        if old in self.positions:
            self.positions.setdefault(new, self.positions.pop(old))
        self._reindex(edges)

    def discard(self, task: Task) -> None:
        """Remove a task with its edges and constants."""
        self._slug_book.free(self.slugs.pop(task))
        self.constants.pop(task, None)
        self.positions.pop(task, None)
        self._reindex(
            [edge for edge in self._edges if task is not edge.upstream_task and task is not edge.downstream_task]
        )

    def _reindex(self, edges: Iterable[Edge]) -> None:
        self._edges = dict.fromkeys(edges)
        self._into = {task: [] for task in self.slugs}
        self._out_of = {task: [] for task in self.slugs}
        for edge in self._edges:
            self._into[edge.downstream_task].append(edge)
            self._out_of[edge.upstream_task].append(edge)

    def reference_tasks(self) -> KeysView[Task]:
        """Return the tasks whose states decide the flow's: those chosen, else the last ones, clean-up not counted."""
        return self._references.keys() if self._references else default_references(self)

    def set_reference_tasks(self, tasks: Iterable[Task]) -> None:
        """Choose the tasks whose states decide the flow's; none: the terminal tasks.

        Raises
        ------
        FlowDefinitionError
            If one of them is not in the flow.
        TypeError
            If it is not a list of tasks.
        """
        self._references = dict.fromkeys(map(self.own, task_list("reference_tasks", tasks)))

    def update(
        self,
        flow: TaskGraph,
        merge_parameters: bool = False,
        validate: bool | None = None,
        merge_reference_tasks: bool = False,
    ) -> None:
        """Add all tasks, edges and constants of another flow.

        Parameters
        ----------
        flow
            It stays as it is.
        merge_parameters
            Whether a parameter whose name is here already becomes the one that is here.
        validate
            As for :meth:`add_edge`.
        merge_reference_tasks
            Whether its reference tasks join those of this flow; otherwise an explicit choice here stays as it is.

        Raises
        ------
        FlowDefinitionError
            If two tasks have one explicit slug, as two parameters of one name do.
        """
        both = (*self.reference_tasks(), *flow.reference_tasks())
        ours = {p.name: p for p in self.parameters()} if merge_parameters else {}
        here: dict[Task, Task] = {p: ours[p.name] for p in flow.parameters() if p.name in ours}
        for task in flow.tasks:
            self.add_task(here.setdefault(task, task))
        for e in flow.edges:
            ends = here[e.upstream_task], here[e.downstream_task]
            self.insert(Edge(*ends, e.key, e.mapped, e.flattened, e.allow_failure), validate)
        for task, values in flow.constants.items():
            self.constants.setdefault(task, {}).update(values)
        self.positions.update(flow.positions)
        if merge_reference_tasks:
            self.set_reference_tasks(here.get(task, task) for task in both)

    def swap_constant(self, old: Task, constant: Constant) -> None:
        """Put a value in the place of a task: with the tasks that take it; maps and flattened edges need a task of it.

        Raises
        ------
        FlowDefinitionError
            The new edges make no sense.
        TypeError
            A map cannot go over the value, or no task takes it.
        """
        out = self.edges_from(old)
        for edge in out:
            check = check_mappable if edge.mapped else check_constant
            check(constant.value, edge.downstream_task.name, f"argument {edge.key!r}")
        self.constants.pop(old, None)
        self.positions.pop(old, None)
        if any(edge.mapped or edge.flattened for edge in out):
            self.swap(
                old,
                constant,
                keeps=lambda e: (
                    e.downstream_task is not old and (e.upstream_task is not old or e.mapped or e.flattened)
                ),
            )
        else:
            self.discard(old)
        for edge in out:
            if edge.key is not None and not edge.mapped and not edge.flattened:
                self.constants.setdefault(edge.downstream_task, {})[edge.key] = constant.value

    def detach(self) -> None:
        """Copy the containers of a shallow copy."""
        self.slugs = dict(self.slugs)
        self.constants = {task: dict(values) for task, values in self.constants.items()}
        self.positions = dict(self.positions)
        self._references = dict(self._references)
        self._slug_book = self._slug_book.copy()
        self._reindex(self._edges)


def task_list(name: str, tasks: Iterable[Any] | None) -> Iterable[Any]:
    """Return a list of tasks that was given as an argument of this name, None for no tasks; TypeError if it is none."""
    if is_a(tasks, Annotation):
        return [tasks]
    if isinstance(tasks, Task):
        raise TypeError(f"{name} must be a list of tasks, got {tasks!r}; pass [{tasks.name}]")
    if tasks is not None and not isinstance(tasks, Iterable):
        raise TypeError(f"{name} must be a list of tasks, got {tasks!r}")
    return tasks or ()


def check_results(flow: Any, maps_only: bool = False) -> None:
    """Check the names of results, if any were chosen: most flows never import what checks them."""
    names = (flow.result, *(chosen for task in flow.tasks for chosen in (task.result, task.target, task.item_key)))
    if any(name is not None for name in names):
        from prefectish.results.checks import check_maps, check_names

        (check_maps if maps_only else check_names)(flow)


def _check_ends(edge: Edge) -> None:
    downstream = edge.downstream_task
    if edge.upstream_task is downstream:
        raise FlowDefinitionError(cycle_text([downstream.name]))
    if isinstance(downstream, Parameter):
        raise FlowDefinitionError(
            f"{downstream!r} cannot wait for {edge.upstream_task!r}: parameters are set before a run begins"
        )


def _redirected(edge: Edge, old: Task, new: Task) -> Edge:
    up, down = edge.upstream_task, edge.downstream_task
    if old is not up and old is not down:
        return edge
    ends = (new if up is old else up, new if down is old else down)
    return Edge(*ends, edge.key, edge.mapped, edge.flattened, edge.allow_failure)
