"""The chain of a reduction: its rows are the combines of a map, which read children of the map, or one another."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappush
from typing import TYPE_CHECKING

from prefectish.engine.jobs.references import Held
from prefectish.engine.scheduling.run_state import NEVER_STARTED, MapState, StepChain, StepState
from prefectish.engine.state import Mapped
from prefectish.engine.state_column import OPEN, StateColumn

if TYPE_CHECKING:
    from prefectish.engine.plan.reduction import ReductionTree


class ReductionChain(StepChain):
    """A row is ready once all that it reads is final.

    Attributes
    ----------
    source
        The map whose children are combined.
    combined
        Children of it whose combine is final.
    holds
        Whether its results stay on workers; None until the first one is known.
    """

    __slots__ = ("_places", "_rows", "combined", "holds", "source", "tree")

    def __init__(self, step_state: StepState, source: StepState, stage: int, map_state: MapState) -> None:
        super().__init__([step_state], stage, map_state)
        assert map_state.tree is not None
        self.tree: ReductionTree = map_state.tree
        self.source = source
        self.combined = 0
        self.holds: bool | None = None
        self.dependencies.append(source)
        source.dependents.append(self)
        step_state.dependents.append(self)
        # A flattened map is complete by now, and its rows need not be in map order.
        self._rows = None if source.map_state is None else source.map_state.order()
        self._places = None if self._rows is None else {row: place for place, row in enumerate(self._rows)}

    def find_ready(self) -> None:
        """Find the rows that are ready at the beginning."""
        for row in range(len(self.source.children or ())):
            if self.source.has(row):
                self._look_at(row)
        self.check_rows(range(len(self.tree)))

    def check_rows(self, rows: range) -> None:
        """Note which of these rows are ready."""
        for row in rows:
            if self._is_ready(row):
                heappush(self.ready, row)

    def dependency_finished(self, row: int, of: StepState) -> bool:
        """Note that something is final that a row reads: a child of the map, or another row."""
        if of is self.source:
            self._look_at(row)
        elif self.tree.reads_leaves(row):
            self.combined += len(self.tree.reads(row))
        reader = self.reader_of(of, row)
        if reader is None or not self._is_ready(reader):
            return False
        heappush(self.ready, reader)
        return True

    def _look_at(self, row: int) -> None:
        """Note by a child of the map that ended well whether its results stay on workers."""
        children = self.source.children
        if self.holds or children is None:
            return
        if issubclass(type(children.raw(row)), Held):
            self.holds = True
        elif self.holds is None and self.source.state_of(row).is_successful():
            self.holds = False

    def _is_ready(self, row: int) -> bool:
        children = self.step_states[0].children
        assert children is not None and self.source.children is not None
        reads, cells, rows = self.tree.reads(row), children.cells, None
        if type(reads) is range:
            cells, rows = self.source.children.cells, self._rows
        # What is read ends in its order as a rule: most often the last one says no.
        if reads and cells[reads[-1] if rows is None else rows[reads[-1]]] is OPEN:
            return False
        if children.has(row) or row in self.open_rows:
            return False
        return all(cells[read if rows is None else rows[read]] is not OPEN for read in reads)

    def _states(self, row: int) -> StateColumn:
        """Return the states of what a row reads, in map order."""
        of = self.source if self.tree.reads_leaves(row) else self.step_states[0]
        assert of.children is not None
        return of.children.in_order([r for _, r in self.reads_of(row)])

    def group_of(self, row: int) -> Mapped:
        """Return what a row is given: the states that it combines."""
        return Mapped("Combined.", map_states=self._states(row))

    def key_of(self, row: int) -> str | None:
        """Return the key of a row, its level and its place in it."""
        return self.tree.name(row)

    def reads_of(self, row: int) -> Sequence[tuple[int, int]]:
        """Return the steps and rows that a row reads."""
        reads = self.tree.reads(row)
        if not self.tree.reads_leaves(row):
            number = self.step_states[0].step.number
            return [(number, r) for r in reads]
        number = self.source.step.number
        return [(number, r if self._rows is None else self._rows[r]) for r in reads]

    def combines(self, step_state: StepState) -> bool:
        """Whether its rows combine children of a step."""
        return step_state is self.source

    def reads_full_groups(self, row: int) -> bool:
        """Whether what a row reads does not depend on how long the map is."""
        return self.tree.full is None or row < self.tree.full

    def reader_of(self, of: StepState, row: int) -> int | None:
        """Return the row that reads a child of the map, or another row; None if there is none, or not yet."""
        if of is not self.source:
            return self.tree.reader(row)
        return self.tree.reader_of_leaf(row if self._places is None else self._places[row])

    def readers_of(self, of: StepState, row: int) -> list[int]:
        """Return the rows that read a child of the map, or another row, directly or not, the last one last."""
        found: list[int] = []
        reader = self.reader_of(of, row)
        while reader is not None:
            found.append(reader)
            reader = self.tree.reader(reader)
        return found

    def reads_unstarted(self, row: int) -> bool:
        """Whether nothing that a row reads was started."""
        states = self._states(row)
        return bool(states) and all(state is NEVER_STARTED for state in states)
