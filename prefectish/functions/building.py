"""What a graph is built with, in a flow function: `product`, and the pipeline of tasks of `apply_map`.

A pipeline is recorded as in ``with Flow(...)``, and its tasks are then submitted as maps, one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prefectish.control_flow.products import Length, MakeColumn, check_input, column
from prefectish.control_flow.submaps import apply_map as record_map
from prefectish.edges import Annotation, Edge, allow_failure, flatten, mapped, unmapped, unwrap
from prefectish.engine.context import context
from prefectish.engine.state import State
from prefectish.flows import Flow
from prefectish.functions.arguments import holds_futures
from prefectish.functions.futures import MapFuture, TaskFuture
from prefectish.kinds import is_a
from prefectish.members import rebuilt
from prefectish.tasks.call_options import CallOptions
from prefectish.tasks.collections import Constant
from prefectish.tasks.reductions import no_map
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from prefectish.functions.function_run import FunctionRun


def product(run: FunctionRun, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return columns to map over together: lists where the inputs are known, futures of them where they are not."""
    for position, value in enumerate(inputs):
        check_input(value, f"product: input {position}", later=_is_future)
    lengths: dict[int, Any] = {}
    for place, value in enumerate(inputs if len(inputs) > 1 else ()):
        bare = unwrap(value).value
        lengths[place] = _step(run, Length(), value) if _is_future(value) else len(bare)
    return tuple(_column(run, value, position, lengths) for position, value in enumerate(inputs))


def _is_future(value: Any) -> bool:
    """Whether not even the number of items is known: they are those of a future, or one level down."""
    bare, _, flattened, _ = unwrap(value)
    return flattened or is_a(bare, (TaskFuture, MapFuture, State))


def _is_later(value: Any) -> bool:
    """Whether the items are not there yet."""
    return unwrap(value).flattened or holds_futures(value)


def _column(run: FunctionRun, value: Any, position: int, lengths: dict[int, Any]) -> Any:
    others = {place: length for place, length in lengths.items() if place != position}
    if _is_later(value) or any(not isinstance(length, int) for length in others.values()):
        named = {f"length_{place}": length for place, length in others.items()}
        return _step(run, MakeColumn(position), value, named)
    return column(unwrap(value).value, others, position)


def _step(run: FunctionRun, task: Task, value: Any, named: dict[str, Any] | None = None) -> Any:
    """Submit a step in between; its failure need not be read, since the map over it has it too."""
    future: Any = run.submit(task, (value,), named or {}, CallOptions())
    future._outcome.read = True
    return future


def reduced_map(name: str, value: Any) -> MapFuture[Any]:
    """Return the future of a map, whose results are to be combined; TypeError if it is none."""
    if is_a(value, MapFuture):
        future: MapFuture[Any] = value
        return future
    raise no_map(name, value, is_a(value, TaskFuture))


class _Argument(Task):
    """Stands for a future while a pipeline is recorded."""

    auto_generated = True


def apply_map(run: FunctionRun, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Record a pipeline of tasks for one item and submit its maps; return futures in the places of the tasks."""
    with context(tags=frozenset()):  # they are those of the calls
        flow = Flow("apply_map")
        known: dict[Task, Any] = {}

        def stand_in(value: Any) -> Any:
            if is_a(value, Annotation):
                return type(value)(stand_in(value.value))
            if not holds_futures(value):
                return value
            argument = flow.add_task(_Argument("argument"))
            known[argument] = value
            return argument

        result = record_map(
            func, *map(stand_in, args), flow=flow, **{name: stand_in(value) for name, value in kwargs.items()}
        )
    for task in flow.sorted_tasks():
        if task not in known:
            known[task] = task.value if isinstance(task, Constant) else _submit(run, flow, task, known)
    return rebuilt(result, lambda member: known[member] if is_a(member, Task) else member)


def _submit(run: FunctionRun, flow: Flow, task: Task, known: Mapping[Task, Any]) -> Any:
    """Submit a task of a recorded pipeline, whose inputs are known."""
    edges = flow.edges_to(task)
    is_map = any(edge.mapped for edge in edges)
    kwargs = {edge.key: _input(edge, known, is_map) for edge in edges if edge.key is not None}
    constants = flow.constants.get(task, {})
    kwargs |= {name: unmapped(value) if is_map else value for name, value in constants.items()}
    args = tuple(kwargs.pop(name) for name in flow.positions.get(task, ()))
    wait_for = [_waited(edge, known) for edge in edges if edge.key is None]
    return (run.map if is_map else run.submit)(task, args, kwargs, CallOptions(wait_for))


def _input(edge: Edge, known: Mapping[Task, Any], is_map: bool) -> Any:
    value = known[edge.upstream_task]
    value = flatten(value) if edge.flattened else value
    value = allow_failure(value) if edge.allow_failure else value
    return unmapped(value) if is_map and not edge.mapped else value


def _waited(edge: Edge, known: Mapping[Task, Any]) -> Any:
    value = known[edge.upstream_task]
    value = allow_failure(value) if edge.allow_failure else value
    return mapped(flatten(value) if edge.flattened else value) if edge.mapped else value
