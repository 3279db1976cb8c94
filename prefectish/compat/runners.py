"""`prefect.engine.FlowRunner`: a thin face over a run of the flow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prefectish.engine.state import State
from prefectish.flows import Flow


class FlowRunner:
    """Runs a flow once, at once.

    Parameters
    ----------
    flow
        The flow.
    """

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    def run(
        self,
        state: State | None = None,
        task_states: Mapping[Any, State] | None = None,
        return_tasks: Iterable[Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        executor: Any = None,
        context: Mapping[str, Any] | None = None,
    ) -> State:
        """Run the flow and return its state; the result has the states of `return_tasks`, of all tasks without them."""
        ended = self.flow.run(
            parameters, run_on_schedule=False, state=state, task_states=task_states, executor=executor, context=context
        )
        if return_tasks is None or not isinstance(ended.result, dict):
            return ended
        return ended.replace(result={task: ended.result[task] for task in return_tasks})


class TaskRunner:
    """Runs a single task; its stages are the engine's own.

    Parameters
    ----------
    task
        The task.
    """

    def __init__(self, task: Any) -> None:
        self.task = task
