"""Open chains: which steps of a group can start now, how wide their map is, and where their inputs come from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from prefectish.caching.lookups import has_cache
from prefectish.engine.capture import Error, capture
from prefectish.engine.jobs.job import ITEM, SHARED, STEP, ChainSpec, Pick, StepSpec
from prefectish.engine.plan.item_key import COMPUTED, NAMED
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
        runs: Sequence[StepState],
        facts: Mapping[str, Any],
        notify: Notify,
        keep: Collection[int] = (),
        keyed: bool = False,
    ) -> None:
        self.keyed = keyed
        self._named: tuple[int, set[int | None]] = 0, set()
        self.plan = plan
        self.keep = frozenset(keep)
        self.runs = runs
        self.facts = facts
        self.notify = notify
        self.spaces = [MapState(space) for space in plan.domains]
        for space in self.spaces:
            self._find_below(space)
        self.waiting = {group.number: list(group.steps) for group in plan.groups}
        self.opened = 0

    def _find_below(self, space: MapState) -> None:
        """Note which space a flattened one grows with."""
        if space.space.grows:
            below = space.space.sources[0].domain
            space.below = None if below is None else self.spaces[below]

    def add_space(self, space: MapDomain) -> MapState:
        """Note a space of a plan that grows."""
        run = MapState(space)
        self.spaces.append(run)
        self._find_below(run)
        return run

    def consider(self, group: Group) -> tuple[StepChain | None, list[StepState]]:
        """Start what can start of `group`.

        Returns
        -------
        (chain, ended) : the chain that opened, if one did, and the steps that ended without children.
        """
        waiting = [n for n in self.waiting[group.number] if not self.runs[n].final]
        now: list[int] = []
        for number in waiting:
            if not self.runs[number].blocked and all(
                self._known(i, number, now) for i in self.plan.steps[number].inputs
            ):
                now.append(number)
        if not now:
            return None, []
        self.waiting[group.number] = [n for n in waiting if n not in now]
        members: list[StepState] = []
        ended: list[StepState] = []
        for number in now:
            run = self.runs[number]
            if not run.step.mapped:
                run.children, run.left = [None], 1
                members.append(run)
            elif self._decide_parent(run):
                members.append(run)
            else:
                ended.append(run)
        return (self._chain(group, members) if members else None), ended

    def _known(self, i: Input, number: int, now: Sequence[int]) -> bool:
        """Whether an input is final, or will be by the time its row starts."""
        source = self.runs[i.source]
        if source.final:
            return True
        if not i.mapped:
            return i.source in now and not source.step.mapped
        if not source.step.mapped:
            return False
        space = self.plan.steps[number].domain
        assert space is not None
        if i.flattened:
            # States without those of their source can only be told apart in the order of the whole map.
            in_order = isinstance(self.runs[number].starts, Mapped) and source.starts is None
            return self.plan.domains[space].grows and source.children is not None and not in_order
        if source.step.domain == space:
            return i.source in now or source.children is not None
        inner = self.spaces[source.step.domain if source.step.domain is not None else space]
        return source.children is not None and inner.closed and not inner.space.grows

    # -- parents of maps --------------------------------------------------------------------------------------------

    def _decide_parent(self, run: StepState) -> bool:
        """Make the parent of a map Mapped and its rows known; False if it ended otherwise."""
        step = run.step
        assert step.domain is not None
        space = self.spaces[step.domain]
        sources = [self._source(i, space, run.starts) for i in step.inputs]
        state, width, warning = parent_verdict(
            sources, skip=step.task.skip_on_upstream_skip, strict=step.task.strict_map
        )
        if state is None:
            state = _iterator_fault(sources, step.task.strict_map)
        old = run.state
        if state is not None:
            run.state, run.final = self.notify(run, old, state), True
            return False
        if warning:
            logger.warning("%s: %s", step.slug, warning)
        self._widen(space, width, sources)
        new = self.notify(run, old, Mapped("Mapped tasks submitted for execution.", n_map_states=space.width or 0))
        if not isinstance(new, Mapped):
            run.state, run.final = new, True
            return False
        run.state, run.space = new, space
        run.children = [None] * (space.width or 0)
        run.left = len(run.children)
        space.members.append(run)
        return True

    def _widen(self, space: MapState, width: int | None, sources: Sequence[KnownSource]) -> None:
        """Note the width of a space when the first step is decided over it."""
        if space.width is not None:
            return
        token = space.space.sources[0]
        if width is not None:
            space.width, space.closed = width, True
        else:
            space.width = 0
            if not space.space.grows:
                space.source = next(s.state._result for s in sources if _is_iterator(s))
        if token.flattened and len(space.space.sources) == 1:
            self._locate(space, self.runs[token.source])

    def _locate(self, space: MapState, source: StepState) -> None:
        """Note where the elements of a flattened input are, as far as they are known."""
        if not source.step.mapped:
            space.paths = flat_paths(source.measured()[2])
            return
        space.paths, space.width, space.closed = [], 0, source.final
        if isinstance(source.starts, Mapped):
            space.before = {path: n for n, path in enumerate(flat_paths(_widths_before(source.starts)))}
        for row in _rows_in_order(source):
            if source.children is not None and source.children[row] is not None:
                grow(space, source, row)

    def _source(self, i: Input, space: MapState, given: State | None) -> KnownSource:
        """Describe one input to the parent rule.

        Where the caller gave children but not the list they came from, their number stands for its length.
        """
        run = self.runs[i.source]
        state = run.state
        if not i.mapped:
            return KnownSource(i, state)
        if run.children is not None and run.step.mapped:
            return KnownSource(i, state, self._mapped_width(i, run, space), "list")
        if not state.is_successful():
            # A generator cannot leave its process, which failed its task, but that nobody can map over it is known too.
            unmappable = run.facts is not None and run.facts[0] < 0
            return KnownSource(i, state, UNMAPPABLE, run.facts[1]) if unmappable else KnownSource(i, state)
        if isinstance(state, Mapped):
            return KnownSource(i, state, state.n_map_states, "list")
        if state._result is None and isinstance(given, Mapped) and given.n_map_states:
            return KnownSource(i, state, given.n_map_states, "list")
        if _is_iterator_value(run):
            return KnownSource(i, state, None, "iterator")
        facts = run.measured()
        if not i.flattened or facts[0] < 0:
            return KnownSource(i, state, facts[0], facts[1])
        return KnownSource(i, state, len(flat_paths(facts[2])), facts[1])

    def _mapped_width(self, i: Input, run: StepState, space: MapState) -> int | None:
        assert run.children is not None
        if not i.flattened:
            return len(run.children) if run.space is None or run.space.closed else None
        if space.space.grows:
            return None
        return len(flat_paths([(run.widths or {}).get(row, -1) for row in range(len(run.children))]))

    # -- chains ------------------------------------------------------------------------------------------------------

    def _chain(self, group: Group, members: list[StepState]) -> StepChain:
        space = None if group.domain is None else self.spaces[group.domain]
        chain = StepChain(members, group.stage, space)
        shared: list[State] = []
        specs = tuple(self._step_spec(chain, run, shared) for run in members)
        inside = chain.position
        wanted = frozenset(
            p
            for p, r in enumerate(members)
            if r.step.number in self.keep or any(c not in inside for c in r.step.consumers)
        )
        for run in members:
            run.chain = chain
        task = members[0].step.task
        batch = None if space is None else task.batch_size  # a single step has no siblings to share a job with
        chain.spec = ChainSpec(self.opened, self.facts, specs, tuple(shared), wanted, batch)
        self.opened += 1
        if callable(task.priority):
            chain.order = self._order(chain, task.priority)
        else:
            chain.priority = float(task.priority or 0)
        return chain

    def _order(self, chain: StepChain, priority: Callable[[Any], Any]) -> Sequence[int] | None:
        """Return the rows by falling priority of their items; None if the items are not here, or come one by one."""
        space = chain.space
        if space is None or not space.closed or chain.gates or not chain.pickers:
            logger.warning(
                "%s: priority by item needs a list that is at the client; rows start in map order",
                chain.runs[0].step.slug,
            )
            return None
        ranks = [self._rank(chain, priority, row) for row in range(space.width or 0)]
        return sorted(range(len(ranks)), key=lambda row: -ranks[row])

    def _rank(self, chain: StepChain, priority: Callable[[Any], Any], row: int) -> float:
        outcome = capture(lambda: float(priority(_value_of(chain.pickers[0](row)))))
        if isinstance(outcome, Error):
            label = chain.spec.steps[0].label(row)
            logger.warning("%s: priority raised %s; it counts as 0", label, describe(outcome.exception))
            return 0.0
        rank: float = outcome.value
        return rank

    def _step_spec(self, chain: StepChain, run: StepState, shared: list[State]) -> StepSpec:
        step = run.step
        wiring = tuple(self._wire(chain, i, shared) for i in step.inputs)
        return self.spec_of(step, wiring, self._keyed(step))

    def _keyed(self, step: Step) -> int:
        """Return what the attempts of a step do about the keys of their items."""
        if not step.mapped:
            return 0
        named = NAMED if step.domain in self._named_spaces() else 0
        goes_on = any(i.mapped and not i.flattened and self.plan.steps[i.source].mapped for i in step.inputs)
        asked = self.keyed or named or getattr(step.task, "item_key", None) is not None
        return named | (COMPUTED if asked and not goes_on else 0)

    def _named_spaces(self) -> set[int | None]:
        """Return the spaces over which some name is made of the key of an item."""
        steps = self.plan.steps
        if self._named[0] != len(steps):
            self._named = len(steps), {step.domain for step in steps if step.mapped and _names_items(step)}
        return self._named[1]

    def spec_of(self, step: Step, wiring: tuple[tuple[int, int], ...], keyed: int, mapped: bool = True) -> StepSpec:
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
            keyed=keyed,
            keeping=self._keeping(step),
            caching=CacheSpec(step.task, step.store) if has_cache(step.task) else None,
        )

    def _keeping(self, step: Step) -> ResultStorage | None:
        """Return how a step keeps its results; None without a place for them."""
        if step.store is None:
            return None
        task = step.task
        checkpoint = getattr(task, "checkpoint", None) is not False and self.facts["checkpointing"]
        folder = f"{self.facts['flow_run_id']}/{self.facts.get('flow_run_part', 0)}"
        return ResultStorage(step.store, checkpoint, getattr(task, "target", None), folder)

    def _wire(self, chain: StepChain, i: Input, shared: list[State]) -> tuple[int, int]:
        """Say where an input of a step of `chain` comes from, and note what the chain needs for it."""
        source = self.runs[i.source]
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
        space = chain.space
        assert space is not None
        if source.step.mapped and source.children is not None:
            if i.flattened:
                return run_state.flat_children_picker(source, self._paths_for(space, i, source))
            if source.final and source.space is not space:
                assert isinstance(source.state, Mapped)
                return run_state.states_picker(source.state.map_states or ())
            if not source.final and source not in chain.gates:
                chain.gates.append(source)
                source.gated.append(chain)
            return run_state.child_picker(source)
        if isinstance(source.state, Mapped) or not source.state.is_successful() or _left_nothing(source):
            return None
        if _is_iterator_value(source):
            return run_state.iterator_picker(space)
        if i.flattened:
            return run_state.flat_list_picker(source, self._paths_for(space, i, source))
        return run_state.list_picker(source)

    def _paths_for(self, space: MapState, i: Input, source: StepState) -> MapState:
        """Return a space that knows the paths of `source`: the chain's, or one beside it where inputs pair."""
        if len(space.space.sources) == 1 and space.paths is not None:
            return space
        beside = MapState(space.space)
        if not source.step.mapped:
            beside.paths = flat_paths(source.measured()[2])
        else:
            rows = _rows_in_order(source)
            widths = [(source.widths or {}).get(row, -1) for row in rows]
            beside.paths = [(rows[p[0]], *p[1:]) for p in flat_paths(widths)]
        return beside


