"""Branches: tasks that run or are skipped depending on the result of another task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from prefectish.control_flow.blocks import Block, active_flow, roots
from prefectish.edges import Edge
from prefectish.tasks.collections import Constant, as_task
from prefectish.tasks.control_flow import AsBool, Compare, Merge
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from prefectish.tasks.recording import RecordingFlow


class case(Block):
    """Run the tasks of a `with` block only if a task returns a given value; skip them otherwise.

    The first tasks of the block depend on the comparison; if they are skipped, so are those downstream of them.
    Parameters and constants are not affected. Blocks can be nested.

    Parameters
    ----------
    task
        The task whose result decides.
    value
        The value to compare the result with.

    Raises
    ------
    TypeError
        If the value is a task.
    FlowDefinitionError
        If the block has tasks of two flows.

    Examples
    --------
    >>> from prefectish import Flow, Parameter, case, merge, task
    >>> double = task(lambda x: 2 * x, name="double")
    >>> with Flow("even") as flow:
    ...     n = Parameter("n")
    ...     with case(n % 2, 0):
    ...         even = double(n)
    ...     with case(n % 2, 1):
    ...         odd = n + 1
    ...     result = merge(even, odd)
    >>> flow.run(n=3).result[result].result
    4
    """

    _compares: ClassVar[type[Compare]] = Compare

    def __init__(self, task: Any, value: Any) -> None:
        super().__init__()
        self.task = task
        self.value = value
        self._compare = self._compares(value)

    def __repr__(self) -> str:
        return f"case({self.task!r}, {self.value!r})"

    def _close(self) -> None:
        flow = self._flow
        inside = {task: None for task in self._tasks if task is not self.task and flow is not None and task in flow}
        if flow is None or not inside:
            return
        compare = self._compare.copy().bind(self.task, flow=flow)
        for task in roots(flow, inside):
            flow.insert(Edge(compare, task))


def switch(condition: Any, cases: Mapping[Any, Any], mapped: bool = False, flow: RecordingFlow | None = None) -> None:
    """Run the task whose value equals a result, and skip the others.

    Parameters
    ----------
    condition
        The task whose result decides.
    cases
        From a value to the task that runs for it. For a list of tasks only collecting the list is run or skipped:
        tasks inside it that depend on nothing else still run.
    mapped
        Whether condition and branches are mapped; the branch is then chosen for each child.
    flow
        Default: the flow whose `with` block is open.

    Raises
    ------
    TypeError
        If a branch is a plain value, of which nothing can be skipped, or a value is a task.
    FlowDefinitionError
        If there is no flow.
    """
    add_branches(Compare, condition, cases, mapped, active_flow(flow, "switch"))


def add_branches(kind: type[Compare], condition: Any, cases: Any, mapped: bool, flow: RecordingFlow) -> None:
    """Let each branch depend on a task of a kind that compares the result with its value."""
    for value, branch in _tasks_by_case(cases, flow).items():
        compare = kind(value).bind(condition, mapped=mapped, flow=flow)
        flow.set_dependencies(branch, upstream_tasks=[compare], mapped=mapped)


def _tasks_by_case(cases: Any, flow: RecordingFlow) -> dict[Any, Task]:
    if not isinstance(cases, Mapping):
        raise TypeError(f"cases must be a dict from value to task, got {cases!r}")
    tasks = {value: as_task(branch, flow) for value, branch in cases.items()}
    for value, task in tasks.items():
        if isinstance(task, Constant) and task is not cases[value]:
            raise TypeError(f"case {value!r} is the constant {task.value!r}, which cannot be skipped; pass a task")
    return tasks


def ifelse(
    condition: Any, true_task: Any, false_task: Any, mapped: bool = False, flow: RecordingFlow | None = None
) -> None:
    """Run one task if a result is true, else the other; the one that does not run is skipped.

    Parameters
    ----------
    condition
        The task whose result decides by its truth.
    true_task, false_task
        The branches; None: nothing to run.
    mapped, flow
        As for :func:`switch`.

    Raises
    ------
    TypeError, FlowDefinitionError
        As for :func:`switch`.
    """
    add_both(Compare, condition, (true_task, false_task), mapped, active_flow(flow, "ifelse"))


def add_both(kind: type[Compare], condition: Any, both: tuple[Any, Any], mapped: bool, flow: RecordingFlow) -> None:
    """Let the branches for true and false, as far as they are there, depend on the truth of a result."""
    branches = {value: task for value, task in zip((True, False), both, strict=True) if task is not None}
    if branches:
        add_branches(kind, AsBool().bind(condition, mapped=mapped, flow=flow), branches, mapped, flow)


def merge(*tasks: Any, flow: RecordingFlow | None = None, mapped: bool = False, **named: Any) -> Task:
    """Return a task with the result of the branch that ran: the first input that is not None.

    It is skipped if all its inputs were skipped, and its trigger fails if one of them failed.

    Parameters
    ----------
    *tasks, **named
        Last tasks of the branches. Inputs are checked in alphabetical order; positional ones are `task_1`, `task_2`,
        ..., so the tenth comes before the second: name them if more than nine may have a result.
    flow
        Default: the flow whose `with` block is open.
    mapped
        Whether they are mapped; they are then merged child by child.

    Raises
    ------
    TypeError
        If there is nothing to merge, or two inputs have the same name.
    FlowDefinitionError
        If there is no flow.
    """
    return bind_branches(Merge(), tasks, named, mapped, active_flow(flow, "merge"))


def bind_branches(
    merging: Merge, tasks: tuple[Any, ...], named: Mapping[str, Any], mapped: bool, flow: RecordingFlow
) -> Task:
    """Give the last tasks of branches to a task that merges them, and return it."""
    inputs = {f"task_{i}": task for i, task in enumerate(tasks, start=1)}
    twice = inputs.keys() & named.keys()
    if twice:
        raise TypeError(f"merge: {min(twice)}= is also the name of a task without one; choose another")
    if not inputs and not named:
        raise TypeError("merge: no tasks to merge; pass the last task of each branch")
    return merging.bind(**inputs, **named, mapped=mapped, flow=flow)
