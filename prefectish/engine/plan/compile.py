"""Compile a flow into frozen steps, spaces and groups.

The plan says *what belongs together*, never what happened: it is made once a run, before anything is submitted, in time
linear in tasks and edges, and it knows no executor.

Step
    One task of the flow. It is *single* (runs once) or *mapped* (one child for each position of its space).
Space
    The positions a mapped step runs over. Mapped steps over the same lists, and elementwise chains of them, share one:
    child ``i`` of each belongs to the same *branch* ``i``.
Group
    Steps that can travel as one job for each branch: singles that follow one another, or mapped steps of one space
    joined by elementwise edges; at most :data:`GROUP_SIZE` steps.

A step joins the group of the steps it reads only if all its other inputs belong to an earlier *stage*. A group's stage
is one more than the largest stage among its inputs, so everything that depends on a group has a larger stage: an input
of a smaller stage cannot depend on the group, and waiting for it before the group starts can not deadlock. Whether
such an input is final when the group starts is only known in the run; steps for which it is not are split off there
(``chains``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from prefectish.edges import Edge
from prefectish.engine.plan.placement import placement_of
from prefectish.engine.state import State, Success
from prefectish.errors import FlowDefinitionError
from prefectish.parameters import Parameter
from prefectish.tasks.collections import Constant
from prefectish.tasks.task import Task

#: Steps in one group, at most: a job stays small enough to be resubmitted or split.
GROUP_SIZE = 16


class TaskName(NamedTuple):
    """What a trigger may know of a task: enough to say which one, small enough to travel with every map."""

    name: str
    slug: str
    tags: frozenset[str]


class Input:
    """One edge into a step: where the state comes from and how it is read.

    Attributes
    ----------
    source
        Number of the step it comes from; -1 where each row has a source of its own (the arguments of calls).
    given
        It is a value of the caller's and no edge: triggers do not see it.
    inside
        Name of the argument in which it fills a place, None if it is an argument by itself.
    """

    __slots__ = ("allow_failure", "edge", "flattened", "given", "inside", "key", "mapped", "source", "source_slug")

    def __init__(
        self,
        edge: Edge,
        source: int,
        upstream: TaskName,
        downstream: TaskName,
        given: bool = False,
        inside: str | None = None,
    ) -> None:
        self.given = given
        self.inside = inside
        self.edge = Edge(upstream, downstream, edge.key, edge.mapped, edge.flattened, edge.allow_failure)
        self.key: str | None = edge.key
        self.mapped: bool = edge.mapped
        self.flattened: bool = edge.flattened
        self.allow_failure: bool = edge.allow_failure
        self.source = source
        self.source_slug = upstream.slug


class Step:
    """One task of the flow with everything the engine needs to know before the run.

    Attributes
    ----------
    number
        Position in the plan, topological: every input comes from a smaller number.
    space
        Number of the space it maps over, None for a single step.
    group
        Number of the group it can travel in, None for a literal.
    literal
        The state of a constant or a parameter, which never runs.
    consumers
        Numbers of the steps that read it.
    stands_in
        Its state is not the user's: it came from a call of another step.
    store
        Where its results are kept: the task's own place or the flow's; None for nowhere.
    measure
        0 if nobody maps over its result, 1 if somebody does, 2 if somebody flattens it.
    """

    __slots__ = (
        "constants", "consumers", "group", "inputs", "literal", "mapped", "measure", "name", "number", "slug", "space",
        "stage", "stands_in", "store", "task",
    )  # fmt: skip

    def __init__(
        self, number: int, task: Task, slug: str, inputs: tuple[Input, ...], constants: Mapping[str, Any]
    ) -> None:
        self.number = number
        self.task = task
        self.name: str = task.name
        self.slug = slug
        self.inputs = inputs
        self.constants = constants
        self.mapped = any(i.mapped for i in inputs)
        self.literal: State | None = None
        self.space: int | None = None
        self.group: int | None = None
        self.stage = 0
        self.stands_in = False
        self.measure = 0
        self.store: Any = None
        self.consumers: list[int] = []

    def __repr__(self) -> str:
        kind = "literal" if self.literal is not None else "mapped" if self.mapped else "single"
        return f"<Step {self.number} {self.slug}: {kind}, group {self.group}, space {self.space}>"


class MapSource(NamedTuple):
    """One thing a space is made of: a list (``space`` is None), or another space through one of its mapped steps."""

    source: int
    flattened: bool
    space: int | None


class MapDomain(NamedTuple):
    """The positions of a map: the width is that of its tokens, which must agree unless ``strict`` is False."""

    number: int
    tokens: tuple[MapSource, ...]
    strict: bool

    @property
    def grows(self) -> bool:
        """Whether the width becomes known piece by piece: a flattened map and nothing to pair it with."""
        return len(self.tokens) == 1 and self.tokens[0].flattened and self.tokens[0].space is not None


class Group(NamedTuple):
    """Steps that can travel as one job for each branch, in topological order."""

    number: int
    steps: tuple[int, ...]
    stage: int
    space: int | None


class Plan(NamedTuple):
    """A compiled flow. Its repr is what one looks at when a flow is wrong.

    The plan of a flow function begins empty and grows with its calls; any other never changes.
    """

    flow_name: str
    steps: Sequence[Step]
    spaces: Sequence[MapDomain]
    groups: Sequence[Group]
    references: tuple[int, ...]
    terminals: tuple[int, ...]
    grows: bool = False


def compile_flow(flow: Any, parameters: Mapping[str, Any], limited_tags: Iterable[str] = ()) -> Plan:
    """Compile `flow`.

    Parameters
    ----------
    flow
        The Flow; it is validated here (cycles).
    parameters
        Value of each parameter that was given; the others take their defaults.
    limited_tags
        Tags with a limit in this run; tasks that carry one are admitted one by one and so travel alone.

    Raises
    ------
    FlowDefinitionError
        The flow has a cycle, or a task with ``rerun_on_loss=False`` has no store of results.
    """
    order = flow.sorted_tasks()
    number = {task: n for n, task in enumerate(order)}
    names = {task: TaskName(task.name, flow.slugs[task], task.tags) for task in order}
    steps = tuple(_step(flow, task, number, names, parameters) for task in order)
    for step in steps:
        for i in step.inputs:
            source = steps[i.source]
            source.consumers.append(step.number)
            if i.flattened:
                source.measure = 2
            elif i.mapped:
                source.measure = source.measure or 1
    for step in steps:
        check_marker(step)
    spaces = _assign_spaces(steps)
    groups = _assign_groups(steps, frozenset(limited_tags))
    references = tuple(sorted(number[t] for t in flow.reference_tasks()))
    terminals = tuple(s.number for s in steps if not s.consumers)
    return Plan(flow.name, steps, spaces, groups, references, terminals)


def _step(
    flow: Any, task: Task, number: Mapping[Task, int], names: Mapping[Task, TaskName], parameters: Mapping[str, Any]
) -> Step:
    inputs = tuple(Input(e, number[e.upstream_task], names[e.upstream_task], names[task]) for e in flow.edges_to(task))
    step = Step(number[task], task, names[task].slug, inputs, dict(flow.constants.get(task, ())))
    step.store = getattr(task, "result", None) or getattr(flow, "result", None)
    if isinstance(task, Constant):
        step.literal = Success("Constant.", task.value)
    elif isinstance(task, Parameter):
        value = parameters.get(task.name, task.default)
        step.literal = Success("Parameter.", value)
    return step


def check_marker(step: Step) -> None:
    """Refuse a task that must not run twice and has no place for its start marker.

    Raises
    ------
    FlowDefinitionError
        Always then; it is named.
    """
    if step.store is None and not step.task.rerun_on_loss:
        raise FlowDefinitionError(
            f"task {step.slug}: rerun_on_loss=False leaves a start marker where all workers see it; give it a "
            f"place that they share: Flow(result=LocalResult(...)), or result=... on the task"
        )


def _assign_spaces(steps: tuple[Step, ...]) -> tuple[MapDomain, ...]:
    spaces: list[MapDomain] = []
    known: dict[object, int] = {}
    for step in steps:
        if step.mapped:
            assign_space(step, steps, spaces, known)
    return tuple(spaces)


def assign_space(step: Step, steps: Sequence[Step], spaces: list[MapDomain], known: dict[object, int]) -> None:
    """Say what a mapped step runs over: a space that is there already, or a new one.

    Parameters
    ----------
    known
        Spaces by what they are made of.
    """
    tokens = tuple(dict.fromkeys(_token(steps, i) for i in step.inputs if i.mapped))
    step.space = _shared_space(tokens, spaces)
    if step.space is not None:
        return
    strict = bool(step.task.strict_map)
    # Children of mapped steps of one space pair by index whichever of the steps they come from.
    identity = frozenset(("space", t.space) if t.space is not None and not t.flattened else t for t in tokens)
    key = (identity, strict or len(identity) == 1)
    if key not in known:
        known[key] = len(spaces)
        spaces.append(MapDomain(len(spaces), tokens, strict))
    step.space = known[key]


def _shared_space(tokens: tuple[MapSource, ...], spaces: Sequence[MapDomain]) -> int | None:
    """Return the space of the steps that are read item by item, if the other inputs are the lists it is made of."""
    inner = {t.space for t in tokens if t.space is not None and not t.flattened}
    if len(inner) != 1:
        return None
    space = spaces[inner.pop() or 0]
    lists = {t for t in tokens if t.space is None or t.flattened}
    # All of them, or their lengths would be another condition; and in step, which a map that is flattened is not.
    return space.number if not lists or (lists == set(space.tokens) and not space.grows) else None


def _token(steps: Sequence[Step], i: Input) -> MapSource:
    return MapSource(i.source, i.flattened, steps[i.source].space)


def _assign_groups(steps: tuple[Step, ...], limited_tags: frozenset[str]) -> tuple[Group, ...]:
    members: list[list[int] | None] = []
    stages: list[int] = []
    for step in steps:
        if step.literal is not None:
            continue
        home = None if _travels_alone(step, limited_tags) else _home(step, steps, members, stages, limited_tags)
        if home is None:
            home = len(members)
            members.append([])
            stages.append(1 + max((steps[i.source].stage for i in step.inputs), default=0))
        joined = members[home]
        assert joined is not None, "a merged group takes no more steps"
        joined.append(step.number)
        step.group, step.stage = home, stages[home]
    return tuple(
        Group(n, tuple(sorted(numbers)), stages[n], steps[numbers[0]].space)
        for n, numbers in enumerate(members)
        if numbers
    )


def _home(
    step: Step,
    steps: tuple[Step, ...],
    members: list[list[int] | None],
    stages: list[int],
    limited_tags: frozenset[str],
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
    joined = [n for h in homes for n in members[h] or ()]
    if len(joined) >= GROUP_SIZE:
        return None
    if any(_traits(steps[n]) != _traits(step) or _travels_alone(steps[n], limited_tags) for n in joined):
        return None
    return _merged(homes, steps, members)


def _rides_along(i: Input, source: Step, step: Step) -> bool:
    """Whether an input comes from a step of the same branch."""
    return source.space == step.space and i.mapped == step.mapped and not i.flattened


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
    """Where and how a step wants to run; steps that differ in it do not travel together."""
    task = step.task
    priority = id(task.priority) if callable(task.priority) else None
    return (placement_of(task), priority, task.batch_size, task.isolation)


def _travels_alone(step: Step, limited_tags: frozenset[str]) -> bool:
    """Steps under a limit are admitted one by one, so no neighbour may ride on their permit."""
    task = step.task
    return bool(task.max_concurrency or task.rate or (limited_tags and limited_tags & task.tags))
