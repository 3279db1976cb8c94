"""The state of a flow from the states of its tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from types import NoneType

from prefectish.engine.plan.steps import Plan
from prefectish.engine.scheduling.run_state import StepState
from prefectish.engine.state import (
    Cancelled,
    Crashed,
    Failed,
    Mapped,
    Running,
    State,
    Success,
    TriggerFailed,
)
from prefectish.engine.state_column import kinds_of
from prefectish.engine.task_states import Arrow, SlowChild, TaskStates
from prefectish.engine.worker.decide import finished

#: Exit codes of a program that ends with the flow's state.
SUCCESS, FAILED, CRASHED, UNFINISHED, CANCELLED = 0, 1, 3, 5, 6


def flow_state(plan: Plan, states: Sequence[State]) -> State:
    """Return the state of a flow whose steps ended (or stopped) in `states`, one a step.

    Running while a task is not finished; else Failed if a reference task failed; else Cancelled if one is; else
    Success. A mapped reference task is judged by its children.
    """
    if not all([finished(state) for state in states]):
        return unfinished()
    kinds = set().union(*(_kinds_of(states[n]) for n in plan.references))
    if any(issubclass(kind, Failed) for kind in kinds):
        crashed = any(isinstance(states[n], Crashed) or _any_crashed(states[n]) for n in first_causes(plan, states))
        return Failed("Some reference tasks failed.", context=_code(CRASHED if crashed else FAILED))
    if any(issubclass(kind, Cancelled) for kind in kinds):
        return Cancelled("Some reference tasks were cancelled.", context=_code(CANCELLED))
    if all(issubclass(kind, Success) for kind in kinds):
        return Success("All reference tasks succeeded.", context=_code(SUCCESS))
    return Success("No reference tasks failed.", context=_code(SUCCESS))


def unfinished() -> Running:
    """Return the state of a flow in which something is paused, or waits for what is."""
    return Running("Flow run is not finished: some tasks are paused or wait for others.", context=_code(UNFINISHED))


def by_task(plan: Plan, states: Sequence[State], slowest: Sequence[SlowChild] = ()) -> TaskStates:
    """Return the states of the steps by task, which is the result of the flow's state."""
    steps = plan.steps
    arrows = [Arrow(steps[i.source].slug, step.slug, i.key, i.mapped) for step in steps for i in step.inputs]
    return TaskStates(
        {step.origin: states[step.number] for step in steps},
        plan.flow_name,
        {step.origin: step.slug for step in steps},
        arrows,
        frozenset(step.slug for step in steps if step.mapped),
        slowest,
        frozenset(step.slug for step in steps if step.literal is not None),
        {step.slug: step.label for step in steps},
    )


def states_so_far(plan: Plan, step_states: Sequence[StepState]) -> TaskStates:
    """Return the states of the steps as they are now, of any run and for any thread.

    The calls of a task in a flow function are steps: each is known by its slug, and has its calls as children.
    """
    known = [s for s in list(step_states) if not (plan.grows and s.step.literal is not None)]
    tasks = {s.step.slug: copy(s.step.task) if plan.grows else s.step.task for s in known}
    arrows = [
        Arrow(i.source_slug, s.step.slug, i.inside or i.key, i.mapped)
        for s in known
        for i in s.step.inputs
        if i.source_slug in tasks
    ]
    return TaskStates(
        {tasks[s.step.slug]: s.snapshot() for s in known},
        plan.flow_name,
        {task: slug for slug, task in tasks.items()},
        arrows,
        frozenset(s.step.slug for s in known if s.step.mapped),
        given=frozenset(s.step.slug for s in known if s.step.literal is not None),
        labels={s.step.slug: s.step.label for s in known},
    )


def _code(code: int) -> Mapping[str, int]:
    return {"exit_code": code}


def _kinds_of(state: State) -> set[type[State]]:
    """Return the classes of the children of a Mapped state that have a state, or that of any other state."""
    return set(kinds_of(state.map_states)) - {NoneType} if isinstance(state, Mapped) else {type(state)}


def expand(state: State) -> Iterator[State]:
    """Yield the children of a Mapped state, any other state itself."""
    if isinstance(state, Mapped):
        yield from (child for child in state.map_states or () if child is not None)
    else:
        yield state


def _any_crashed(state: State) -> bool:
    return any(issubclass(kind, Crashed) for kind in _kinds_of(state))


def _any_failed(state: State) -> bool:
    return any(issubclass(kind, Failed) for kind in _kinds_of(state))


def first_causes(plan: Plan, states: Sequence[State]) -> set[int]:
    """Return the steps whose own failure made a reference task fail: walk upstream through failed triggers."""
    causes: set[int] = set()
    seen: set[int] = set()
    todo = [n for n in plan.references if _any_failed(states[n])]
    while todo:
        n = todo.pop()
        if n in seen:
            continue
        seen.add(n)
        failed = [kind for kind in _kinds_of(states[n]) if issubclass(kind, Failed)]
        if any(not issubclass(kind, TriggerFailed) for kind in failed):
            causes.add(n)
        if any(issubclass(kind, TriggerFailed) for kind in failed):
            todo.extend(i.source for i in plan.steps[n].inputs if _any_failed(states[i.source]))
    return causes
