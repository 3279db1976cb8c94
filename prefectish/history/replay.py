"""Run one recorded child again in this process with its original inputs, for example in a debugger.

The history has neither code nor values. Code and constants come from the flow, results of other tasks from their
result stores; missing ones are named in an error. Nothing is recorded, stored, cached or notified.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from prefectish.engine.clock import Now
from prefectish.engine.context import current
from prefectish.engine.jobs.bundle import unpack
from prefectish.engine.jobs.job import ChainSpec, Job, Receipt
from prefectish.engine.plan.compile import compile_flow
from prefectish.engine.plan.item_key import item_key
from prefectish.engine.plan.steps import Input, Plan, Step
from prefectish.engine.scheduling.previous_run import PreviousResult
from prefectish.engine.scheduling.progress import Progress
from prefectish.engine.scheduling.run_state import NEVER_STARTED
from prefectish.engine.signals import ENDRUN
from prefectish.engine.state import Cancelled, Mapped, State
from prefectish.engine.worker.attempt import PENDING, run_step
from prefectish.engine.worker.attempt_context import run_context
from prefectish.engine.worker.run_steps import gather, run_steps
from prefectish.engine.worker.tracebacks import users_part
from prefectish.errors import ResultReleased, ResumeMismatch
from prefectish.flow_source import ran_last
from prefectish.flows import Flow
from prefectish.history import schema
from prefectish.history.children import ChildRow
from prefectish.history.inputs import inputs_digest
from prefectish.history.queries import RunRow
from prefectish.history.resume import recorded
from prefectish.secrets.lazy import is_deriving

#: An unlimited window: of all submitted jobs only one is run.
WHOLE_WINDOW = 1 << 60


def replay(child: ChildRow, pdb: bool, flow: Any, parameters: Mapping[str, Any] | None) -> State:
    """Run a recorded child again; see :meth:`prefectish.history.ChildRow.replay`."""
    flow = flow or _flow_of(child._run)
    find = _found_in_graph if isinstance(flow, Flow) else _found_by_running
    job, position, upstream = find(child, flow, parameters)
    alone = _run_alone(job.chain, position, pdb)
    return run_step(alone, position, job.index, upstream, PENDING).state


def _found_by_running(child: ChildRow, flow: Any, parameters: Mapping[str, Any] | None) -> tuple[Job, int, list[State]]:
    """Return the job of a call of a flow function, its position there and its inputs."""
    from prefectish.functions.decorator import FlowFunction
    from prefectish.history.replay_call import find_call

    if not isinstance(flow, FlowFunction):
        raise TypeError(f"flow must be a Flow or a @flow function, got {flow!r}")
    return find_call(child, child.place, flow, parameters)


def _found_in_graph(child: ChildRow, flow: Flow, parameters: Mapping[str, Any] | None) -> tuple[Job, int, list[State]]:
    """Return the job of a child of a flow that is known before it runs, its position there and its inputs."""
    run = child._run
    plan = compile_flow(flow, flow._settled(parameters, {}, None))
    step = _step_of(plan, child, run)
    found = _RecordedRun(plan, step, child, run)
    values = {step.name: step.literal.result for step in plan.steps if step.literal and step.task in flow.parameters()}
    facts = run_context(flow.name, run.id, run.name, values, run.started, dict(current()))
    progress = Progress(
        plan, facts, notify=lambda run, old, new: new, starts=found.starts(), window=WHOLE_WINDOW, record=True
    )
    ready = _upstream_of_child(progress, step, child._row.row, found.ancestors)
    if ready is None:
        raise ResumeMismatch(_unreached(progress, step, found.label))
    job, position, states = ready
    upstream = gather(job.chain, position, job.items, states)
    _check_item(job.chain, position, child, upstream, found.label)
    return job, position, upstream


def _flow_of(run: RunRow) -> Any:
    flow = ran_last(run.flow_name)
    if flow is None:
        raise ValueError(
            f"flow {run.flow_name!r} did not run in this process, and the history has no code: pass .replay(flow=flow)"
        )
    return flow


def _step_of(plan: Plan, child: ChildRow, run: RunRow) -> Step:
    for step in plan.steps:
        if step.slug == child.slug:
            return step
    raise ValueError(
        f"flow {plan.flow_name!r} has no task {run.label_of(child.slug)!r} of run {run.id}: pass the flow of that run"
    )


class _RecordedRun:
    """What the history has of the tasks before a child."""

    def __init__(self, plan: Plan, step: Step, child: ChildRow, run: RunRow) -> None:
        self.plan = plan
        self.step = step
        self.child = child
        self.run = run
        self.ancestors = _ancestors(plan, step)  # numbers of the steps that the child comes of, directly or not
        self.label = child.place
        self._children = {
            number: {c._row.row: recorded(plan.steps[number], c) for c in run.children(plan.steps[number].slug)}
            for number in self.ancestors
            if _is_kept(plan.steps[number])
        }

    def starts(self) -> dict[int, State]:
        """Return the states from which the steps start: recorded states are final, so that only the child runs.

        Raises ResultReleased if a result that the child reads cannot be read, ResumeMismatch if it was given other
        constants or parameters.
        """
        self._check_inputs()
        missing = [text for i in self.step.inputs for text in self._missing(i)]
        if missing:
            raise ResultReleased(
                f"{self.label} cannot be replayed: {'; '.join(missing)}. To store results, use "
                f"Flow(..., result=LocalResult()), or @task(result=...)"
            )
        starts = {number: self._state(number) for number in self._children}
        if self.step.mapped:
            starts[self.step.number] = self._own_start()
        return starts

    def _own_start(self) -> State:
        """Return a state of the child's map in which only the child is open."""
        (facts,) = (facts for facts in self.run.tasks() if facts["slug"] == self.step.slug)
        row = self.child._row.row
        states: list[State | None] = [NEVER_STARTED] * max(sum(facts["counts"].values()), row + 1)
        if self.step.fan_in is not None:  # children of a reduction read one another
            for other in self.run.children(self.step.slug):
                states[other._row.row] = recorded(self.step, other).state
        states[row] = PENDING
        return Mapped("Replayed.", map_states=states, n_map_states=len(states))

    def _state(self, number: int) -> State:
        children = self._children[number]
        if not self.plan.steps[number].mapped:
            return children[0].state if children else PENDING
        width = max(children, default=-1) + 1
        states = [children[row].state if row in children else PENDING for row in range(width)]
        return Mapped("Recorded.", map_states=states, n_map_states=width)

    def _check_inputs(self) -> None:
        c = schema.steps.c
        query = select(c.inputs).where(c.run == self.run._number, c.slug == self.step.slug)
        with self.run._store.reading() as connection:
            digest = connection.execute(query).scalar()
        if digest is not None and digest != inputs_digest(self.plan, self.step):
            names = [step.name for step in self.plan.steps if step.literal is not None and step.name]
            raise ResumeMismatch(
                f"{self.label} was given other constants or parameters in run {self.run.id}; parameters are not "
                f"recorded: pass them, .replay(parameters={{...}})"
                + (f"; the flow has {', '.join(names)}" if names else "")
            )

    def _missing(self, i: Input) -> Iterator[str]:
        """Say what cannot be read of an input."""
        source = self.plan.steps[i.source]
        children = self._children.get(i.source)
        if children is None or (i.key is None and not i.mapped):
            return
        alike = source.mapped and i.mapped and not i.flattened
        rows = [self.child._row.row] if alike else list(range(max(children, default=0) + 1)) if source.mapped else [0]
        gone = [row for row in rows if row not in children or not _is_readable(children[row])]
        if not gone:
            return
        names = ", ".join(source.label_of(row) for row in gone[:3])
        more = f" and {len(gone) - 3} others" if len(gone) > 3 else ""
        never = any(row not in children for row in gone)
        yield f"{names}{more} {'has no recorded end' if never else 'has a result that was not stored, or is gone'}"


