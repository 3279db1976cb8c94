"""Finds, for each branch of a run that is resumed, the steps whose record is kept."""

from __future__ import annotations

from collections.abc import Sequence

from prefectish.engine.attempt import gather
from prefectish.engine.executor import STEP, Held
from prefectish.engine.identity import item_key
from prefectish.engine.lanes import Branch, Lane, StepRun
from prefectish.engine.plan import Plan
from prefectish.engine.recall import Recall, Recorded, key_of


class Recaller:
    """Looks up branches in the record of a run."""

    def __init__(self, recall: Recall) -> None:
        self._recall = recall
        self._keys: dict[tuple[int, int], str] = {}
        self._seen: dict[tuple[int, str], int] = {}
        self._dirty_rows: dict[int, set[int]] = {}

    def item_key(self, lane: Lane, row: int) -> str | None:
        """Return the key of the item a branch began with, numbered if several items have it."""
        return None if lane.space is None else self._keys.get((lane.space.space.number, row))

    def kept(self, lane: Lane, branch: Branch, plan: Plan, runs: Sequence[StepRun]) -> dict[int, Recorded]:
        """Return the records that are kept, by position in the lane; marks the steps of which something has to run."""
        self._note_key(lane, branch)
        key = key_of(self.item_key(lane, branch.row), branch.row)
        found: dict[int, Recorded] = {}
        dirty: set[int] = set()
        for position, run in enumerate(lane.runs):
            record = self._recall.find(run.step.slug, key)
            if record is None or self._reads_dirty(lane, position, branch.row, dirty, runs):
                dirty.add(position)
                run.dirty = True
                self._dirty_rows.setdefault(run.step.number, set()).add(branch.row)
            else:
                found[position] = record
        for position in reversed(range(len(lane.runs))):
            if position in found and not found[position].readable and self._is_needed(lane, position, found, plan):
                del found[position]
        return found

    def _reads_dirty(self, lane: Lane, position: int, row: int, dirty: set[int], runs: Sequence[StepRun]) -> bool:
        """Whether a step reads something that was not finished before, or a map of another width than before."""
        inputs = lane.runs[position].step.inputs
        for (kind, k), i in zip(lane.spec.steps[position].wiring, inputs, strict=True):
            source = runs[i.source]
            if kind == STEP:
                changed = k in dirty
            elif i.mapped and source.step.mapped and not i.flattened:
                changed = row in self._dirty_rows.get(i.source, ())
            elif i.mapped:
                changed = False  # the item says by its key whether it is the same
            else:
                changed = source.dirty or not self._is_as_wide(source)
            if changed:
                return True
        return False

    def _is_as_wide(self, source: StepRun) -> bool:
        if not source.step.mapped or source.children is None:
            return True
        return self._recall.same_width(source.step.slug, len(source.children))

    def _is_needed(self, lane: Lane, position: int, found: dict[int, Recorded], plan: Plan) -> bool:
        """Whether somebody who has to run, or may have to, reads the result of a step."""
        inside = lane.position
        consumers = plan.steps[lane.runs[position].step.number].consumers
        return any(n not in inside or inside[n] not in found for n in consumers)

    def _note_key(self, lane: Lane, branch: Branch) -> None:
        """Note what a branch is, by the item it begins with or by the branch it goes on from."""
        if lane.space is None:
            return
        number = lane.space.space.number
        if (number, branch.row) in self._keys:
            return
        for gate in lane.gates:
            if gate.space is not None and (gate.space.space.number, branch.row) in self._keys:
                self._keys[number, branch.row] = self._keys[gate.space.space.number, branch.row]
                return
        spec = lane.spec.steps[0]
        for item in branch.items:
            result = getattr(getattr(item, "state", None), "_result", None)
            if isinstance(result, Held):
                result.peek()
        key = item_key(spec, gather(lane.spec, 0, branch.items, {})) if spec.keyed else None
        if key is None:
            return
        count = self._seen[number, key] = self._seen.get((number, key), 0) + 1
        self._keys[number, branch.row] = key if count == 1 else f"{key}#{count}"
