"""Compile a flow into frozen steps, map domains and groups.

The plan says *what belongs together*, never what happened: it is made once a run, before anything is submitted, in time
linear in tasks and edges, and it does not depend on the executor.

Step
    One task of the flow. It is *single* (runs once) or *mapped* (one child for each position of its domain).
Map domain
    The positions a mapped step runs over. Mapped steps over the same lists, and elementwise chains of them, share one:
    child ``i`` of each belongs to the same *branch* ``i``.
Group
    Steps that can travel as one job for each branch: singles that follow one another, or mapped steps of one domain
    joined by elementwise edges; at most :data:`GROUP_SIZE` steps.

A step joins the group of the steps it reads only if all its other inputs belong to an earlier *stage*. A group's stage
is one more than the largest stage among its inputs, so everything that depends on a group has a larger stage: an input
of a smaller stage cannot depend on the group, and waiting for it before the group starts can not deadlock. Whether
such an input is final when the group starts is only known in the run; steps for which it is not are split off there
(``chains``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from prefectish.caching.lookups import cache_name, has_cache, is_isolated
from prefectish.edges import Edge
from prefectish.engine.plan.map_domain import Measure
from prefectish.engine.plan.names import computes_name
from prefectish.engine.plan.placement import differs_by_child, placement_of
from prefectish.engine.plan.steps import Group, Input, MapDomain, MapSource, Plan, Step, TaskName
from prefectish.engine.state import Success
from prefectish.errors import FlowDefinitionError
from prefectish.parameters import Parameter
from prefectish.results.base import store_of
from prefectish.slugs import labels_of_tasks
from prefectish.tasks.annotations import annotated
from prefectish.tasks.collections import Constant
from prefectish.tasks.signatures import inputs_of
from prefectish.tasks.task import Task

#: Steps in one group, at most: a job stays small enough to be resubmitted or split.
GROUP_SIZE = 16


class FlowGraph(Protocol):
    """What is compiled of a :class:`prefectish.Flow`."""

    name: str

    @property
    def slugs(self) -> Mapping[Task, str]:
        """Return the slug of each task."""

    @property
    def constants(self) -> Mapping[Task, Mapping[str, Any]]:
        """Return the constant arguments of tasks, by name."""

    @property
    def positions(self) -> Mapping[Task, tuple[str, ...]]:
        """Return the names of the arguments of tasks that were given by position."""

    def sorted_tasks(self) -> Sequence[Task]:
        """Return the tasks, each after all that it depends on."""

    def edges_to(self, task: Task) -> Collection[Edge]:
        """Return the edges into a task."""

    def reference_tasks(self) -> Collection[Task]:
        """Return the tasks whose states decide the flow's."""


def compile_flow(flow: FlowGraph, parameters: Mapping[str, Any], limited_tags: Iterable[str] = ()) -> Plan:
    """Compile `flow`, which is validated here; parameters that are not given take their defaults.

    Tasks with one of the `limited_tags` are admitted one by one, and so travel alone. Raises FlowDefinitionError if the
    flow has a cycle, or a task with ``rerun_on_loss=False`` has no store of results.
    """
    order = flow.sorted_tasks()
    number = {task: n for n, task in enumerate(order)}
    called = labels_of_tasks(flow.slugs)
    names = {task: TaskName(task.name, flow.slugs[task], task.tags, called[task]) for task in order}
    steps = tuple(_step(flow, task, number, names, parameters) for task in order)
    for step in steps:
        for i in step.inputs:
            source = steps[i.source]
            source.consumers.append(step.number)
            if i.flattened:
                source.measure = Measure.ELEMENTS
            elif i.mapped:
                source.measure = source.measure or Measure.WIDTH
    for step in steps:
        check_marker(step)
        _check_iterators(step, steps)
    _note_shared_caches(steps)
    domains = _assign_domains(steps)
    groups = _assign_groups(steps, frozenset(limited_tags))
    references = tuple(sorted(number[t] for t in flow.reference_tasks()))
    terminals = tuple(s.number for s in steps if not s.consumers)
    return Plan(flow.name, steps, domains, groups, references, terminals)