def _is_readable(record: PreviousResult) -> bool:
    return record.readable or not record.state.is_successful()


def _is_kept(step: Step) -> bool:
    """Whether what a step returned may be in a store; what only puts its inputs together does so again."""
    return step.literal is None and not is_deriving(step.task)


def _ancestors(plan: Plan, step: Step) -> frozenset[int]:
    found: set[int] = set()
    todo = [step.number]
    while todo:
        for i in plan.steps[todo.pop()].inputs:
            if i.source not in found:
                found.add(i.source)
                todo.append(i.source)
    return frozenset(found)


def _upstream_of_child(
    progress: Progress, step: Step, row: int, ancestors: frozenset[int]
) -> tuple[Job, int, dict[int, State]] | None:
    """Let the engine find what the child reads; return its job, its position there and the states before it."""
    now = Now(0.0, lambda: datetime.now(UTC))  # nothing here is due later
    jobs = deque(unpack(progress.start(now)))
    while jobs:
        job = jobs.popleft()
        states = dict(job.given)
        records = []
        for position in job.positions:
            spec = job.chain.steps[position]
            if spec.number == step.number and max(job.index, 0) == row:
                return job, position, states
            if spec.number not in ancestors or not spec.derives:
                break
            records += run_steps(job.chain, (position,), job.index, job.items, states, {})
        if records:
            jobs.extend(unpack(progress.advance([Receipt(job, records)], now)))
    return None


