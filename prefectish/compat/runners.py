"""`prefect.engine.FlowRunner` and `TaskRunner`: thin faces over runs of the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from prefectish import flows
from prefectish.compat import caches
from prefectish.compat.context import of_run
from prefectish.compat.default_classes import get_default_task_runner_class
from prefectish.compat.flows import Flow, or_failed
from prefectish.compat.results import Result
from prefectish.compat.task_changes import context_in_names, more_handlers, task_contexts_in
from prefectish.compat.tasks import FunctionTask
from prefectish.edges import Edge
from prefectish.engine import clock
from prefectish.engine.context import current, get_logger
from prefectish.engine.driver.run import run_flow
from prefectish.engine.handlers import call_handlers
from prefectish.engine.signals import ENDRUN, FAIL, Signal
from prefectish.engine.state import Cached, Failed, Mapped, Pending, Retrying, Scheduled, State, innermost
from prefectish.kinds import is_a
from prefectish.tasks.task import Task

#: Key of the context of a state that is held back: when it is due.
_DUE = "held_until"
_NEVER = datetime.max.replace(tzinfo=UTC) - timedelta(days=400)


def hold_back(task: Any, old: State, new: State) -> State:
    """Put off a retry: a runner makes one attempt, and its next call the next one."""
    if not isinstance(new, Retrying) or _DUE in new.context:
        return new
    return new.replace(start_time=_NEVER, context={**new.context, _DUE: new.start_time})


def _as_due(state: State) -> State:
    """Return a state of a run with the time of its retry, or of those of its children."""
    if isinstance(state, Mapped):
        children = [child if child is None else _as_due(child) for child in state.map_states]
        return state.replace(map_states=children)
    if _DUE not in state.context:
        return state
    rest = {key: value for key, value in state.context.items() if key != _DUE}
    return state.replace(start_time=state.context[_DUE], context=rest)


def _waits(state: State) -> bool:
    """Whether a state says that it is too early."""
    return isinstance(state, Scheduled) and (state.start_time is None or state.start_time > clock.now())


class _RunnerHandler:
    """A state handler that gets the runner, where others get the task or the flow."""

    def __init__(self, runner: Any, handler: Callable[..., Any]) -> None:
        self.runner = runner
        self.handler = handler

    def __call__(self, target: Any, old: State, new: State) -> Any:
        return self.handler(self.runner, old, new)


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

    def call_runner_target_handlers(self, old_state: State, new_state: State) -> State:
        """Call the handlers of what is run at a change of its state, and return its state after them."""
        return new_state

    def handle_state_change(self, old_state: State, new_state: State) -> State:
        """Call all handlers at a change of state, and return the state after them.

        Raises
        ------
        ENDRUN
            If one of them fails: with the state in which the run ends.
        """
        state = self.call_runner_target_handlers(old_state, new_state)
        return _handled(self, self.state_handlers, old_state, state)

    @property
    def logger(self) -> Any:
        """The logger named after the class."""
        return get_logger(type(self).__name__)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def _handled(target: Any, handlers: Sequence[Callable[..., Any]], old: State, new: State) -> State:
    transition = call_handlers(target, handlers, old, new)
    error = transition.state.result
    if transition.aborted:
        if current().get("raise_on_exception") and isinstance(error, Exception):
            raise error
        raise ENDRUN(transition.state)
    return transition.state


class FlowRunner(Runner):
    """Runs a flow once, at once; what waits for a time, such as a retry, waits for the next call.

    Parameters
    ----------
    flow
        The flow.
    task_runner_cls
        Kept; tasks are run by the engine.
    state_handlers
        Called after those of the flow.
    """

    def __init__(
        self,
        flow: flows.Flow,
        task_runner_cls: type | None = None,
        state_handlers: Sequence[Callable[..., Any]] | None = None,
    ) -> None:
        super().__init__(state_handlers)
        self.flow = flow
        self.task_runner_cls = task_runner_cls or get_default_task_runner_class()

    def call_runner_target_handlers(self, old_state: State, new_state: State) -> State:
        """Call the handlers of the flow at a change of its state, and return its state after them."""
        return _handled(self.flow, self.flow.state_handlers, old_state, new_state)

    def run(
        self,
        state: State | None = None,
        task_states: Mapping[Any, State] | None = None,
        return_tasks: Iterable[Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        executor: Any = None,
        context: Mapping[str, Any] | None = None,
        task_runner_state_handlers: Sequence[Callable[..., Any]] | None = None,
        task_contexts: Mapping[Any, Mapping[str, Any]] | None = None,
    ) -> State:
        """Run the flow and return its state, whose result has the states of `return_tasks`."""
        flow = self.flow
        wanted = list(return_tasks or ())
        foreign = [task for task in wanted if task not in flow.tasks]
        if foreign:
            error = ValueError(f"Some tasks provided to return_tasks were not found: {foreign}")
            return self._not_begun(innermost(state) or Pending(), error)
        start = innermost(state) or Pending()
        if start.is_finished() or _waits(start):
            return start
        flow = flow.copy()
        flow.state_handlers += [_RunnerHandler(self, handler) for handler in self.state_handlers]
        values, failed = self._values(parameters, context)
        stands_for = {p: Task(p.name) for p in failed}  # a parameter never runs, so it cannot fail
        for parameter, task in stands_for.items():
            flow.replace(parameter, task, validate=False)
        given = of_run(context)
        states = {**(task_states or {}), **{stands_for[p]: state for p, state in failed.items()}}
        chosen = flow._options(state=start, task_states=states, executor=executor, context=given)
        handlers = [*(task_runner_state_handlers or ()), hold_back]
        named = context_in_names(flow, given)
        with more_handlers(flow.tasks, handlers), task_contexts_in(task_contexts), caches.forgotten(), named:
            ended = or_failed(partial(run_flow, flow, values, chosen._replace(one_pass=True)))
        if not is_a(ended.result, dict):
            return ended
        return ended.replace(result={task: _as_due(ended.result[stands_for.get(task, task)]) for task in wanted})

    def _not_begun(self, start: State, error: Exception) -> State:
        """Return the state after the one change that a run makes which cannot begin."""
        try:
            return self.handle_state_change(start, Failed(f"Unexpected error: {error!r}", error))
        except ENDRUN as end:
            ended: State = end.state
            return ended

    def _values(
        self, parameters: Mapping[str, Any] | None, context: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], dict[Any, State]]:
        """Return the values of parameters, and failed states for those that are required and not given."""
        own = {p.name: p for p in self.flow.parameters()}
        around = {**current().get("parameters", {}), **((context or {}).get("parameters") or {})}
        given = {name: value for name, value in {**around, **(parameters or {})}.items() if name in own}
        missing = [p for name, p in own.items() if getattr(p, "required", False) and name not in given]
        values = self.flow._settled({**given, **{p.name: None for p in missing}}, {}, None)
        reasons = {p: f'Parameter "{p.name}" was required but not provided.' for p in missing}
        return values, {p: Failed(reason, FAIL(reason)) for p, reason in reasons.items()}

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

    def call_runner_target_handlers(self, old_state: State, new_state: State) -> State:
        """Call the handlers of the task at a change of its state, and return its state after them."""
        return _handled(self.task, self.task.state_handlers, old_state, new_state)

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
            if not isinstance(source, Task) or source is self.task or source in starts:
                source = Task(str(getattr(source, "name", source)))  # each edge has a state of its own
            starts[source] = found
            flow.insert(Edge(source, self.task, edge.key, edge.mapped, edge.flattened))
        if state is not None:
            starts[self.task] = start if self._is_usable(start, upstream) else Pending()
        given = of_run(context)
        options = flow._options(task_states=starts, context=given, history=False, progress=False)
        more: list[Any] = [*(_RunnerHandler(self, handler) for handler in self.state_handlers), hold_back]
        with more_handlers([self.task], more), caches.forgotten(), context_in_names(flow, given):
            ended = run_flow(flow, {}, options._replace(one_pass=True))
        last: State = ended.result[self.task] if is_a(ended.result, dict) else ended
        if type(last) is Cached and not last.cached_inputs:
            inputs = {edge.key: Result(found.result) for edge, found in upstream.items() if edge.key is not None}
            last = last.replace(cached_inputs=inputs)
        return _as_due(last)

    def _is_usable(self, state: State, upstream: Mapping[Any, State]) -> bool:
        """Whether a state need not be computed anew: one of a cache asks the validator of the task."""
        if not isinstance(state, Cached):
            return True
        inputs = {edge.key: found.result for edge, found in upstream.items() if edge.key is not None}
        return bool(self.task.cache_validator(state, inputs, current().get("parameters") or {}))

    def __repr__(self) -> str:
        return f"<TaskRunner: {self.task.name}>"


def run_task_with_timeout(
    task: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, logger: Any = None
) -> Any:
    """Return what the body of a task gives for these arguments, within the time limit of the task.

    Raises
    ------
    TimeoutSignal
        If the time is over.
    """
    return _called(task.run, args, kwargs, name=task.name, timeout=task.timeout)


def run_with_thread_timeout(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    timeout: int | None = None,
    logger: Any = None,
    name: str | None = None,
) -> Any:
    """Return what a function gives within a time limit, in this process; TimeoutSignal if the time is over."""
    return _called(fn, args, kwargs, name=name or "function", timeout=timeout)


def run_with_multiprocess_timeout(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    timeout: int | None = None,
    logger: Any = None,
    name: str | None = None,
) -> Any:
    """Return what a function gives within a time limit, in a process of its own, which is killed at the limit."""
    return _called(fn, args, kwargs, name=name or "function", timeout=timeout, isolation="process")


def _called(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any] | None, **options: Any) -> Any:
    state = TaskRunner(FunctionTask(partial(fn, *args, **(kwargs or {})), **options)).run()
    if is_a(state.result, Signal) or (is_a(state.result, BaseException) and not state.is_successful()):
        raise state.result
    return state.result