def _step(
    flow: FlowGraph,
    task: Task,
    number: Mapping[Task, int],
    names: Mapping[Task, TaskName],
    parameters: Mapping[str, Any],
) -> Step:
    inputs = tuple(Input(e, number[e.upstream_task], names[e.upstream_task], names[task]) for e in flow.edges_to(task))
    given = flow.positions.get(task, ())
    by_position = inputs_of(task.run, task.name).by_position(given) if given else ()
    step = Step(number[task], task, names[task], inputs, dict(flow.constants.get(task, ())), by_position)
    step.store = store_of(getattr(task, "result", None), getattr(flow, "result", None))
    if isinstance(task, Constant) and not inputs:  # one that waits for a task is skipped with it
        step.literal = Success("Constant.", task.value)
    elif isinstance(task, Parameter):
        value = parameters.get(task.name, task.default)
        step.literal = Success("Parameter.", value)
    return step


def _check_iterators(step: Step, steps: Sequence[Step]) -> None:
    """Refuse an iterator that an earlier run of the flow has read: nothing is left in it."""
    for i in step.inputs:
        source = steps[i.source].task
        if i.mapped and isinstance(source, Constant) and source.is_read:
            raise FlowDefinitionError(
                f"{step.label}: argument {i.key!r} must be unread, got an iterator that an earlier run of the flow has "
                "read; pass list(...), or build the flow again for each run"
            )


def _note_shared_caches(steps: Iterable[Step]) -> None:
    """Note which steps use a cache that others use too: tasks that are called twice, or have one name."""
    by_name: dict[str, list[Step]] = {}
    for step in steps:
        if step.literal is None and has_cache(step.task):
            by_name.setdefault(cache_name(step.task), []).append(step)
    for several in by_name.values():
        if len(several) > 1:
            for step in several:
                step.shares_cache = True


def annotate(plan: Plan, around: Mapping[str, Any]) -> None:
    """Give the tasks of a plan the options that are set around its run."""
    for step in plan.steps:
        if step.literal is None:
            step.task = step.origin._copy(annotated(step.origin, around))


def check_marker(step: Step) -> None:
    """Refuse a task that must not run twice and has no place for its start marker."""
    if step.store is None and not step.task.rerun_on_loss:
        raise FlowDefinitionError(
            f"task {step.label}: rerun_on_loss=False leaves a start marker where all workers see it; give it a "
            f"place that they share: Flow(result=LocalResult(...)), or result=... on the task"
        )


def _assign_domains(steps: tuple[Step, ...]) -> tuple[MapDomain, ...]:
    domains: list[MapDomain] = []
    known: dict[object, int] = {}
    for step in steps:
        if step.mapped:
            assign_domain(step, steps, domains, known)
    return tuple(domains)


def assign_domain(step: Step, steps: Sequence[Step], domains: list[MapDomain], known: dict[object, int]) -> None:
    """Set what a mapped step runs over: a known domain, by its sources, or a new one."""
    if step.fan_in is not None:
        source = step.reduced.source
        step.domain = len(domains)
        domains.append(MapDomain(step.domain, (MapSource(source, False, steps[source].domain),), True))
        return
    sources = tuple(
        dict.fromkeys(MapSource(i.source, i.flattened, steps[i.source].domain) for i in step.inputs if i.mapped)
    )
    step.domain = _shared_domain(sources, domains)
    if step.domain is not None:
        return
    strict = bool(step.task.strict_map)
    # Children of mapped steps of one domain pair by index whichever of the steps they come from.
    identity = frozenset(("domain", t.domain) if t.domain is not None and not t.flattened else t for t in sources)
    key = (identity, strict or len(identity) == 1)
    if key not in known:
        known[key] = len(domains)
        domains.append(MapDomain(len(domains), sources, strict))
    step.domain = known[key]


