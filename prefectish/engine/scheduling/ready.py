"""Which steps of a group can start now, and the chains they make."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from prefectish.caching.lookups import has_cache
from prefectish.engine.capture import Error, capture
from prefectish.engine.jobs.job import ITEM, SHARED, STEP, ChainSpec, InputKind, Pick, StepSpec
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.map_domain import flat_paths
from prefectish.engine.plan.names import computes_name
from prefectish.engine.plan.placement import ask
from prefectish.engine.plan.steps import Group, Input, Step
from prefectish.engine.scheduling import items
from prefectish.engine.scheduling.changes import Changes
from prefectish.engine.scheduling.map_parents import MapParents, is_iterator, rows_in_order
from prefectish.engine.scheduling.reduction_chain import ReductionChain
from prefectish.engine.scheduling.run_state import NOT_RUN, MapState, StepChain, StepState
from prefectish.engine.state import Mapped, Skipped, State
from prefectish.engine.worker.cache import CacheSpec
from prefectish.engine.worker.result_names import NameTable
from prefectish.engine.worker.storage import ResultStorage
from prefectish.engine.worker.time_limit import AttemptOverran, before_attempt
from prefectish.errors import describe
from prefectish.flow_version import task_version
from prefectish.kinds import is_a
from prefectish.tasks.collections import Flattened
from prefectish.tasks.reductions import Reduced

logger = logging.getLogger("prefectish.engine")


class ReadySteps:
    """Splits groups into chains as their inputs become known.

    Parameters
    ----------
    facts
        Facts of the run, for the context of every body.
    keep
        Steps whose large results are kept.
    keyed
        Whether the key of each item is recorded.

    Attributes
    ----------
    waiting
        Steps of each group that have not started, by number of the group.
    """

    def __init__(
        self, changes: Changes, facts: Mapping[str, Any], keep: Collection[int] = (), keyed: bool = False
    ) -> None:
        self.changes = changes
        self.run_state = changes.run_state
        self.plan = changes.run_state.plan
        self.parents = MapParents(changes)
        self.facts = facts
        self.keep = frozenset(keep)
        self.keyed = keyed
        self.waiting = {group.number: list(group.steps) for group in self.plan.groups}
        self.names = NameTable()
        self._named: tuple[int, set[int | None]] = 0, set()
        self._chain_count = 0

    def add_group(self, group: Group) -> None:
        """Note a group of a plan that grows, to be considered in the next turn."""
        self.run_state.groups[group.number] = group
        self.waiting[group.number] = list(group.steps)
        self.run_state.touched.add(group.number)

    def consider(self, group: Group) -> tuple[StepChain | None, list[StepState]]:
        """Start what can start of `group`.

        Returns
        -------
        The chain that opened, if one did, and the steps that ended without children.
        """
        waiting = [n for n in self.waiting[group.number] if not self.run_state.step_states[n].final]
        now: list[int] = []
        for number in waiting:
            if not self.run_state.step_states[number].blocked and all(
                self._known(i, number, now) for i in self.plan.steps[number].inputs
            ):
                now.append(number)
        if not now:
            return None, []
        self.waiting[group.number] = [n for n in waiting if n not in now]
        members: list[StepState] = []
        ended: list[StepState] = []
        for number in now:
            step_state = self.run_state.step_states[number]
            if isinstance(step_state.step.task, Reduced):
                self._take_outcome(step_state)
                ended.append(step_state)
            elif not step_state.step.mapped:
                self.changes.open_step(step_state)
                members.append(step_state)
            elif self.parents.decide(step_state):
                members.append(step_state)
            else:
                ended.append(step_state)
        return (self._chain(group, members) if members else None), ended

    def _take_outcome(self, step_state: StepState) -> None:
        """End the step that stands for what a reduction gave: no attempt is made, and no value moves."""
        outcome = self.run_state.step_states[step_state.step.inputs[0].source].outcome
        result = outcome._raw_result
        own = result.held_again() if is_a(result, Held) else None
        self.changes.open_step(step_state)
        self.changes.end_row(step_state, 0, NOT_RUN, outcome if own is None else outcome.replace(result=own), True)

    def _known(self, i: Input, number: int, now: Sequence[int]) -> bool:
        """Whether an input is final, or will be by the time its row starts."""
        source = self.run_state.step_states[i.source]
        if source.final:
            return True
        step = self.plan.steps[number]
        if step.fan_in is not None and i is step.reduced and source.children is not None:
            return source.map_state is not None and (source.map_state.closed or not source.map_state.domain.grows)
        if not i.mapped:
            return i.source in now and not source.step.mapped
        domain = self.plan.steps[number].domain
        assert domain is not None
        if not source.step.mapped:  # a generator that runs may have yielded items
            alone = self.plan.domains[domain].sources == ((i.source, False, None),)
            return alone and (i.source, 0) in self.run_state.streams and source.children is not None
        if i.flattened:
            # States without those of their source can only be distinguished in the order of the whole map.
            in_order = isinstance(self.run_state.step_states[number].starts, Mapped) and source.starts is None
            return self.plan.domains[domain].grows and source.children is not None and not in_order
        if source.step.domain == domain:
            return i.source in now or source.children is not None
        inner = self.run_state.map_states[source.step.domain if source.step.domain is not None else domain]
        return source.children is not None and inner.closed and not inner.domain.grows

    # -- chains ------------------------------------------------------------------------------------------------------

    def _chain(self, group: Group, members: list[StepState]) -> StepChain:
        map_state = None if group.domain is None else self.run_state.map_states[group.domain]
        if members[0].step.fan_in is None:
            chain = StepChain(members, group.stage, map_state)
        else:
            source = self.run_state.step_states[members[0].step.reduced.source]
            assert map_state is not None
            chain = ReductionChain(members[0], source, group.stage, map_state)
        shared: list[State] = []
        specs = tuple(self._step_spec(chain, step_state, shared) for step_state in members)
        inside = chain.position
        wanted = frozenset(
            p
            for p, r in enumerate(members)
            if r.step.number in self.keep or any(self._reads_again(c, inside) for c in r.step.consumers)
        )
        task = members[0].step.task
        # A single step has no siblings to share a job with; what shares a slot is a batch where those run together.
        batch = None if map_state is None else task.batch_size or task.async_concurrency
        chain.spec = ChainSpec(self._chain_count, self.facts, specs, tuple(shared), wanted, batch)
        self._chain_count += 1
        if any(computes_name(step_state.step, self.plan.steps) for step_state in members):
            chain.next_in_order = 0
        if self.plan.grows:
            self._rank_dynamic(chain, members)
        if callable(task.priority):
            chain.order = self._order(chain, task.priority)
        else:
            chain.priority = float(task.priority or 0)
        return chain

    def _reads_again(self, consumer: int, inside: Mapping[int, int]) -> bool:
        """Whether a step reads a result when the job that made it has ended: outside of it, or in another attempt."""
        return consumer not in inside or bool(self.plan.steps[consumer].task.max_retries)

    def _rank_dynamic(self, chain: StepChain, members: Sequence[StepState]) -> None:
        """Say when a map of a flow function is served: one that reads an open map goes before it, and came with it."""
        inputs = (i for s in members for i in s.step.inputs if i.mapped or s.step.fan_in is not None)
        sources = (self.run_state.step_states[i.source] for i in inputs)
        read = [source.chain for source in sources if source.chain is not None and not source.final]
        chain.precedence = max((c.precedence + 1 for c in read), default=0)
        chain.arrival = min((c.arrival for c in read), default=members[0].step.arrival)
        for spec in chain.spec.steps:
            spec.precedence = chain.precedence

    def _order(self, chain: StepChain, priority: Callable[[Any], Any]) -> Sequence[int] | None:
        """Return the rows by falling priority of their items; None if the items are not here, or come one by one."""
        map_state = chain.map_state
        if map_state is None or not map_state.closed or chain.dependencies or not chain.readers:
            logger.warning(
                "%s: priority by item needs a list that is at the client; rows start in map order",
                chain.step_states[0].step.label,
            )
            return None
        try:
            ranks = [self._rank(chain, priority, row) for row in range(map_state.width or 0)]
        except AttemptOverran as overrun:
            logger.warning("%s: %s; rows start in map order", chain.step_states[0].step.label, overrun)
            return None
        return sorted(range(len(ranks)), key=lambda row: -ranks[row])

    def _rank(self, chain: StepChain, priority: Callable[[Any], Any], row: int) -> float:
        spec = chain.spec.steps[0]

        def asked() -> float:
            return float(ask(priority, _value_of(chain.readers[0](row)), 1))

        outcome = capture(before_attempt, spec, self.facts, row, "priority", asked)
        if isinstance(outcome, Error):
            if isinstance(outcome.exception, AttemptOverran):
                raise outcome.exception
            label = spec.label_of(row)
            logger.warning("%s: priority raised %s; it counts as 0", label, describe(outcome.exception))
            return 0.0
        rank: float = outcome.value
        return rank

    def _step_spec(self, chain: StepChain, step_state: StepState, shared: list[State]) -> StepSpec:
        step = step_state.step
        wiring = tuple(self._wire(chain, i, shared) for i in step.inputs)
        computes_key, named_by_key = self._key_use(step)
        return self.spec_of(step, wiring, computes_key, named_by_key)

    def _key_use(self, step: Step) -> tuple[bool, bool]:
        """Return whether the attempts of a step compute the keys of their items, and name something after them."""
        if not step.mapped:
            return False, False
        named = step.domain in self._named_domains()
        if step.fan_in is not None:
            return False, named  # a child is known by its place
        sources = [self.plan.steps[i.source] for i in step.inputs if i.mapped and not i.flattened]
        # What pairs children of several maps has rows of its own; names go on with that of the first one.
        goes_on = any(
            source.mapped and source.literal is None and (named or source.domain == step.domain) for source in sources
        )
        asked = self.keyed or named or getattr(step.task, "item_key", None) is not None
        return asked and not goes_on, named

    def _named_domains(self) -> set[int | None]:
        """Return the map domains over which some name is made of the key of an item."""
        steps = self.plan.steps
        if self._named[0] != len(steps):
            self._named = len(steps), {step.domain for step in steps if step.mapped and _names_items(step)}
        return self._named[1]

    def spec_of(
        self,
        step: Step,
        wiring: tuple[tuple[InputKind, int], ...],
        computes_key: bool = False,
        named_by_key: bool = False,
        mapped: bool = True,
    ) -> StepSpec:
        """Return what an attempt has to know of a step.

        Parameters
        ----------
        mapped
            Whether its rows are children of a map, if it has rows.
        """
        return StepSpec(
            step.number,
            step.task,
            step.slug,
            step.inputs,
            step.constants,
            step.mapped and mapped,
            step.measure,
            wiring,
            computes_key=computes_key,
            named_by_key=named_by_key,
            storage=self._storage(step),
            cache=CacheSpec(step.task, step.store, shared=step.shares_cache) if has_cache(step.task) else None,
            by_position=step.by_position,
            label=step.label,
        )

    def _storage(self, step: Step) -> ResultStorage | None:
        """Return how a step keeps its results; None without a place for them."""
        if step.store is None:
            return None
        task = step.task
        checkpoint = getattr(task, "checkpoint", None) is not False and self.facts["checkpointing"]
        folder = f"{self.facts['flow_run_id']}/{self.facts.get('flow_run_part', 0)}"
        target = getattr(task, "target", None)
        location = None if getattr(task, "auto_generated", False) else step.store.location
        version = task_version(task) if self.keyed and self.plan.grows else None
        return ResultStorage(step.store, checkpoint, target, folder, self.names, location, version)

    def _wire(self, chain: StepChain, i: Input, shared: list[State]) -> tuple[InputKind, int]:
        """Say where an input of a step of `chain` comes from, and note what the chain needs for it."""
        source = self.run_state.step_states[i.source]
        if isinstance(chain, ReductionChain) and source is chain.source:
            chain.readers.append(chain.group_of)
            return ITEM, len(chain.readers) - 1
        inside = chain.position.get(i.source)
        if inside is not None and (not i.flattened if i.mapped else not source.step.mapped):
            return STEP, inside
        reader = self._reader(chain, i, source) if i.mapped else None
        if reader is None:
            shared.append(self._flattened_before(source).state)
            return SHARED, len(shared) - 1
        chain.readers.append(reader)
        return ITEM, len(chain.readers) - 1

    def _flattened_before(self, source: StepState) -> StepState:
        """Return the step that failed, in the place of one that only takes a level of it away."""
        while isinstance(source.step.task, Flattened) and source.state.is_failed() and source.step.inputs:
            source = self.run_state.step_states[source.step.inputs[0].source]
        return source

    def _reader(self, chain: StepChain, i: Input, source: StepState) -> items.ItemReader | None:
        """Return the reader of an input's items; None if all rows see one state (an upstream that failed)."""
        map_state = chain.map_state
        assert map_state is not None
        if source.step.mapped and source.children is not None:
            if i.flattened:
                return items.FlattenedChildren(source, self._paths_for(map_state, i, source))
            if source.final and source.map_state is not map_state:
                assert isinstance(source.state, Mapped)
                return (source.state.map_states or []).__getitem__
            if not source.final and source not in chain.dependencies:
                chain.dependencies.append(source)
                source.dependents.append(chain)
            return items.ChildrenInRow(source)
        if items.lacks_members(source) and not i.flattened:
            return items.MembersInRow(source, self.run_state.step_states)
        if map_state.streams:
            return items.YieldedItems(map_state, source, self._is_read_once(i.source))
        if isinstance(source.state, Mapped) or not source.state.is_successful() or _has_no_items(source):
            return None
        if is_iterator(source):
            return items.PulledItems(map_state, self._is_read_once(i.source))
        if i.flattened:
            return items.FlattenedList(source.state, self._paths_for(map_state, i, source))
        return items.items_of(source, map_state.width or 0)

    def _is_read_once(self, number: int) -> bool:
        """Whether one input of one step reads the items of a step, of all that are planned: some begin later."""
        return sum(i.source == number and i.mapped for step in self.plan.steps for i in step.inputs) == 1

    def _paths_for(self, map_state: MapState, i: Input, source: StepState) -> MapState:
        """Return a map state that knows the paths of `source`: the chain's, or one of its own where inputs pair."""
        if len(map_state.domain.sources) == 1 and map_state.paths is not None:
            return map_state
        if not source.step.mapped:
            return MapState(map_state.domain, flat_paths(source.measured(elements=True)[2]))
        rows = rows_in_order(source)
        widths = [(source.widths or {}).get(row, -1) for row in rows]
        return MapState(map_state.domain, [(rows[p[0]], *p[1:]) for p in flat_paths(widths)])


def _value_of(item: Any) -> Any:
    if is_a(item, Pick):
        return item.read()
    return item.result if is_a(item, State) else item


def _names_items(step: Step) -> bool:
    """Whether a name that the step makes, of a result or a run, may need the key of the item."""
    task = step.task
    places = () if step.store is None else (getattr(task, "target", None), step.store.location)
    return any(_needs_key(wanted) for wanted in (*places, getattr(task, "task_run_name", None)))


def _needs_key(wanted: Any) -> bool:
    return wanted is not None and (callable(wanted) or "item_key" in str(getattr(wanted, "text", wanted)))


def _has_no_items(step_state: StepState) -> bool:
    """Whether a step was skipped, and no list of items stands in for its result."""
    return isinstance(step_state.state, Skipped) and step_state.measured()[0] < 0
