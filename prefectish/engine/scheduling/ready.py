"""Open chains: which steps of a group can start now, how wide their map is, and where their inputs come from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from prefectish.caching.lookups import has_cache
from prefectish.engine.capture import Error, capture
from prefectish.engine.jobs.job import ITEM, SHARED, STEP, ChainSpec, InputKind, Pick, StepSpec
from prefectish.engine.plan.map_domain import SCALAR, UNMAPPABLE, KnownSource, element_width, flat_paths, parent_verdict
from prefectish.engine.plan.steps import Group, Input, MapDomain, Plan, Step
from prefectish.engine.scheduling import run_state
from prefectish.engine.scheduling.run_state import MapState, StepChain, StepState
from prefectish.engine.scheduling.verdict import finished
from prefectish.engine.state import Failed, Mapped, Skipped, State
from prefectish.engine.worker.cache import CacheSpec
from prefectish.engine.worker.storage import ResultStorage
from prefectish.errors import describe

logger = logging.getLogger("prefectish.engine")

#: Called with (step, old state, new state) where the owner makes a transition; handlers may replace the new state.
Notify = Callable[[StepState, State, State], State]


class ReadySteps:
    """Splits groups into chains as their inputs become known."""

    def __init__(
        self,
        plan: Plan,
        step_states: Sequence[StepState],
        facts: Mapping[str, Any],
        notify: Notify,
        keep: Collection[int] = (),
        keyed: bool = False,
    ) -> None:
        self.keyed = keyed
        self._named: tuple[int, set[int | None]] = 0, set()
        self.plan = plan
        self.keep = frozenset(keep)
        self.step_states = step_states
        self.facts = facts
        self.notify = notify
        self.map_states = [MapState(domain) for domain in plan.domains]
        for map_state in self.map_states:
            self._find_below(map_state)
        self.waiting = {group.number: list(group.steps) for group in plan.groups}
        self.opened = 0

    def _find_below(self, map_state: MapState) -> None:
        """Note which map domain a flattened one grows with."""
        if map_state.domain.grows:
            below = map_state.domain.sources[0].domain
            map_state.below = None if below is None else self.map_states[below]

    def add_domain(self, domain: MapDomain) -> MapState:
        """Note a map domain of a plan that grows."""
        map_state = MapState(domain)
        self.map_states.append(map_state)
        self._find_below(map_state)
        return map_state

    def consider(self, group: Group) -> tuple[StepChain | None, list[StepState]]:
        """Start what can start of `group`.

        Returns
        -------
        (chain, ended) : the chain that opened, if one did, and the steps that ended without children.
        """
        waiting = [n for n in self.waiting[group.number] if not self.step_states[n].final]
        now: list[int] = []
        for number in waiting:
            if not self.step_states[number].blocked and all(
                self._known(i, number, now) for i in self.plan.steps[number].inputs
            ):
                now.append(number)
        if not now:
            return None, []
        self.waiting[group.number] = [n for n in waiting if n not in now]
        members: list[StepState] = []
        ended: list[StepState] = []
        for number in now:
            step_state = self.step_states[number]
            if not step_state.step.mapped:
                step_state.children, step_state.left = [None], 1
                members.append(step_state)
            elif self._decide_parent(step_state):
                members.append(step_state)
            else:
                ended.append(step_state)
        return (self._chain(group, members) if members else None), ended

    def _known(self, i: Input, number: int, now: Sequence[int]) -> bool:
        """Whether an input is final, or will be by the time its row starts."""
        source = self.step_states[i.source]
        if source.final:
            return True
        if not i.mapped:
            return i.source in now and not source.step.mapped
        if not source.step.mapped:
            return False
        domain = self.plan.steps[number].domain
        assert domain is not None
        if i.flattened:
            # States without those of their source can only be told apart in the order of the whole map.
            in_order = isinstance(self.step_states[number].starts, Mapped) and source.starts is None
            return self.plan.domains[domain].grows and source.children is not None and not in_order
        if source.step.domain == domain:
            return i.source in now or source.children is not None
        inner = self.map_states[source.step.domain if source.step.domain is not None else domain]
        return source.children is not None and inner.closed and not inner.domain.grows

    # -- parents of maps --------------------------------------------------------------------------------------------

    def _decide_parent(self, step_state: StepState) -> bool:
        """Make the parent of a map Mapped and its rows known; False if it ended otherwise."""
        step = step_state.step
        assert step.domain is not None
        map_state = self.map_states[step.domain]
        sources = [self._source(i, map_state, step_state.starts) for i in step.inputs]
        state, width, warning = parent_verdict(
            sources, skip=step.task.skip_on_upstream_skip, strict=step.task.strict_map
        )
        if state is None:
            state = _iterator_fault(sources, step.task.strict_map)
        old = step_state.state
        if state is not None:
            step_state.state, step_state.final = self.notify(step_state, old, state), True
            return False
        if warning:
            logger.warning("%s: %s", step.slug, warning)
        self._widen(map_state, width, sources)
        new = self.notify(
            step_state, old, Mapped("Mapped tasks submitted for execution.", n_map_states=map_state.width or 0)
        )
        if not isinstance(new, Mapped):
            step_state.state, step_state.final = new, True
            return False
        step_state.state, step_state.map_state = new, map_state
        step_state.children = [None] * (map_state.width or 0)
        step_state.left = len(step_state.children)
        map_state.members.append(step_state)
        return True

    def _widen(self, map_state: MapState, width: int | None, sources: Sequence[KnownSource]) -> None:
        """Note the width of a map domain when the first step is decided over it."""
        if map_state.width is not None:
            return
        token = map_state.domain.sources[0]
        if width is not None:
            map_state.width, map_state.closed = width, True
        else:
            map_state.width = 0
            if not map_state.domain.grows:
                map_state.source = next(s.state._result for s in sources if _is_iterator(s))
        if token.flattened and len(map_state.domain.sources) == 1:
            self._locate(map_state, self.step_states[token.source])

    def _locate(self, map_state: MapState, source: StepState) -> None:
        """Note where the elements of a flattened input are, as far as they are known."""
        if not source.step.mapped:
            map_state.paths = flat_paths(source.measured()[2])
            return
        map_state.paths, map_state.width, map_state.closed = [], 0, source.final
        if isinstance(source.starts, Mapped):
            map_state.before = {path: n for n, path in enumerate(flat_paths(_widths_before(source.starts)))}
        for row in _rows_in_order(source):
            if source.children is not None and source.children[row] is not None:
                grow(map_state, source, row)

    def _source(self, i: Input, map_state: MapState, given: State | None) -> KnownSource:
        """Describe one input to the parent rule.

        Where the caller gave children but not the list they came from, their number stands for its length.
        """
        step_state = self.step_states[i.source]
        state = step_state.state
        if not i.mapped:
            return KnownSource(i, state)
        if step_state.children is not None and step_state.step.mapped:
            return KnownSource(i, state, self._mapped_width(i, step_state, map_state), "list")
        if not state.is_successful():
            # A generator cannot leave its process, which failed its task, but that nobody can map over it is known too.
            unmappable = step_state.measurement is not None and step_state.measurement[0] < 0
            return KnownSource(i, state, UNMAPPABLE, step_state.measurement[1]) if unmappable else KnownSource(i, state)
        if isinstance(state, Mapped):
            return KnownSource(i, state, state.n_map_states, "list")
        if state._result is None and isinstance(given, Mapped) and given.n_map_states:
            return KnownSource(i, state, given.n_map_states, "list")
        if _is_iterator_value(step_state):
            return KnownSource(i, state, None, "iterator")
        facts = step_state.measured()
        if not i.flattened or facts[0] < 0:
            return KnownSource(i, state, facts[0], facts[1])
        return KnownSource(i, state, len(flat_paths(facts[2])), facts[1])

    def _mapped_width(self, i: Input, step_state: StepState, map_state: MapState) -> int | None:
        assert step_state.children is not None
        if not i.flattened:
            return len(step_state.children) if step_state.map_state is None or step_state.map_state.closed else None
        if map_state.domain.grows:
            return None
        return len(flat_paths([(step_state.widths or {}).get(row, -1) for row in range(len(step_state.children))]))

    # -- chains ------------------------------------------------------------------------------------------------------

    def _chain(self, group: Group, members: list[StepState]) -> StepChain:
        map_state = None if group.domain is None else self.map_states[group.domain]
        chain = StepChain(members, group.stage, map_state)
        shared: list[State] = []
        specs = tuple(self._step_spec(chain, step_state, shared) for step_state in members)
        inside = chain.position
        wanted = frozenset(
            p
            for p, r in enumerate(members)
            if r.step.number in self.keep or any(c not in inside for c in r.step.consumers)
        )
        for step_state in members:
            step_state.chain = chain
        task = members[0].step.task
        batch = None if map_state is None else task.batch_size  # a single step has no siblings to share a job with
        chain.spec = ChainSpec(self.opened, self.facts, specs, tuple(shared), wanted, batch)
        self.opened += 1
        if callable(task.priority):
            chain.order = self._order(chain, task.priority)
        else:
            chain.priority = float(task.priority or 0)
        return chain

    def _order(self, chain: StepChain, priority: Callable[[Any], Any]) -> Sequence[int] | None:
        """Return the rows by falling priority of their items; None if the items are not here, or come one by one."""
        map_state = chain.map_state
        if map_state is None or not map_state.closed or chain.dependencies or not chain.pickers:
            logger.warning(
                "%s: priority by item needs a list that is at the client; rows start in map order",
                chain.step_states[0].step.slug,
            )
            return None
        ranks = [self._rank(chain, priority, row) for row in range(map_state.width or 0)]
        return sorted(range(len(ranks)), key=lambda row: -ranks[row])

    def _rank(self, chain: StepChain, priority: Callable[[Any], Any], row: int) -> float:
        outcome = capture(lambda: float(priority(_value_of(chain.pickers[0](row)))))
        if isinstance(outcome, Error):
            label = chain.spec.steps[0].label(row)
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
        goes_on = any(i.mapped and not i.flattened and self.plan.steps[i.source].mapped for i in step.inputs)
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
            cache=CacheSpec(step.task, step.store) if has_cache(step.task) else None,
        )

    def _storage(self, step: Step) -> ResultStorage | None:
        """Return how a step keeps its results; None without a place for them."""
        if step.store is None:
            return None
        task = step.task
        checkpoint = getattr(task, "checkpoint", None) is not False and self.facts["checkpointing"]
        folder = f"{self.facts['flow_run_id']}/{self.facts.get('flow_run_part', 0)}"
        return ResultStorage(step.store, checkpoint, getattr(task, "target", None), folder)

    def _wire(self, chain: StepChain, i: Input, shared: list[State]) -> tuple[InputKind, int]:
        """Say where an input of a step of `chain` comes from, and note what the chain needs for it."""
        source = self.step_states[i.source]
        inside = chain.position.get(i.source)
        if inside is not None and (not i.flattened if i.mapped else not source.step.mapped):
            return STEP, inside
        picker = self._picker(chain, i, source) if i.mapped else None
        if picker is None:
            shared.append(source.state)
            return SHARED, len(shared) - 1
        chain.pickers.append(picker)
        return ITEM, len(chain.pickers) - 1

    def _picker(self, chain: StepChain, i: Input, source: StepState) -> Callable[[int], Any] | None:
        """Return what gives the item of each row; None if all rows see one state (an upstream that failed)."""
        map_state = chain.map_state
        assert map_state is not None
        if source.step.mapped and source.children is not None:
            if i.flattened:
                return run_state.flat_children_picker(source, self._paths_for(map_state, i, source))
            if source.final and source.map_state is not map_state:
                assert isinstance(source.state, Mapped)
                return run_state.states_picker(source.state.map_states or ())
            if not source.final and source not in chain.dependencies:
                chain.dependencies.append(source)
                source.dependents.append(chain)
            return run_state.child_picker(source)
        if isinstance(source.state, Mapped) or not source.state.is_successful() or _left_nothing(source):
            return None
        if _is_iterator_value(source):
            return run_state.iterator_picker(map_state)
        if i.flattened:
            return run_state.flat_list_picker(source, self._paths_for(map_state, i, source))
        return run_state.list_picker(source)

    def _paths_for(self, map_state: MapState, i: Input, source: StepState) -> MapState:
        """Return a map state that knows the paths of `source`: the chain's, or one beside it where inputs pair."""
        if len(map_state.domain.sources) == 1 and map_state.paths is not None:
            return map_state
        beside = MapState(map_state.domain)
        if not source.step.mapped:
            beside.paths = flat_paths(source.measured()[2])
        else:
            rows = _rows_in_order(source)
            widths = [(source.widths or {}).get(row, -1) for row in rows]
            beside.paths = [(rows[p[0]], *p[1:]) for p in flat_paths(widths)]
        return beside


