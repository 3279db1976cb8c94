"""A plan that grows during its run: the steps of a flow function, as it calls them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from prefectish.edges import Edge
from prefectish.engine.plan.compile import assign_domain, check_marker
from prefectish.engine.plan.map_domain import Measure
from prefectish.engine.plan.steps import Group, Input, MapDomain, Plan, Step, TaskName
from prefectish.engine.scheduling.admission import Limit, Rate
from prefectish.engine.scheduling.progress import Progress
from prefectish.engine.scheduling.run_state import StepState
from prefectish.engine.state import State
from prefectish.results.base import store_of
from prefectish.slugs import Labels, SlugBook
from prefectish.tasks.task import Task


class InputSpec(NamedTuple):
    """An input of a step that is added: the edge of a `Step`, before there is a step."""

    key: str | None  # argument it fills, None if it is only waited for
    source: int  # number of the step it comes from, -1 if each row has a source of its own
    upstream: TaskName  # what it comes from, for triggers and errors
    mapped: bool = False
    flattened: bool = False
    allow_failure: bool = False
    given: bool = False  # it is a value of the caller's and no edge
    inside: str | None = None  # name of the argument in which it fills a place

    def into(self, downstream: TaskName) -> Input:
        """Return it as an input of a step."""
        edge = Edge(self.upstream, downstream, self.key, self.mapped, self.flattened, self.allow_failure)
        return Input(edge, self.source, self.upstream, downstream, self.given, self.inside)


def empty_plan(flow_name: str) -> Plan:
    """Return a plan without steps, to which steps can be added."""
    return Plan(flow_name, [], [], [], (), (), True)


class DynamicPlan:
    """Adds steps to the plan and the tables of a run.

    The thread that calls tasks and the one that drives the run both add steps, one after another.
    """

    def __init__(
        self, progress: Progress, max_concurrency: int | None = None, store: Any = None, holds: bool = False
    ) -> None:
        self.progress = progress
        self.run_state = progress.run_state
        self.lock = threading.Lock()
        # Children of one task that run at the same time at most, None for what the task says.
        self._max_concurrency = max_concurrency
        self._store = store  # where results are kept whose task does not say; None for nowhere
        self._slugs = SlugBook()
        self._labels = Labels()
        self._domains: dict[object, int] = {}
        self._limits: dict[Task, tuple[Limit | None, Rate | None]] = {}
        self.holds = holds  # results may stay where they were made
        self._origins: dict[Task, Task] = {}  # the tasks of which others are copies, with options of a call

    def name_of(self, task: Task) -> TaskName:
        """Return how a new step of a task is named."""
        with self.lock:
            if task.slug is not None and self._slugs.take(task.slug):
                slug = task.slug
            else:
                slug = self._slugs.make(task.slug or task.name, () if task.slug else task.tags)
            label = self._labels.of(slug, task.name)
            if label != slug and not self._slugs.take(label):  # it is the slug of another one
                label = slug
            return TaskName(task.name, slug, task.tags, label)

    def add(
        self,
        task: Task,
        name: TaskName,
        specs: Iterable[InputSpec],
        constants: Mapping[str, Any] | None = None,
        by_position: tuple[str, ...] = (),
        kind: type[StepState] = StepState,
    ) -> StepState:
        """Add a step; nothing of it is started. Raises ResumeMismatch if the run is resumed, and the task changed."""
        with self.lock:
            return self._add(task, name, specs, constants or {}, True, by_position, kind)

    def _add(
        self,
        task: Task,
        name: TaskName,
        specs: Iterable[InputSpec],
        constants: Mapping[str, Any],
        learns: bool,
        by_position: tuple[str, ...] = (),
        kind: type[StepState] = StepState,
    ) -> StepState:
        run_state = self.run_state
        steps: list[Step] = run_state.plan.steps  # type: ignore[assignment]  # of a plan that grows
        inputs = tuple(spec.into(name) for spec in specs)
        step = Step(len(steps), task, name, inputs, constants, by_position)
        step.store = store_of(getattr(task, "result", None), self._store)
        check_marker(step)
        step.shares_cache = True  # how often it will be called is not known
        step.measure = Measure.QUIETLY
        step.stage = 1 + max((steps[i.source].stage for i in inputs if i.source >= 0), default=0)
        if step.mapped:
            self._assign_domain(step)  # before its record is looked up: maps of one domain tell each other's rows
        if self.progress.resume_rules is not None and learns:
            self.progress.resume_rules.learn(step)
        for i in inputs:
            if i.source >= 0:
                steps[i.source].consumers.append(step.number)
        step_state = kind(step)
        steps.append(step)
        run_state.step_states.append(step_state)
        release = self.progress.changes.result_release
        release.add_step(step)
        release.keep.add(step.number)  # until its results cannot be asked for
        self.progress.admission.limits.add_step(step, *self._limits_of(task))
        return step_state

    def _assign_domain(self, step: Step) -> None:
        run_state = self.run_state
        domains: list[MapDomain] = run_state.plan.domains  # type: ignore[assignment]
        count = len(domains)
        assign_domain(step, run_state.plan.steps, domains, self._domains)
        for domain in domains[count:]:
            self.progress.changes.add_domain(run_state.add_domain(domain))

    def variant(self, task: Task, copied: Task) -> Task:
        """Return a copy of a task that stands for it in a call, having noted of what it is a copy."""
        self._origins[copied] = self.origin_of(task)
        return copied

    def origin_of(self, task: Task) -> Task:
        """Return the task of which a task is a copy for a call; itself if it is none."""
        return self._origins.get(task, task)

    def limit(self, task: Task, size: int | None) -> None:
        """Let at most `size` calls and children of a task run at once, also of those to come; None for no limit."""
        origin = self.origin_of(task)
        with self.lock:
            found, rate = self._limits_of(origin)
            own = found or Limit(0)
            self._limits[origin] = own, rate
            steps = [s for s in self.run_state.step_states if self._limits_of(s.step.task)[0] is own]
        self.progress.controls.limit_steps(steps, size, own)

    def _limits_of(self, task: Task) -> tuple[Limit | None, Rate | None]:
        """Return the limits of a task, the same for all its steps, and its copies that say nothing else."""
        origin = self.origin_of(task)
        if (origin.max_concurrency, origin.rate) == (task.max_concurrency, task.rate):
            task = origin
        found = self._limits.get(task)
        if found is None:
            most = min((m for m in (task.max_concurrency, self._max_concurrency) if m is not None), default=None)
            found = None if most is None else Limit(most), Rate(task.rate) if task.rate else None
            self._limits[task] = found
        return found

    def add_literal(
        self,
        task: Task,
        name: TaskName,
        state: State,
        width: Any = None,
        stands_in: bool = False,
        is_final: bool = True,
    ) -> StepState:
        """Add a step whose state is known; `width` is the measure of its result, for maps over it, if it was measured.

        A state that came from a call of another step `stands_in`; `is_final` if no rows of it are to come.
        """
        with self.lock:
            step_state = self._add(task, name, (), {}, learns=False)
        self.progress.changes.keep_literal(step_state, state, width, is_final)
        step_state.step.stands_in = stands_in
        return step_state

    def add_own_domain(self, step_state: StepState, width: int | None = None) -> None:
        """Give a step rows that are not those of any other step; `width` is None if they come one by one."""
        with self.lock:
            number = len(self.run_state.plan.domains)
            self.run_state.plan.domains.append(MapDomain(number, (), True))  # type: ignore[attr-defined]
            step_state.step.domain = number
            map_state = self.run_state.add_domain(self.run_state.plan.domains[number])
            self.progress.changes.open_calls(step_state, map_state, width)

    def start_map(self, step_state: StepState) -> None:
        """Let a mapped step start as its inputs become known."""
        run_state = self.run_state
        plan = run_state.plan
        with self.lock:
            group = Group(
                len(run_state.groups), (step_state.step.number,), step_state.step.stage, step_state.step.domain
            )
            step_state.step.group = group.number
            plan.groups.append(group)  # type: ignore[attr-defined]
            self.progress.ready.add_group(group)
            if self.holds:
                self.progress.changes.result_release.read(step_state)