def _value_of(item: Any) -> Any:
    if isinstance(item, Pick):
        value = item.state.result
        for position in item.path:
            value = value[position]
        return value
    return item.result if isinstance(item, State) else item


def _names_items(step: Step) -> bool:
    """Whether a name that the step makes, of a result or a run, may need the key of the item."""
    task = step.task
    places = () if step.store is None else (getattr(task, "target", None), step.store.location)
    return any(_needs_key(wanted) for wanted in (*places, getattr(task, "task_run_name", None)))


def _needs_key(wanted: Any) -> bool:
    return wanted is not None and (callable(wanted) or "item_key" in str(getattr(wanted, "text", wanted)))


def grow(space: MapState, source: StepState, row: int) -> int:
    """Add the elements of one finished row of a flattened map; return how many rows were added."""
    assert space.paths is not None and space.width is not None
    width = (source.widths or {}).get(row, -1)
    new = [(row,)] if width < 0 else [(row, j) for j in range(width)]
    space.paths.extend(new)
    space.width += len(new)
    for run in space.members:
        assert run.children is not None
        run.children.extend([None] * len(new))
        run.left += len(new)
    return len(new)


def _widths_before(given: Mapped) -> list[int]:
    """Return the number of elements that each child the caller gave had; one that was not finished had none yet."""
    return [
        0 if child is None or not finished(child) else element_width(child.result) if child.is_successful() else SCALAR
        for child in given.map_states or ()
    ]


def _rows_in_order(source: StepState) -> Sequence[int]:
    order = source.space.order() if source.space is not None else None
    return range(len(source.children or ())) if order is None else order


def _left_nothing(run: StepState) -> bool:
    """Whether a step was skipped, and no list of items stands in for its result."""
    return isinstance(run.state, Skipped) and run.measured()[0] < 0


def _is_iterator_value(run: StepState) -> bool:
    return run.step.literal is not None and hasattr(run.state._result, "__next__")


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
