"""`prefect.engine.FlowRunner` and `TaskRunner`: thin faces over the engine. Their single stages are its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prefectish import flows
from prefectish.compat.configuration import config
from prefectish.compat.flows import Flow, more_handlers
from prefectish.edges import Edge
from prefectish.engine.context import get_logger
from prefectish.engine.driver.run import run_flow
from prefectish.engine.state import Failed, Pending, State, innermost
from prefectish.tasks.task import Task


class Runner:
    """Base class of runners.

    Parameters
    ----------
    state_handlers
        Called after those of what is run.
    """

    def __init__(self, state_handlers: Sequence[Callable[..., Any]] | None = None) -> None:
        if state_handlers is not None and not isinstance(state_handlers, Sequence):
            raise TypeError("state_handlers should be iterable.")
        self.state_handlers = list(state_handlers or ())

    @property
    def logger(self) -> Any:
        """The logger named after the class."""
        return get_logger(type(self).__name__)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class FlowRunner(Runner):
    """Runs a flow once, at once; what waits for a time, such as a retry, waits for the next call.

    Parameters
    ----------
    flow
        The flow.
    state_handlers
        Called after those of the flow.
    """

    def __init__(self, flow: flows.Flow, state_handlers: Sequence[Callable[..., Any]] | None = None) -> None:
        super().__init__(state_handlers)
        self.flow = flow

    def run(
        self,
        state: State | None = None,
        task_states: Mapping[Any, State] | None = None,
        return_tasks: Iterable[Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        executor: Any = None,
        context: Mapping[str, Any] | None = None,
        task_runner_state_handlers: Sequence[Callable[..., Any]] | None = None,
    ) -> State:
        """Run the flow and return its state, whose result has the states of `return_tasks`."""
        flow = self.flow
        wanted = list(return_tasks or ())
        foreign = [task for task in wanted if task not in flow.tasks]
        if foreign:
            error = ValueError(f"Some tasks provided to return_tasks were not found: {foreign}")
            return Failed(f"Unexpected error: {error!r}", error)
        if self.state_handlers:
            flow = flow.copy()
            flow.state_handlers += self.state_handlers
        if state is not None and state.is_finished():
            return state
        values = flow._settled(parameters, {}, context)
        given = {"config": config, **(context or {})}
        chosen = flow._options(state=state, task_states=task_states, executor=executor, context=given)
        with more_handlers(flow.tasks, task_runner_state_handlers):
            ended = run_flow(flow, values, chosen._replace(one_pass=True))
        if not isinstance(ended.result, dict):
            return ended
        return ended.replace(result={task: ended.result[task] for task in wanted})

    def __repr__(self) -> str:
        return f"<FlowRunner: {self.flow.name}>"


class TaskRunner(Runner):
    """Runs one attempt of a task.

    Parameters
    ----------
    task
        The task.
    state_handlers
        Called after those of the task.
    """

    def __init__(
        self,
        task: Any,
        state_handlers: Sequence[Callable[..., Any]] | None = None,
        flow_result: Any = None,
    ) -> None:
        super().__init__(state_handlers)
        self.task = task
        self.flow_result = flow_result

    def run(
        self,
        state: State | None = None,
        upstream_states: Mapping[Any, State] | None = None,
        context: Mapping[str, Any] | None = None,
        is_mapped_parent: bool = False,
    ) -> State:
        """Run one attempt, after upstream tasks in these states, and return the state of the task."""
        start = innermost(state) or Pending()
        upstream = {edge: innermost(found) for edge, found in (upstream_states or {}).items()}
        if not all(found.is_finished() for found in upstream.values()):
            return start
        flow = Flow(self.task.name, tasks=[self.task], result=self.flow_result)
        starts: dict[Any, State] = {}
        for edge, found in upstream.items():
            source = edge.upstream_task
            if source is self.task or source in starts:  # each edge has a state of its own
                source = Task(source.name)
            starts[source] = found
            flow.insert(Edge(source, self.task, edge.key, edge.mapped, edge.flattened))
        if state is not None:
            starts[self.task] = start
        given = {"config": config, **(context or {})}
        options = flow._options(task_states=starts, context=given, history=False, progress=False)
        with more_handlers([self.task], self.state_handlers):
            ended = run_flow(flow, {}, options._replace(one_pass=True))
        last: State = ended.result[self.task] if isinstance(ended.result, dict) else ended
        return last

    def __repr__(self) -> str:
        return f"<TaskRunner: {self.task.name}>"


def get_default_flow_runner_class() -> type[FlowRunner]:
    """Return the class that runs flows: there is one."""
    return FlowRunner


def get_default_task_runner_class() -> type[TaskRunner]:
    """Return the class that runs tasks: there is one."""
    return TaskRunner