def _shared_domain(sources: tuple[MapSource, ...], domains: Sequence[MapDomain]) -> int | None:
    """Return the domain of the steps that are read item by item, if the other inputs are the lists it is made of."""
    inner = {t.domain for t in sources if t.domain is not None and not t.flattened}
    if len(inner) != 1:
        return None
    domain = domains[inner.pop() or 0]
    lists = {t for t in sources if t.domain is None or t.flattened}
    # All of them, or their lengths would be another condition; and in step, which a map that is flattened is not.
    return domain.number if not lists or (lists == set(domain.sources) and not domain.grows) else None


def _assign_groups(steps: tuple[Step, ...], limited_tags: frozenset[str]) -> tuple[Group, ...]:
    alone = {step.number for step in steps if _travels_alone(step, limited_tags)}
    # The client takes the names of results before a row starts, in the order of the rows.
    first = alone | {step.number for step in steps if computes_name(step, steps)}
    members: list[list[int] | None] = []
    stages: list[int] = []
    for step in steps:
        if step.literal is not None:
            continue
        home = None if step.number in first else _home(step, steps, members, stages, alone)
        if home is None:
            home = len(members)
            members.append([])
            stages.append(1 + max((steps[i.source].stage for i in step.inputs), default=0))
        joined = members[home]
        assert joined is not None, "a merged group takes no more steps"
        joined.append(step.number)
        step.group, step.stage = home, stages[home]
    return tuple(
        Group(n, tuple(sorted(numbers)), stages[n], steps[numbers[0]].domain)
        for n, numbers in enumerate(members)
        if numbers
    )


def _home(
    step: Step,
    steps: tuple[Step, ...],
    members: list[list[int] | None],
    stages: list[int],
    alone: Collection[int],
) -> int | None:
    """The group that `step` can join, merged from several if need be; None if it has to begin its own."""
    near = {steps[i.source].group for i in step.inputs if _rides_along(i, steps[i.source], step)}
    homes = sorted(group for group in near if group is not None)
    if not homes or (not step.mapped and len(homes) > 1) or len({stages[h] for h in homes}) > 1:
        return None
    if any(i.mapped and i.flattened for i in step.inputs):
        return None
    stage = stages[homes[0]]
    if any(steps[i.source].stage >= stage and steps[i.source].group not in homes for i in step.inputs):
        return None
    joined = [group for h in homes if (group := members[h])]
    if sum(map(len, joined)) >= GROUP_SIZE:
        return None
    traits = _traits(step)
    # Of a group all steps are alike, and one that travels alone is the only one of its own: the first tells for all.
    if any(group[0] in alone or _traits(steps[group[0]]) != traits for group in joined):
        return None
    return _merged(homes, steps, members)


def _rides_along(i: Input, source: Step, step: Step) -> bool:
    """Whether an input comes from a step of the same branch."""
    return source.domain == step.domain and i.mapped == step.mapped and not i.flattened


def _merged(homes: Sequence[int], steps: tuple[Step, ...], members: list[list[int] | None]) -> int:
    """Make the groups that an elementwise step reads one group."""
    first = members[homes[0]]
    assert first is not None
    for h in homes[1:]:
        for n in members[h] or ():
            steps[n].group = homes[0]
            first.append(n)
        members[h] = None
    return homes[0]


def _traits(step: Step) -> tuple[object, ...]:
    """Where and how a step runs; steps that differ in it do not travel together."""
    task = step.task
    priority = id(task.priority) if callable(task.priority) else None
    return (placement_of(task), priority, task.batch_size, task.isolation, task.async_concurrency)


def _travels_alone(step: Step, limited_tags: frozenset[str]) -> bool:
    """Steps under a limit are admitted one by one, so no neighbour may ride on their permit."""
    task = step.task
    if step.shares_cache and is_isolated(task, True):
        return True  # it may wait for another one with the same key
    if step.fan_in is not None:
        return True  # its children are those of no other step
    if differs_by_child(task):
        return True  # where it runs follows from its item, which a step before it would still have to make
    return bool(task.max_concurrency or task.rate or task.shared_limits or (limited_tags and limited_tags & task.tags))
