"""`reduce`: combine the results of a map in groups, while it still runs."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prefectish.control_flow.blocks import active_flow, function_run
from prefectish.kinds import is_a
from prefectish.tasks.recording import Home
from prefectish.tasks.reductions import FAN_IN, Reduced, combining, no_map
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from prefectish.tasks.recording import RecordingFlow


def reduce(
    combine: Task | Callable[[list[Any]], Any],
    mapped: Any,
    fan_in: int = FAN_IN,
    *,
    flow: RecordingFlow | None = None,
) -> Any:
    """Combine the results of a map in groups of neighbours, as each group is complete, until one is left.

    Each call of `combine` is a child with a state, retries and a place to run of its own. Groups are the same however
    the map runs, so values are too. What of a group failed or was skipped is for the trigger of the task to decide: the
    default fails, or skips, the call; one that lets it run has it left out of the list.

    Parameters
    ----------
    combine
        A task, or a function, that takes a list of results, or of what it returned itself, and returns one value.
    mapped
        The map whose results are combined; in a flow function, its future.
    fan_in
        How many results a call combines, at most.
    flow
        Default: the flow whose `with` block is open.

    Returns
    -------
    Task
        Stands for the last value; in a flow function, its future.

    Raises
    ------
    TypeError
        If `combine` takes no list, or `mapped` is not a map.
    ValueError
        If `fan_in` is below 2.
    FlowDefinitionError
        If there is no flow.

    Examples
    --------
    >>> from prefectish import Flow, reduce, task
    >>> square = task(lambda n: n * n, name="square")
    >>> with Flow("squares") as flow:
    ...     total = reduce(sum, square.map(range(100)))
    >>> flow.run().result[total].result
    328350
    """
    made = combining(combine, fan_in)
    if flow is None and (run := function_run()) is not None:
        return run.reduce(made, combine, mapped)
    flow = active_flow(flow, "reduce")
    _check_map(made.name, mapped, flow)
    made.bind(mapped, flow=flow)
    made._home = Home(weakref.ref(flow), flow.slugs[made], flow.name)
    result = Reduced(f"reduce-{made.name}").bind(made, flow=flow)
    result._home = Home(weakref.ref(flow), flow.slugs[result], flow.name)
    return result


def _check_map(name: str, value: Any, flow: RecordingFlow) -> None:
    """Refuse anything but a map of the flow."""
    if not (is_a(value, Task) and value in flow and any(edge.mapped for edge in flow.edges_to(value))):
        raise no_map(name, value, is_a(value, Task))
