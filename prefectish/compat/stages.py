"""The stages of runners, each by itself: the rules of the engine, in the order in which Prefect 1 called them.

A run of a flow or a task does not go through here; these are for programs that call a single one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

from prefectish.compat.results import Result
from prefectish.engine import clock
from prefectish.engine.context import current
from prefectish.engine.plan.map_domain import SKIPPED_UPSTREAM, skips_reader
from prefectish.engine.signals import ENDRUN
from prefectish.engine.state import (
    Cached,
    Failed,
    Looped,
    Mapped,
    Paused,
    Pending,
    Resume,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    State,
    Success,
    innermost,
)
from prefectish.engine.worker import decide

Upstream = Mapping[Any, State]
Inputs = Mapping[str, Any]


class TaskRunnerInitializeResult(NamedTuple):
    """With what a task begins."""

    state: State
    context: dict[str, Any]


class FlowRunnerInitializeResult(NamedTuple):
    """With what a flow begins."""

    state: State
    task_states: dict[Any, State]
    context: dict[str, Any]
    task_contexts: dict[Any, dict[str, Any]]


def waits(state: State) -> bool:
    """Whether a state says that it is too early."""
    return isinstance(state, Scheduled) and (state.start_time is None or state.start_time > clock.now())


def values(inputs: Inputs | None) -> dict[str, Any]:
    """Return inputs as values: they may be results."""
    return {name: value.value if isinstance(value, Result) else value for name, value in (inputs or {}).items()}


class Stages:
    """What stages of tasks and flows have in common: a change of state is told to the handlers."""

    handle_state_change: Any

    def _changed(self, old: State, new: State) -> State:
        told: State = self.handle_state_change(old, new)
        return told

    def _end(self, old: State, new: State) -> State:
        """End the run: ENDRUN is raised with the state."""
        raise ENDRUN(new if new is old else self._changed(old, new))


class TaskStages(Stages):
    """The stages of a task run. One that ends the run raises ENDRUN with its state."""

    task: Any

    def initialize_run(self, state: State | None, context: dict[str, Any]) -> TaskRunnerInitializeResult:
        """Return the state to begin with, and the context of the run."""
        start = innermost(state) or Pending()
        run_count = start.context.get("task_run_count", 0)
        if isinstance(start, Retrying):
            run_count = start.run_count
        if isinstance(start, Resume) or (isinstance(start, Paused) and not waits(start)):
            context["resume"] = True
        context.update(
            task_run_count=run_count + 1 if isinstance(start, Retrying) else max(run_count, 1),
            task_name=self.task.name,
            task_tags=self.task.tags,
            task_slug=self.task.slug,
        )
        context.setdefault("checkpointing", bool(current().get("checkpointing")))
        return TaskRunnerInitializeResult(start, context)

    def check_upstream_finished(self, state: State, upstream_states: Upstream) -> State:
        """End the run unless all upstream tasks have finished."""
        if all(innermost(found).is_finished() for found in upstream_states.values()):
            return state
        return self._end(state, state)

    def check_upstream_skipped(self, state: State, upstream_states: Upstream) -> State:
        """Skip the task if one of its upstream tasks was skipped and the task does not run then."""
        skipped = any(skips_reader(edge.mapped, found) for edge, found in upstream_states.items())
        if self.task.skip_on_upstream_skip and skipped:
            return self._end(state, Skipped(SKIPPED_UPSTREAM))
        return state

    def check_task_ready_to_map(self, state: State, upstream_states: Upstream) -> State:
        """End the run as the parent of a map: Mapped, or Failed if there is nothing to map over."""
        mapped = [found for edge, found in upstream_states.items() if edge.mapped]
        if isinstance(state, Mapped):
            return self._end(state, state)
        if upstream_states and not any(found.is_successful() for found in mapped):
            return self._end(state, Failed("No upstream states can be mapped over."))
        for found in mapped:
            if not isinstance(found, Mapped) and found.is_successful() and not hasattr(found.result, "__getitem__"):
                return self._end(state, Failed("At least one upstream state has an unmappable result."))
        return self._end(state, Mapped("Ready to proceed with mapping."))

    def check_task_trigger(self, state: State, upstream_states: Upstream) -> State:
        """End the run unless the trigger of the task lets it run."""
        stopped = decide.ask_trigger(self.task.trigger, upstream_states)
        if stopped is None:
            return state
        if current().get("raise_on_exception") and isinstance(stopped.error, Exception):
            raise stopped.error
        return self._end(state, stopped.state)

    def check_task_is_ready(self, state: State) -> State:
        """End the run of a task that runs, or has ended; one that is cached or mapped is looked at again."""
        return state if isinstance(state, Pending | Mapped | Cached) else self._end(state, state)

    def check_task_reached_start_time(self, state: State) -> State:
        """End the run of a task whose time has not come."""
        return self._end(state, state) if waits(state) else state

    def get_task_inputs(self, state: State, upstream_states: Upstream) -> dict[str, Result]:
        """Return the arguments as results, by name."""
        kept = {
            name: value if isinstance(value, Result) else Result(value) for name, value in state.cached_inputs.items()
        }
        given = {edge.key: Result(found.result) for edge, found in upstream_states.items() if edge.key is not None}
        return {**kept, **{name: value for name, value in given.items() if value.value is not None or name not in kept}}

    def check_target(self, state: State, inputs: Inputs) -> State:
        """Return Cached with the value at the target, if there is one."""
        result, target = self.task.result or getattr(self, "flow_result", None), self.task.target
        if result is None or not target:
            return state
        known = result.copy()
        known.location = target
        fields = {**current(), **values(inputs)}
        found = known.format(**fields)
        if not result.exists(found.location, **fields):
            return state
        return Cached(f"Result found at task target {found.location}", found.read(found.location))

    def check_task_is_cached(self, state: State, inputs: Inputs) -> State:
        """Return a state whose result can be used: the one given, or one in the context; else a pending one."""
        parameters, plain = current().get("parameters") or {}, values(inputs)
        if isinstance(state, Cached):
            return (
                state
                if self.task.cache_validator(state, plain, parameters)
                else Pending("Cache was invalid; ready to run.")
            )
        if self.task.cache_for is None:
            return state
        kept = (current().get("caches") or {}).get(self.task.cache_key or self.task.name, ())
        usable = (found for found in kept if self.task.cache_validator(found, plain, parameters))
        return next(usable, state)

    def set_task_to_running(self, state: State, inputs: Inputs) -> State:
        """Return Running for a pending task; the run of another one ends."""
        if not isinstance(state, Pending):
            return self._end(state, state)
        return self._changed(state, Running("Starting task run."))

    def get_task_run_state(self, state: State, inputs: Inputs) -> State:
        """Call the body of a running task and return how it ended, without a retry."""
        if not isinstance(state, Running):
            return self._end(state, state)
        return self._changed(state, self._ran(values(inputs)))

    def _ran(self, inputs: dict[str, Any], context: Mapping[str, Any] | None = None) -> State:
        raise NotImplementedError

    def cache_result(self, state: State, inputs: Inputs) -> State:
        """Return Cached for a success of a task that has a cache."""
        if self.task.cache_for is None or not state.is_successful() or state.is_skipped() or state.is_cached():
            return state
        cached = Cached(
            state.message,
            state._raw_result,
            cached_inputs={
                name: value if isinstance(value, Result) else Result(value) for name, value in inputs.items()
            },
            cached_parameters=dict(current().get("parameters") or {}),
            cached_result_expiration=clock.now() + self.task.cache_for,
        )
        return self._changed(state, cached)

    def check_for_retry(self, state: State, inputs: Inputs) -> State:
        """Return Retrying for a failure, if the options of the task ask for it."""
        if not state.is_failed():
            return state
        count = current().get("task_run_count") or 1
        asked: Any = SimpleNamespace(task=self.task, slug=self.task.name)
        again = decide.retry(asked, state, count, clock.now, random.random)
        return state if again is None else self._changed(state, again)

    def check_task_is_looping(
        self, state: State, inputs: Inputs | None = None, upstream_states: Upstream | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> State:  # fmt: skip
        """Run the next turn of a task that loops."""
        if not isinstance(state, Looped):
            return state
        turn = {"task_loop_result": state.result, "task_loop_count": state.loop_count + 1}
        return self._ran(values(inputs), {**(context or {}), **turn})


class FlowStages(Stages):
    """The stages of a flow run. One that ends the run raises ENDRUN with its state."""

    flow: Any

    def initialize_run(
        self, state: State | None, task_states: Mapping[Any, State], context: Mapping[str, Any],
        task_contexts: Mapping[Any, Mapping[str, Any]], parameters: Mapping[str, Any],
    ) -> FlowRunnerInitializeResult:  # fmt: skip
        """Return with what the flow begins: its parameters are in the context, and each task has one of its own."""
        defaults = {p.name: p.default for p in self.flow.parameters() if not getattr(p, "required", True)}
        known = {**defaults, **(context.get("parameters") or {}), **parameters}
        own = {
            task: {"task_name": task.name, "task_slug": slug, **(task_contexts.get(task) or {})}
            for task, slug in self.flow.slugs.items()
        }
        facts = {**context, "flow_name": self.flow.name, "parameters": known}
        return FlowRunnerInitializeResult(innermost(state) or Pending(), dict(task_states), facts, own)

    def check_flow_is_pending_or_running(self, state: State) -> State:
        """End the run of a flow that has ended."""
        return state if isinstance(state, Pending | Running) else self._end(state, state)

    def check_flow_reached_start_time(self, state: State) -> State:
        """End the run of a flow whose time has not come."""
        return self._end(state, state) if waits(state) else state

    def set_flow_to_running(self, state: State) -> State:
        """Return Running for a pending flow; the run of one that has ended ends."""
        if isinstance(state, Running):
            return state
        if not isinstance(state, Pending):
            return self._end(state, state)
        return self._changed(state, Running("Running flow."))

    def determine_final_state(
        self, state: State, key_states: set[State], return_states: dict[Any, State], terminal_states: set[State]
    ) -> State:
        """Return the state of the flow from those of its tasks."""
        if not all(decide.finished(each) for each in terminal_states):
            return state.replace(result=return_states)
        if any(each.is_failed() for each in key_states):
            return Failed("Some reference tasks failed.", return_states)
        if all(each.is_successful() for each in key_states):
            return Success("All reference tasks succeeded.", return_states)
        return Success("No reference tasks failed.", return_states)