def _value_of(item: Any) -> Any:
    if isinstance(item, Pick):
        return item.read()
    return item.result if isinstance(item, State) else item


def _names_items(step: Step) -> bool:
    """Whether a name that the step makes, of a result or a run, may need the key of the item."""
    task = step.task
    places = () if step.store is None else (getattr(task, "target", None), step.store.location)
    return any(_needs_key(wanted) for wanted in (*places, getattr(task, "task_run_name", None)))


def _needs_key(wanted: Any) -> bool:
    return wanted is not None and (callable(wanted) or "item_key" in str(getattr(wanted, "text", wanted)))


def grow(map_state: MapState, source: StepState, row: int) -> int:
    """Add the elements of one finished row of a flattened map; return how many rows were added."""
    assert map_state.paths is not None and map_state.width is not None
    width = (source.widths or {}).get(row, -1)
    new = [(row,)] if width < 0 else [(row, j) for j in range(width)]
    map_state.paths.extend(new)
    map_state.width += len(new)
    for step_state in map_state.members:
        assert step_state.children is not None
        step_state.children.extend([None] * len(new))
        step_state.left += len(new)
    return len(new)


def _widths_before(given: Mapped) -> list[int]:
    """Return the number of elements that each child the caller gave had; one that was not finished had none yet."""
    return [
        0 if child is None or not finished(child) else element_width(child.result) if child.is_successful() else SCALAR
        for child in given.map_states or ()
    ]


def _rows_in_order(source: StepState) -> Sequence[int]:
    order = source.map_state.order() if source.map_state is not None else None
    return range(len(source.children or ())) if order is None else order


def _left_nothing(step_state: StepState) -> bool:
    """Whether a step was skipped, and no list of items stands in for its result."""
    return isinstance(step_state.state, Skipped) and step_state.measured()[0] < 0


def _is_iterator_value(step_state: StepState) -> bool:
    return step_state.step.literal is not None and hasattr(step_state.state._result, "__next__")


def _is_iterator(source: KnownSource) -> bool:
    return source.kind == "iterator"


def _iterator_fault(sources: Sequence[KnownSource], strict: bool) -> State | None:
    """Refuse to pair an iterator with anything whose length it would have to match."""
    mapped = [s for s in sources if s.input.mapped]
    if len(mapped) < 2 or not any(_is_iterator(s) for s in mapped):
        return None
    told = ", ".join(f"{s.input.key or s.input.source_slug}={'?' if s.width is None else s.width}" for s in mapped)
    text = f"mapped inputs may differ in length: {told}; an iterator has none: pass list(...), or zip the inputs first"
    return Failed(text, ValueError(text))
