"""`apply_map`: turn a function that builds tasks for one item into a pipeline of maps.

The function is called once. Its calls are recorded in an inner flow, where its arguments are placeholders
(:class:`Item`); then the tasks are moved to the real flow, and each edge between them, or from a mapped argument,
becomes a mapped edge.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from prefectish.control_flow.blocks import active_flow, function_run, roots
from prefectish.edges import Annotation, Edge, flattened_once, unwrap
from prefectish.engine.context import context
from prefectish.errors import FlowDefinitionError
from prefectish.kinds import is_a
from prefectish.parameters import Parameter
from prefectish.tasks.collections import Constant, Flattened, as_task, holds_tasks
from prefectish.tasks.mapping import Unmappable, is_iterator, width_of
from prefectish.tasks.recording import Home
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from prefectish.tasks.recording import RecordingFlow


class Item(Task):
    """Placeholder for an argument while the function builds tasks: for one item of it, or for the whole if unmapped."""

    auto_generated = True

    def __new__(cls, *_: Any) -> Self:
        """Create an instance without the usual warning about tasks as arguments."""
        return object.__new__(cls)

    def __init__(self, source: Task, maps: bool, flattened: bool, failure_allowed: bool) -> None:
        self.source = source  # the task of the real flow
        # Properties of the edges out of the source.
        self.maps = maps
        self.flattened = flattened
        self.failure_allowed = failure_allowed
        super().__init__(source.name, nout=None if maps else source.nout)

    def edge_to(self, task: Task, key: str | None = None) -> Edge:
        """Return the edge of the real flow from the source."""
        return Edge(self.source, task, key, self.maps, self.flattened, self.failure_allowed)


def apply_map(func: Callable[..., Any], *args: Any, flow: RecordingFlow | None = None, **kwargs: Any) -> Any:
    """Run a pipeline of tasks, built by a function for one item, for each item of the arguments.

    Like `map`, but for a pipeline of several tasks: every item passes through it independently, without
    waiting for others. `case`, `switch`, `merge` and resource managers in the function apply to each item. Tasks of
    the enclosing flow that the function uses without receiving them as arguments are the same for every item, like its
    constants. In a flow function the maps are submitted, and their futures returned.

    Parameters
    ----------
    func
        Called once, with a placeholder for an item of each argument; it must not map anything itself.
    *args, **kwargs
        Tasks or sequences, mapped over unless they are `unmapped(...)`; or annotated values. Every first task of the
        pipeline waits for all of them, unmapped constants excepted.
    flow
        Default: the flow whose `with` block is open.

    Returns
    -------
    Any
        What the function returns; tasks in it are maps of the flow.

    Raises
    ------
    TypeError
        If an argument cannot be mapped over.
    FlowDefinitionError
        If there is no flow; if the function maps or flattens an item.

    Examples
    --------
    >>> from prefectish import Flow, apply_map, case, merge, task
    >>> half = task(lambda x: x // 2, name="half")
    >>> def step(x):
    ...     with case(x % 2, 0):
    ...         even = half(x)
    ...     with case(x % 2, 1):
    ...         odd = 3 * x + 1
    ...     return merge(even, odd)
    >>> with Flow("collatz") as flow:
    ...     after = apply_map(step, [6, 3, 10])
    >>> flow.run().result[after].result
    [3, 10, 5]
    """
    if flow is None and (run := function_run()) is not None:
        return run.apply_map(func, args, kwargs)
    pipeline = _Pipeline(active_flow(flow, "apply_map"), getattr(func, "__name__", type(func).__name__))
    positional = [pipeline.admit(f"argument {i}", value) for i, value in enumerate(args)]
    named = {name: pipeline.admit(f"argument {name!r}", value) for name, value in kwargs.items()}
    # Enclosing blocks are notified when the tasks are moved to the real flow.
    with context(block=None), pipeline.inner:
        for item in pipeline.items:
            # Added before the function opens blocks, which would count them as their own tasks.
            pipeline.inner.add_task(item)
        result = func(*positional, **named)
    pipeline.move()
    return _without_items(result)


class _Pipeline:
    """The tasks that the function creates, before they are moved to the real flow."""

    def __init__(self, flow: RecordingFlow, name: str) -> None:
        self.flow = flow
        self.label = f"apply_map({name})"
        self.inner = flow.inner(self.label)
        self.items: list[Item] = []

    def admit(self, where: str, value: Any) -> Any:
        """Return what the function receives for an argument."""
        value = flattened_once(value, lambda inner: Flattened().bind(inner, mapped=True, flow=self.flow))
        bare, wish, flattened, failure_allowed = unwrap(value)
        maps = wish is not False
        if maps and not is_a(bare, Task):
            _check_sequence(bare, f"{self.label}: {where}")
        if not maps and not is_a(bare, Task) and not holds_tasks(bare) and not flattened:
            return bare
        source = as_task(bare, self.flow)
        self.items.append(Item(source, maps, flattened, failure_allowed))
        return self.items[-1]

    def move(self) -> None:
        """Move the recorded tasks and edges to the real flow."""
        own = {task: None for task in self.inner.tasks if self._is_own(task)}
        edges = [self._real_edge(edge, own) for edge in self.inner.edges]
        for task in own:
            self.flow.add_task(task)
            if task._home is not None:
                task._home = Home(weakref.ref(self.flow), self.flow.slugs[task], self.flow.name)
            if task in self.inner.constants:
                self.flow.constants.setdefault(task, {}).update(self.inner.constants[task])
            if task in self.inner.positions:
                self.flow.positions[task] = self.inner.positions[task]
        for edge in edges:
            self.flow.insert(edge)
        for task in roots(self.flow, {task: None for task in own if not isinstance(task, Constant)}):
            self._tie_to_arguments(task)

    def _is_own(self, task: Task) -> bool:
        if isinstance(task, Item) and task in self.flow:
            raise FlowDefinitionError(f"{self.label}: {task!r} stands for an item here; do not pass flow= inside")
        return not isinstance(task, Item | Parameter) and task not in self.flow

    def _real_edge(self, edge: Edge, own: dict[Task, None]) -> Edge:
        up, down = edge.upstream_task, edge.downstream_task
        if isinstance(up, Item):
            real = up.edge_to(down, edge.key)
        else:
            real = Edge(up, down, edge.key, up in own and not isinstance(up, Constant) and self._maps)
        self._refuse_maps_inside(edge, real, own)
        flattened = real.flattened or edge.flattened
        return Edge(
            real.upstream_task, down, edge.key, real.mapped, flattened, real.allow_failure or edge.allow_failure
        )

    def _refuse_maps_inside(self, edge: Edge, real: Edge, own: dict[Task, None]) -> None:
        up, down = edge.upstream_task, edge.downstream_task
        if down not in own:
            raise FlowDefinitionError(
                f"{self.label}: {down!r} belongs to the enclosing flow, so it cannot wait for {up!r}"
            )
        if edge.mapped:
            raise FlowDefinitionError(
                f"{self.label}: {down.name} maps over {up.name} inside, where each task already runs once per item; "
                f"call it plainly, or map it outside over flatten(...) of what the function returns"
            )
        if edge.flattened and (real.mapped or real.flattened):
            raise FlowDefinitionError(
                f"{self.label}: {down.name} flattens {up.name} inside, where it is one item; do that in a task, or "
                f"outside: apply_map(..., flatten(...))"
            )

    @property
    def _maps(self) -> bool:
        return any(item.maps for item in self.items)

    def _tie_to_arguments(self, task: Task) -> None:
        """Make a first task depend on every argument, so that it has the right number of children."""
        known = {(e.upstream_task, e.mapped, e.flattened) for e in self.flow.edges_to(task)}
        for item in self.items:
            if (item.source, item.maps, item.flattened) not in known:
                self.flow.insert(item.edge_to(task))


def _check_sequence(value: Any, where: str) -> None:
    try:
        width_of(value)
    except Unmappable as error:
        way_out = "list(...) of it" if is_iterator(value) else error.way_out
        raise TypeError(
            f"{where} is a non-sequence object of type {error.kind}, which cannot be mapped over: pass {way_out}; or "
            f"pass a task, or unmapped({error.kind} value)"
        ) from error.__cause__


def _without_items(result: Any) -> Any:
    """Replace placeholders by the sources of the arguments in what the function returned."""
    if is_a(result, Item):
        return result.source
    if is_a(result, Annotation):
        return type(result)(_without_items(result.value))
    if type(result) is dict:
        return {key: _without_items(value) for key, value in result.items()}
    if type(result) in (list, set):
        return type(result)(map(_without_items, result))
    if is_a(result, tuple):
        return getattr(result, "_make", tuple)(map(_without_items, result))
    return result
