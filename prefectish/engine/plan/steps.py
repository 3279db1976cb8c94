"""What a compiled flow consists of: steps, what each map runs over, and groups of steps that travel together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from prefectish.edges import Edge
from prefectish.engine.plan.map_domain import Measure
from prefectish.engine.state import State
from prefectish.results.base import Result
from prefectish.slugs import child_label
from prefectish.tasks.task import Task


class TaskName(NamedTuple):
    """What a trigger may know of a task: enough to say which one, small enough to travel with every map."""

    name: str
    slug: str
    tags: frozenset[str]
    label: str  # what it is called, see `prefectish.slugs`


class Input:
    """One edge into a step: where the state comes from and how it is read."""

    __slots__ = (
        "allow_failure", "edge", "flattened", "given", "inside", "key", "mapped", "source", "source_label",
        "source_slug",
    )  # fmt: skip

    def __init__(
        self,
        edge: Edge,
        source: int,
        upstream: TaskName,
        downstream: TaskName,
        given: bool = False,
        inside: str | None = None,
    ) -> None:
        self.given = given  # it is a value of the caller's and no edge: triggers do not see it
        self.inside = inside  # name of the argument in which it fills a place, None if it is an argument by itself
        self.edge = Edge(upstream, downstream, edge.key, edge.mapped, edge.flattened, edge.allow_failure)
        self.key: str | None = edge.key
        self.mapped: bool = edge.mapped
        self.flattened: bool = edge.flattened
        self.allow_failure: bool = edge.allow_failure
        # Number of the step it comes from; -1 where each row has a source of its own (the arguments of calls).
        self.source = source
        self.source_slug = upstream.slug
        self.source_label = upstream.label


class Step:
    """One task of the flow with everything the engine needs to know before the run."""

    __slots__ = (
        "arrival", "by_position", "constants", "consumers", "fan_in", "group", "inputs", "label", "literal", "mapped",
        "measure", "name", "number", "origin", "slug", "domain", "shares_cache", "stage", "stands_in", "store", "task",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        task: Task,
        name: TaskName,
        inputs: tuple[Input, ...],
        constants: Mapping[str, Any],
        by_position: tuple[str, ...] = (),
    ) -> None:
        self.by_position = by_position  # names of the arguments that the body is given by position
        self.number = number  # position in the plan, topological: every input comes from a smaller number
        self.task = task
        self.origin = task  # the task of the flow, of which `task` is a copy if options are set around the run
        self.name: str = task.name
        self.slug = name.slug
        self.label = name.label  # what it is called in whatever a person reads
        self.inputs = inputs
        self.constants = constants
        self.fan_in = task._fan_in  # of a reduction: how many results one of its children combines; None for others
        self.mapped = self.fan_in is not None or any(i.mapped for i in inputs)
        self.literal: State | None = None  # the state of a constant or a parameter, which never runs
        self.domain: int | None = None  # number of the domain it maps over, None for a single step
        self.group: int | None = None  # number of the group it can travel in, None for a literal
        self.stage = 0
        self.arrival = 0  # of a map that came during the run: when it was asked for; smaller ones came first
        self.stands_in = False  # its state is not the user's: it came from a call of another step
        # Others of the run may use the cache of its task: its children, its calls, a step of the same name.
        self.shares_cache = self.mapped
        # How much of its result is measured, see `map_domain.measure`: 0 if no step maps over it, 1 if one does, 2 if
        # one flattens it.
        self.measure = Measure.NOTHING
        # Where its results are kept: the task's own place or the flow's; None for nowhere.
        self.store: Result | None = None
        self.consumers: list[int] = []  # numbers of the steps that read it

    def label_of(self, row: int) -> str:
        """``load[17]`` for a child of a map, ``load`` for a single task."""
        return child_label(self.label, row if self.mapped else None)

    def place_of(self, row: int) -> str:
        """The same by the slug, as texts that programs look for begin: ``load-1[17]``."""
        return child_label(self.slug, row if self.mapped else None)

    @property
    def reduced(self) -> Input:
        """The input of a reduction whose children it combines."""
        return next(i for i in self.inputs if i.key is not None)

    def __repr__(self) -> str:
        kind = "literal" if self.literal is not None else "mapped" if self.mapped else "single"
        return f"<Step {self.number} {self.label}: {kind}, group {self.group}, domain {self.domain}>"


class MapSource(NamedTuple):
    """One thing a domain is made of: a list (``domain`` is None), or another domain through one of its mapped steps."""

    source: int
    flattened: bool
    domain: int | None


class MapDomain(NamedTuple):
    """The positions of a map: the width is that of its sources, which must agree unless ``strict`` is False."""

    number: int
    sources: tuple[MapSource, ...]
    strict: bool

    @property
    def grows(self) -> bool:
        """Whether the width becomes known piece by piece: a flattened map and nothing to pair it with."""
        return len(self.sources) == 1 and self.sources[0].flattened and self.sources[0].domain is not None


class Group(NamedTuple):
    """Steps that can travel as one job for each branch, in topological order."""

    number: int
    steps: tuple[int, ...]
    stage: int
    domain: int | None


class Plan(NamedTuple):
    """A compiled flow. Its repr is what one looks at when a flow is wrong.

    The plan of a flow function begins empty and grows with its calls; any other never changes.
    """

    flow_name: str
    steps: Sequence[Step]
    domains: Sequence[MapDomain]
    groups: Sequence[Group]
    references: tuple[int, ...]
    terminals: tuple[int, ...]
    grows: bool = False
