"""Release large results as soon as their last consumer ran."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from weakref import WeakSet

from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.steps import Plan, Step
from prefectish.engine.scheduling.reduction_chain import ReductionChain
from prefectish.engine.scheduling.run_state import StepState
from prefectish.engine.state_column import deferred_rows
from prefectish.kinds import is_a


class ResultRelease:
    """Knows which results are held, and which steps still need them.

    Parameters
    ----------
    keep
        Steps whose large results stay until the end of the run and after it.
    """

    def __init__(self, plan: Plan, step_states: Sequence[StepState], keep: Collection[int]) -> None:
        self._plan = plan
        self._runs = step_states
        self.keep = set(keep)
        #: How many may ask for the result of a row, by number of the step and row.
        self._claims: dict[tuple[int, int], int] = {}
        #: References that the user was given; the values stay as long as one of them is there.
        self.copies: WeakSet[Held] = WeakSet()
        self._elementwise: dict[tuple[int, int], bool] = {}
        for step in plan.steps:
            self.add_step(step)

    def add_step(self, step: Step) -> None:
        """Note which results a step reads, and whether row by row."""
        for i in step.inputs:
            if i.source >= 0:
                together = step.domain == self._plan.steps[i.source].domain
                self._elementwise[i.source, step.number] = i.mapped and not i.flattened and together

    def note(self, step_state: StepState, row: int) -> None:
        """Note a row whose result is held: its consumers are watched from now on."""
        for consumer in self._readers(step_state):
            if step_state not in consumer.reads:
                consumer.reads.append(step_state)
        self._release_if_unused(step_state, row)

    def _readers(self, step_state: StepState) -> list[StepState]:
        """Return the steps that read a step; a reduction also reads itself."""
        readers = [self._runs[number] for number in step_state.step.consumers]
        return readers if step_state.step.fan_in is None else [*readers, step_state]

    def consumed(self, step_state: StepState, row: int) -> None:
        """Let go of what only this row of a consumer still needed."""
        if step_state.step.fan_in is not None and step_state.chain is not None:
            for number, read in step_state.chain.reads_of(row):
                assert read is not None
                self._release_if_unused(self._runs[number], read)
            return
        for source in step_state.reads:
            if self._elementwise[source.step.number, step_state.step.number]:
                self._release_if_unused(source, row)

    def consumed_all(self, step_state: StepState, rows: Iterable[int]) -> None:
        """Let go of what only these rows of a consumer still needed, which is no reduction."""
        if any(self._elementwise[source.step.number, step_state.step.number] for source in step_state.reads):
            for row in rows:
                self.consumed(step_state, row)

    def ended(self, step_state: StepState) -> None:
        """Let go of what only this consumer still needed."""
        for source in step_state.reads:
            self._release_rows(source)

    def claim(self, number: int, row: int) -> None:
        """Note one more that may ask for the result of a row, by number of the step and row."""
        self._claims[number, row] = self._claims.get((number, row), 0) + 1

    def unclaim(self, step_state: StepState, row: int) -> bool:
        """Note that one of them will not ask any more; True, with the result released, if none is left."""
        place = step_state.step.number, row
        left = self._claims.get(place, 0) - 1
        if left > 0:
            self._claims[place] = left
            return False
        self._claims.pop(place, None)
        self._release_if_unused(step_state, row)
        return True

    def is_claimed(self, number: int, row: int) -> bool:
        """Whether the result of a row may still be read."""
        return (number, row) in self._claims

    def read(self, consumer: StepState) -> None:
        """Watch a step that was added during the run: what it reads may have ended before."""
        self.add_step(consumer.step)
        for i in consumer.step.inputs:
            source = self._runs[i.source] if i.source >= 0 else None
            if source is not None and source not in consumer.reads:
                consumer.reads.append(source)

    def forget(self, step_state: StepState) -> None:
        """Keep the results of a step no longer than its consumers need them."""
        self.keep.discard(step_state.step.number)
        self._release_rows(step_state)

    def _release_rows(self, source: StepState) -> None:
        if source.children is None:
            self._release_if_unused(source, 0)
            return
        for row in deferred_rows(source.children):
            self._release_if_unused(source, row)

    def _release_if_unused(self, source: StepState, row: int) -> None:
        is_kept = source.step.number in self.keep and not _is_between(source, row)
        if is_kept or (self._claims and (source.step.number, row) in self._claims):
            return
        children = source.children
        if children is not None and row >= len(children):
            return
        # A value that was known before its step was added has no rows.
        result = source.state._raw_result if children is None else children.raw(row)
        if not is_a(result, Held) or result.handle is None:
            return
        if all(self._done(source, reader, row) for reader in self._readers(source)):
            result.release()

    def _done(self, source: StepState, consumer: StepState, row: int) -> bool:
        if consumer.final:
            return True
        if isinstance(consumer.chain, ReductionChain):
            reader = consumer.chain.reader_of(source, row)
            return consumer.has(reader) if reader is not None else _is_root(source, row)
        if source.step.fan_in is not None and not _is_root(source, row):
            return True
        if source.children is None or not self._elementwise[source.step.number, consumer.step.number]:
            return False
        children = consumer.children
        return children is not None and row < len(children) and children.has(row)


def _is_root(step_state: StepState, row: int) -> bool:
    """Whether a row of a reduction is the one to which all was combined."""
    tree = None if step_state.map_state is None else step_state.map_state.tree
    return tree is not None and tree.root == row


def _is_between(step_state: StepState, row: int) -> bool:
    """Whether a row is a combine that others read, whose result cannot be asked for."""
    return step_state.step.fan_in is not None and not _is_root(step_state, row)