def _unreached(progress: Progress, step: Step, label: str) -> str:
    """Return why a child cannot be reached."""
    state = progress.states()[step.number]
    return (
        f"{label} cannot be reached with the recorded results: its task is {type(state).__name__}: "
        f"{state.message or ''}; the values it is mapped over have changed, or were not stored"
    )


def _check_item(chain: ChainSpec, position: int, child: ChildRow, upstream: list[State], label: str) -> None:
    """Raise if the item of the child has changed."""
    spec = chain.steps[position]
    key = item_key(spec, upstream, chain.run) if spec.computes_key or spec.named_by_key else None
    if key is not None and child.item_key is not None and key != child.item_key:
        raise ResumeMismatch(
            f"{label} had another item in run {child._run.id}: {child.item_key}, now {key}; mapped values "
            f"come from the flow or its parameters: pass those of the run"
        )


def _run_alone(chain: ChainSpec, position: int, pdb: bool) -> ChainSpec:
    """Return a chain in which a step only runs its function: no stores, caches, handlers, retries."""
    spec = copy(chain.steps[position])
    task = copy(spec.task)
    task.state_handlers, task.max_retries = [], 0
    spec.task, spec.storage, spec.cache, spec.start_marker = task, None, None, None
    if pdb:
        task.timeout = task.total_timeout = None
        task.isolation, task.log_stdout = "thread", False
        task.run = _run_in_debugger(task.run)
    steps = (*chain.steps[:position], spec, *chain.steps[position + 1 :])
    return ChainSpec(chain.ident, chain.run, steps, chain.shared, chain.wanted)


def _run_in_debugger(body: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that stops at its first line, and again where it fails."""
    import bdb
    import inspect
    from pdb import Pdb

    def failed(error: BaseException) -> None:
        if isinstance(error, bdb.BdbQuit):
            raise ENDRUN(Cancelled("the debugger was quit"))
        debugger = Pdb()
        debugger.reset()
        debugger.interaction(None, _below(error))

    def call(*args: Any, **inputs: Any) -> Any:
        debugger = Pdb()
        debugger.reset()
        try:
            sys.settrace(debugger.trace_dispatch)  # like `runcall`, which does not report a quit
            try:
                return body(*args, **inputs)
            finally:
                debugger.quitting = True
                sys.settrace(None)
        except Exception as error:
            failed(error)
            raise

    async def call_async(*args: Any, **inputs: Any) -> Any:
        try:
            Pdb().set_trace()
            return await body(*args, **inputs)
        except Exception as error:
            failed(error)
            raise

    return call_async if inspect.iscoroutinefunction(body) else call


def _below(error: BaseException) -> Any:
    """Return the traceback of an error, starting in user code."""
    return users_part(error.__traceback__)
