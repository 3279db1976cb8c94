"""The parents of maps: whether a map can start, how wide it is, and where its elements are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from prefectish.engine.plan.map_domain import (
    NO_UPSTREAM,
    SCALAR,
    SKIPPED_UPSTREAM,
    KnownSource,
    element_width,
    flat_paths,
    parent_verdict,
)
from prefectish.engine.plan.names import chosen_name
from prefectish.engine.plan.steps import Input, Step
from prefectish.engine.scheduling.changes import Changes
from prefectish.engine.scheduling.items import lacks_members, member_count
from prefectish.engine.scheduling.run_state import MapState, StepState, Stream
from prefectish.engine.state import Failed, Mapped, Skipped, State
from prefectish.engine.worker.decide import finished
from prefectish.tasks import mapping
from prefectish.tasks.collections import Constant, Flattened

logger = logging.getLogger("prefectish.engine")


class MapParents:
    """Decides the parents of maps."""

    def __init__(self, changes: Changes) -> None:
        self.changes = changes
        self.run_state = changes.run_state
        self.plan = changes.run_state.plan

    def decide(self, step_state: StepState) -> bool:
        """Make the parent of a map Mapped and its rows known; False if it ended otherwise."""
        step = step_state.step
        assert step.domain is not None
        map_state = self.run_state.map_states[step.domain]
        if step.fan_in is not None:
            return self._decide_reduction(step_state, map_state)
        sources = [self._source(i, map_state, step_state.starts) for i in step.inputs]
        state, width, warning = parent_verdict(
            sources, skip=step.task.skip_on_upstream_skip, strict=step.task.strict_map
        )
        if state is None:
            state = _iterator_fault(sources)
        if state is not None:
            self.changes.end_step(step_state, state)
            return False
        if warning:
            logger.warning("%s: %s", step.label, warning)
        self._widen(map_state, width, sources)
        mapped = Mapped("Mapped tasks submitted for execution.", n_map_states=map_state.width or 0)
        new = self.changes.notify(step_state, step_state.state, mapped)
        if not isinstance(new, Mapped):
            self.changes.keep_step(step_state, new)
            return False
        self.changes.open_map(step_state, new, map_state)
        return True

    def _decide_reduction(self, step_state: StepState, map_state: MapState) -> bool:
        """Make the parent of a reduction Mapped; False if the map that it combines ended without children."""
        step = step_state.step
        source = self.run_state.step_states[step.reduced.source]
        if source.children is None:
            skips = isinstance(source.state, Skipped) and step.task.skip_on_upstream_skip
            ended: State = Skipped(SKIPPED_UPSTREAM) if skips else Failed(NO_UPSTREAM)
            self.changes.end_step(step_state, ended)
            return False
        mapped = Mapped("Mapped tasks submitted for execution.")
        new = self.changes.notify(step_state, step_state.state, mapped)
        if not isinstance(new, Mapped):
            self.changes.keep_step(step_state, new)
            return False
        self.changes.open_reduction(step_state, new, map_state, source)
        return True

    def _widen(self, map_state: MapState, width: int | None, sources: Sequence[KnownSource]) -> None:
        """Note how wide a map domain is when the first step is decided over it."""
        if map_state.width is not None:
            return
        source = self.run_state.step_states[map_state.domain.sources[0].source]
        flattened = map_state.domain.sources[0].flattened and len(map_state.domain.sources) == 1
        if flattened and source.step.mapped:
            self._grow_over(map_state, source)
        elif flattened:
            self.changes.open_domain(map_state, width, paths=flat_paths(source.measured(elements=True)[2]))
        elif (stream := self._stream_of(map_state)) is not None:
            self.changes.open_stream(map_state, source, stream)
        elif width is None and not map_state.domain.grows:
            read = next(s for s in sources if _is_iterator(s))
            constant = self.run_state.step_states[read.input.source].step.task
            if isinstance(constant, Constant):
                constant.is_read = True
            self.changes.open_domain(map_state, None, items=read.state._raw_result)
        else:
            self.changes.open_domain(map_state, width)

    def _grow_over(self, map_state: MapState, source: StepState) -> None:
        """Open the domain of a flattened map over the children of another map, as far as they are known."""
        before = flat_paths(_widths_before(source.starts)) if isinstance(source.starts, Mapped) else None
        self.changes.open_domain(map_state, 0 if source.final else None, paths=[], before=before)
        if not source.final and any(chosen_name(step) is not None for step in self.plan.steps if self._grows(step)):
            self.changes.grow_in_order(map_state)  # of two children with one name the first in the map has it
        for row in rows_in_order(source):
            if source.has(row):
                self.changes.grow_map(map_state, source, row)

    def _grows(self, step: Step) -> bool:
        return step.domain is not None and self.plan.domains[step.domain].grows

    def _source(self, i: Input, map_state: MapState, given: State | None) -> KnownSource:
        """Describe one input to the parent rule.

        Where the caller gave children but not the list they came from, their number stands for its length.
        """
        step_state = self.run_state.step_states[i.source]
        state = step_state.state
        if not i.mapped:
            return KnownSource(i, state)
        if step_state.children is not None and step_state.step.mapped:
            return KnownSource(i, state, _mapped_width(i, step_state, map_state), "list")
        if lacks_members(step_state) and not i.flattened:
            return KnownSource(i, Mapped("Members."), member_count(step_state), "list")
        if not state.is_successful():
            return self._unsuccessful(i, step_state, map_state)
        if isinstance(state, Mapped):
            return KnownSource(i, state, state.n_map_states, "list")
        if state._raw_result is None and isinstance(given, Mapped) and given.n_map_states:
            return KnownSource(i, state, given.n_map_states, "list")
        if is_iterator(step_state):
            return KnownSource(i, state, None, "iterator")
        measured = step_state.measured(i.flattened)
        if measured[0] < 0:
            return KnownSource(i, state, *measured)
        if not i.flattened:
            return KnownSource(i, state, measured[0], measured[1])
        return KnownSource(i, state, len(flat_paths(measured[2])), measured[1])

    def _unsuccessful(self, i: Input, step_state: StepState, map_state: MapState) -> KnownSource:
        """Describe an input that has no value: of one that yields, there will be items."""
        if map_state.streams or self._stream_of(map_state) is not None:
            return KnownSource(i, Mapped("Items."), None, "stream")
        return self._failed_source(i, step_state, map_state)

    def _stream_of(self, map_state: MapState) -> Stream | None:
        """Return what the one source of a map has yielded: it still runs, or has failed since."""
        (first, *others) = map_state.domain.sources
        alone = not others and first == (first.source, False, None)
        return self.run_state.streams.get((first.source, 0)) if alone else None

    def _failed_source(self, i: Input, step_state: StepState, map_state: MapState) -> KnownSource:
        """Describe an input that has no value, of which it may be known that it cannot be mapped over."""
        state, step = step_state.state, step_state.step
        if isinstance(step.task, Flattened) and step.inputs:  # what is flattened twice: see what it is made of
            inner = self._source(step.inputs[0], map_state, None)
            known = inner.width is not None and inner.width < 0
            return KnownSource(i, state, inner.width, inner.kind, inner.way_out) if known else KnownSource(i, state)
        # A generator cannot leave its process, which failed its task.
        measurement: Any = step_state.measurement
        is_unmappable = measurement is not None and measurement[0] < 0
        return KnownSource(i, state, *measurement) if is_unmappable else KnownSource(i, state)


def _mapped_width(i: Input, source: StepState, map_state: MapState) -> int | None:
    """Return the width of a map over a mapped step, None while it is not known."""
    assert source.children is not None
    if not i.flattened:
        return len(source.children) if source.map_state is None or source.map_state.closed else None
    if map_state.domain.grows:
        return None
    return len(flat_paths([(source.widths or {}).get(row, -1) for row in range(len(source.children))]))


def _widths_before(given: Mapped) -> list[int]:
    """Return the number of elements that each child the caller gave had; one that was not finished had none yet."""
    return [
        0 if child is None or not finished(child) else element_width(child.result) if child.is_successful() else SCALAR
        for child in given.map_states or ()
    ]


def rows_in_order(source: StepState) -> Sequence[int]:
    """Return the rows of a mapped step in map order."""
    order = source.map_state.order() if source.map_state is not None else None
    return range(len(source.children or ())) if order is None else order


def is_iterator(step_state: StepState) -> bool:
    """Whether the items of a step are pulled from an iterator of the caller; one that a task returned is not a list."""
    step = step_state.step
    return step.literal is not None and not step.stands_in and mapping.is_iterator(step_state.state._raw_result)


def _is_iterator(source: KnownSource) -> bool:
    return source.kind == "iterator"


def _iterator_fault(sources: Sequence[KnownSource]) -> State | None:
    """Refuse to pair an iterator with an input whose length it would have to match."""
    mapped = [s for s in sources if s.input.mapped]
    if len(mapped) < 2 or not any(_is_iterator(s) for s in mapped):
        return None
    lengths = ", ".join(f"{s.input.key or s.input.source_label}={'?' if s.width is None else s.width}" for s in mapped)
    text = (
        f"mapped inputs may differ in length: {lengths}; an iterator has none: pass list(...), or zip the inputs first"
    )
    return Failed(text, ValueError(text))
