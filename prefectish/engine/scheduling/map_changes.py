"""Changes of map domains: how wide they are, and how they grow with what they run over.

A domain is closed once no more rows can come. Until then rows come up with the items of an iterator or a generator, the
elements of a flattened map, the calls of a flow function, or, of a reduction, with complete groups.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from prefectish.engine.capture import Error, capture
from prefectish.engine.plan.map_domain import SCALAR, element_paths
from prefectish.engine.plan.reduction import ReductionTree
from prefectish.engine.scheduling.admission import Admission
from prefectish.engine.scheduling.items import pulled_item
from prefectish.engine.scheduling.run_state import MapState, RunState, StepState, Stream, chains_of
from prefectish.engine.state import Failed, State
from prefectish.engine.state_column import OPEN


class MapChanges:
    """Writes what is known of map domains; a part of :class:`~prefectish.engine.scheduling.changes.Changes`."""

    __slots__ = ("_growing", "_reductions", "_streams", "admission", "run_state")

    def __init__(self, run_state: RunState, admission: Admission) -> None:
        self.run_state = run_state
        self.admission = admission
        self._growing: dict[int, list[MapState]] = {}
        self._reductions: dict[int, list[MapState]] = {}  # by number of the step whose children they combine
        self._streams: dict[int, MapState] = {}  # by number of the step that yields their items
        for map_state in run_state.map_states:
            self.add_domain(map_state)

    @abstractmethod
    def finish_step(self, step_state: StepState) -> None:
        """End a step whose rows are all final, if no more rows can come."""

    @abstractmethod
    def open_map(self, step_state: StepState, state: State, map_state: MapState) -> None:
        """Open the rows of a map, as many as are known."""

    @abstractmethod
    def touch_consumers(self, step_state: StepState) -> None:
        """Have the groups that read a step considered again."""

    def source_ended(self, step_state: StepState) -> None:
        """Close the domains that can grow no more, because the step has ended that they run over."""
        number = step_state.step.number
        if number in self._streams:
            self._close_stream(self._streams.pop(number), step_state)
        for reduction in self._reductions.get(number, ()):
            self._close_reduction(reduction)
        for growing in self._growing.get(number, ()):
            growing.closed = True
            for member in growing.members:
                self.touch_consumers(member)  # a reduction waits for the order of its children
                self.finish_step(member)

    def add_domain(self, map_state: MapState) -> None:
        """Note a map domain; one that grows does so with the rows of the step it flattens."""
        if map_state.domain.grows:
            self._growing.setdefault(map_state.domain.sources[0].source, []).append(map_state)

    def open_domain(
        self,
        map_state: MapState,
        width: int | None,
        items: Iterator[Any] | None = None,
        paths: list[tuple[int, ...]] | None = None,
        before: Iterable[tuple[int, ...]] | None = None,
    ) -> None:
        """Note how wide a map domain is when the first step is decided over it; None: no rows yet, more may come.

        `items` is the iterator that rows are pulled from; `paths` say where the elements of a flattened map are, and
        `before` where they were among the states that the caller gave.
        """
        map_state.width, map_state.closed = width or 0, width is not None
        map_state.source, map_state.paths = items, paths
        map_state.before = None if before is None else {path: number for number, path in enumerate(before)}

    def grow_map(self, map_state: MapState, source: StepState, row: int) -> None:
        """Add the elements of one finished row of a flattened map; in order, if it grows so."""
        if map_state.next_source is None:
            self._add_elements(map_state, source, row)
            return
        children = source.children
        assert children is not None
        while map_state.next_source < len(children) and children.has(map_state.next_source):
            self._add_elements(map_state, source, map_state.next_source)
            map_state.next_source += 1

    def grow_in_order(self, map_state: MapState) -> None:
        """Let a flattened map grow in the order of what it flattens."""
        map_state.next_source = 0

    def _add_elements(self, map_state: MapState, source: StepState, row: int) -> None:
        assert map_state.paths is not None
        new = element_paths(row, (source.widths or {}).get(row, SCALAR))
        map_state.paths.extend(new)
        self._add_rows(map_state, len(new))

    def add_calls(self, step_state: StepState, count: int) -> None:
        """Add rows for calls of a flow function."""
        assert step_state.map_state is not None
        self._add_rows(step_state.map_state, count)

    def _add_rows(self, map_state: MapState, count: int) -> None:
        assert map_state.width is not None
        map_state.width += count
        for member in map_state.members:
            assert member.children is not None
            member.children.cells.extend([OPEN] * count)
            member.left += count
            for reduction in self._reductions.get(member.step.number, ()):
                assert reduction.tree is not None
                self._add_rows(reduction, reduction.tree.add(count))

    def _grow_domains(self, step_state: StepState, row: int) -> None:
        """Add the elements of a finished row to the flattened maps that read it."""
        for map_state in self._growing.get(step_state.step.number, ()):
            if map_state.paths is not None:
                self.grow_map(map_state, step_state, row)
                for chain in chains_of(map_state):
                    self.admission.queue(chain)

    def pull_row(self, map_state: MapState) -> None:
        """Pull one more item from the iterator of a map domain, or close the domain if there is none.

        An iterator that raises ends the map with one child that carries the error.
        """
        assert map_state.source is not None and map_state.width is not None
        outcome = capture(next, map_state.source)
        if not isinstance(outcome, Error):
            self._add_item(map_state, pulled_item(outcome.value))
            return
        error = outcome.exception
        map_state.source, map_state.closed = None, True
        if not isinstance(error, StopIteration):
            text = f"the iterator that is mapped over raised {type(error).__name__}: {error}"
            self._add_item(map_state, Failed(text, error))
        for member in map_state.members:
            self.finish_step(member)

    def open_stream(self, map_state: MapState, source: StepState, stream: Stream) -> None:
        """Open a map domain over what a generator yields, as far as it has come."""
        self.open_domain(map_state, None)
        map_state.streams = True
        self._streams[source.step.number] = map_state
        stream.listen(partial(self._add_yielded, map_state))
        if source.final:
            self._close_stream(self._streams.pop(source.step.number), source)

    def end_stream(self, step_state: StepState, row: int) -> None:
        """Forget what a row has yielded, unless it has failed since: then its result lacks what a later map reads."""
        place = step_state.step.number, row
        stream = self.run_state.streams.get(place)
        if stream is None:
            return
        state = step_state.state_of(row)
        if stream.listener is not None or (state.is_successful() and not state.is_skipped()):
            del self.run_state.streams[place]

    def _add_yielded(self, map_state: MapState, items: Iterable[Any]) -> None:
        for item in items:
            self._add_item(map_state, pulled_item(item))
        for chain in chains_of(map_state):
            self.admission.queue(chain)

    def _close_stream(self, map_state: MapState, source: StepState) -> None:
        """Add the items that were not sent early; a generator that failed leaves one child, which reads its state."""
        state = source.state
        if state.is_successful() and not state.is_skipped() and source.measured()[0] >= 0:
            assert map_state.width is not None
            self._add_rows(map_state, max(0, source.measured()[0] - map_state.width))
        else:
            self._add_item(map_state, state)
        map_state.closed = True
        for chain in chains_of(map_state):
            self.admission.queue(chain)
        for member in map_state.members:
            self.finish_step(member)

    def _add_item(self, map_state: MapState, item: Any) -> None:
        assert map_state.width is not None
        map_state.items[map_state.width] = item
        self._add_rows(map_state, 1)

    def close_map(self, map_state: MapState) -> None:
        """Note that no more rows come."""
        map_state.source, map_state.closed = None, True

    def open_reduction(self, step_state: StepState, state: State, map_state: MapState, source: StepState) -> None:
        """Open the rows of a reduction, as many as are known of the map whose children it combines."""
        assert step_state.step.fan_in is not None
        tree = map_state.tree = ReductionTree(step_state.step.fan_in)
        tree.add(len(source.children or ()))
        is_complete = source.final or (source.map_state is not None and source.map_state.closed)
        if is_complete:
            tree.close()
        self.open_domain(map_state, len(tree))
        map_state.closed = is_complete
        self._reductions.setdefault(source.step.number, []).append(map_state)
        self.open_map(step_state, state, map_state)

    def _close_reduction(self, map_state: MapState) -> None:
        """Add the last rows of a reduction, whose map has ended."""
        if map_state.closed:
            return
        assert map_state.tree is not None and map_state.width is not None
        first, count = map_state.width, map_state.tree.close()
        map_state.closed = True
        self._add_rows(map_state, count)
        for chain in chains_of(map_state):
            chain.check_rows(range(first, first + count))
            self.admission.queue(chain)
        for member in map_state.members:
            self.finish_step(member)
