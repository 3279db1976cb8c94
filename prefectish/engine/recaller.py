"""Finds, for each branch of a run that is resumed, the steps whose record is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
        self._staying: dict[tuple[int, int], bool] = {}
        self._complete: set[int] = set()

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
            if (
                position in found
                and not found[position].readable
                and self._is_needed(lane, position, found, plan, runs)
            ):
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

    def _is_needed(
        self, lane: Lane, position: int, found: dict[int, Recorded], plan: Plan, runs: Sequence[StepRun]
    ) -> bool:
        """Whether somebody who has to run, or may have to, reads the result of a step."""
        inside = lane.position
        for number in plan.steps[lane.runs[position].step.number].consumers:
            if number in inside:
                if inside[number] not in found:
                    return True
            elif not self._stays(number, lane, plan, runs):
                return True
        return False

    def _stays(self, number: int, lane: Lane, plan: Plan, runs: Sequence[StepRun]) -> bool:
        """Whether a step outside of a lane will be kept whole, as far as can be told before it is reached."""
        known = self._staying.get((lane.spec.ident, number))
        if known is None:
            known = self._staying[lane.spec.ident, number] = self._will_stay(number, lane, plan, runs)
        return known

    def _will_stay(self, number: int, lane: Lane, plan: Plan, runs: Sequence[StepRun]) -> bool:
        step = plan.steps[number]
        record = None if step.mapped else self._recall.find(step.slug, key_of(None, 0))
        if record is None:
            return False
        for i in step.inputs:
            source = runs[i.source]
            if i.source in lane.position:
                if not self._is_whole(lane, lane.position[i.source], runs):
                    return False
            elif not source.final or source.dirty or not self._is_as_wide(source):
                return False
        return record.readable or all(self._stays(n, lane, plan, runs) for n in step.consumers)

    def _is_whole(self, lane: Lane, position: int, runs: Sequence[StepRun]) -> bool:
        """Whether every row of a step of a lane will be kept, and none has gone."""
        slug = lane.runs[position].step.slug
        if lane.space is None:
            rows: Sequence[str] = (key_of(None, 0),)
        elif lane.space.closed and not lane.gates:
            rows = [key_of(key, row) for row, key in enumerate(self._all_keys(lane))]
            if not self._recall.same_width(slug, len(rows)):
                return False
        else:
            return False
        if any(self._recall.find(slug, key) is None for key in rows):
            return False
        for (kind, k), i in zip(lane.spec.steps[position].wiring, lane.runs[position].step.inputs, strict=True):
            if kind == STEP and not self._is_whole(lane, k, runs):
                return False
            if kind != STEP and not i.mapped and (runs[i.source].dirty or not self._is_as_wide(runs[i.source])):
                return False
        return True

    # -- keys ------------------------------------------------------------------------------------------------------

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
        self._number(number, branch.row, _item_key(lane, branch.items))

    def _number(self, space: int, row: int, key: str | None) -> None:
        """Note the key of a row; of several rows with one key the second is called ``key#2``."""
        if key is not None and (space, row) not in self._keys:
            count = self._seen[space, key] = self._seen.get((space, key), 0) + 1
            self._keys[space, row] = key if count == 1 else f"{key}#{count}"

    def _all_keys(self, lane: Lane) -> list[str | None]:
        """Return the keys of all rows of a lane that begins with a list."""
        assert lane.space is not None
        number, width = lane.space.space.number, lane.space.width or 0
        if number not in self._complete:
            self._complete.add(number)
            for row in range(width):
                self._number(number, row, _item_key(lane, tuple(pick(row) for pick in lane.pickers)))
        return [self._keys.get((number, row)) for row in range(width)]


def _item_key(lane: Lane, items: tuple[Any, ...]) -> str | None:
    """Return the key of the item that a branch begins with; a list that stayed on a worker is read once."""
    spec = lane.spec.steps[0]
    if not spec.keyed:
        return None
    for item in items:
        result = getattr(getattr(item, "state", None), "_result", None)
        if isinstance(result, Held):
            result.peek()
    return item_key(spec, gather(lane.spec, 0, items, {}))
