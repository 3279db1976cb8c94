"""Finds, for each branch of a run that is resumed, the steps whose record is kept, and where the others go on."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from prefectish.engine.jobs.job import STEP
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.item_key import COMPUTED, Identity, identity_of, item_key
from prefectish.engine.plan.steps import Plan, Step
from prefectish.engine.scheduling.previous_run import PreviousResult, PreviousRun, PreviousWait
from prefectish.engine.scheduling.run_state import MapRow, StepChain, StepState
from prefectish.engine.state import State
from prefectish.engine.worker.attempt import gather

#: What a single task is called.
SINGLE: Identity = (None, 0)
logger = logging.getLogger("prefectish")


class Kept(NamedTuple):
    """What is known of a branch from before, by position in its chain.

    Attributes
    ----------
    records
        Of steps that are kept.
    starts
        States from which steps go on that were neither finished nor at their start.
    """

    records: dict[int, PreviousResult]
    starts: dict[int, State]


class ResumeRules:
    """Looks up branches in the record of a run."""

    def __init__(self, recall: PreviousRun) -> None:
        self._recall = recall
        self._identities: dict[tuple[int, int], Identity] = {}
        self._seen: dict[int, Counter[str]] = {}
        self._dirty_rows: dict[int, set[int]] = {}
        self._staying: dict[tuple[int, int], bool] = {}
        self._complete: set[int] = set()
        self._made: dict[tuple[int, int], int] = {}
        self._latest: dict[int, int] = {}
        self._moved: set[int] = set()
        self._unreadable: set[str] = set()

    def learn(self, step: Step) -> None:
        """Read the record of a step that is about to be added to the plan."""
        self._recall.learn(step)

    def reran(self, number: int, row: int | None) -> bool:
        """Whether a row of a step, or any of it, was not what it had been before."""
        if row is None:
            return bool(self._dirty_rows.get(number)) or number in self._moved
        return row in self._dirty_rows.get(number, ())

    def inherit(self, number: int, row: int, source: tuple[int, int | None]) -> None:
        """Note that a row of a step is a row of another one."""
        if self.reran(*source):
            self._dirty_rows.setdefault(number, set()).add(row)

    def item_key(self, chain: StepChain, row: int) -> str | None:
        """Return the key of the item a branch began with."""
        return self._identity(chain, row)[0]

    def _identity(self, chain: StepChain, row: int) -> Identity:
        if chain.space is None:
            return SINGLE
        return self._identities.get((chain.space.space.number, row), (None, row))

    def kept(self, chain: StepChain, branch: MapRow, plan: Plan, runs: Sequence[StepState]) -> Kept:
        """Return what is kept of a branch; marks the steps of which something has to run."""
        self._note_key(chain, branch)
        identity = self._identity(chain, branch.row)
        found: dict[int, PreviousResult] = {}
        starts: dict[int, State] = {}
        dirty: set[int] = set()
        for position, run in enumerate(chain.runs):
            slug = run.step.slug
            record = self._recall.find(slug, identity)
            if record is not None and not self._is_stale(chain, position, branch.row, record, found, runs):
                found[position] = record
                self._note_kept(run, branch.row, record)
                continue
            waiting = self._recall.start(slug, identity) if record is None else None
            if waiting is not None and not self._is_stale(chain, position, branch.row, waiting, found, runs):
                starts[position] = waiting.state
            dirty.add(position)
            run.dirty = True
            self._dirty_rows.setdefault(run.step.number, set()).add(branch.row)
        for position in reversed(range(len(chain.runs))):
            needed = position in found and self._is_needed(chain, position, found, plan, runs)
            if needed and not found[position].readable:
                del found[position]
                self._tell_unreadable(chain.runs[position].step.slug)
        return Kept(found, starts)

    def _tell_unreadable(self, slug: str) -> None:
        """Say once of a task that it runs again although it had ended, and why."""
        if slug not in self._unreadable:
            self._unreadable.add(slug)
            logger.warning("%s runs again where its result is needed, which was not stored or cannot be read", slug)

    def _note_kept(self, run: StepState, row: int, record: PreviousResult) -> None:
        number = run.step.number
        self._made[number, row] = record.made
        self._latest[number] = max(record.made, self._latest.get(number, 0))
        if record.row != row:
            self._moved.add(number)

    def _is_stale(
        self,
        chain: StepChain,
        position: int,
        row: int,
        record: PreviousResult | PreviousWait,
        found: dict[int, PreviousResult],
        runs: Sequence[StepState],
    ) -> bool:
        """Whether a step reads something that was not finished before it ran, or a list of other items than before."""
        inputs = chain.runs[position].step.inputs
        for number, read in chain.reads_of(row):
            if self.reran(number, read) or (read is not None and self._made.get((number, read), 0) > record.made):
                return True
        for (kind, k), i in zip(chain.spec.steps[position].wiring, inputs, strict=True):
            if i.source < 0:
                continue
            source = runs[i.source]
            if kind == STEP:
                changed = k not in found or found[k].made > record.made
            elif i.mapped and source.step.mapped and not i.flattened:
                changed = row in self._dirty_rows.get(i.source, ()) or self._made.get((i.source, row), 0) > record.made
            elif i.mapped:
                changed = False  # the item says by its key whether it is the same
            else:
                changed = not self._is_as_before(source, record.made)
            if changed:
                return True
        return False

    def _is_as_before(self, source: StepState, made: int) -> bool:
        """Whether all of a step is what it was when something that was made then read it."""
        number = source.step.number
        if source.dirty or number in self._moved or self._latest.get(number, 0) > made:
            return False
        if not source.step.mapped or source.children is None:
            return True
        return self._recall.same_width(source.step.slug, len(source.children))

    def _is_needed(
        self, chain: StepChain, position: int, found: dict[int, PreviousResult], plan: Plan, runs: Sequence[StepState]
    ) -> bool:
        """Whether somebody who has to run, or may have to, reads the result of a step."""
        if plan.grows:
            return True  # the flow function may
        inside = chain.position
        for number in plan.steps[chain.runs[position].step.number].consumers:
            if number in inside:
                if inside[number] not in found:
                    return True
            elif not self._stays(number, chain, plan, runs):
                return True
        return False

    def _stays(self, number: int, chain: StepChain, plan: Plan, runs: Sequence[StepState]) -> bool:
        """Whether a step outside of a chain will be kept whole, as far as can be told before it is reached."""
        known = self._staying.get((chain.spec.ident, number))
        if known is None:
            known = self._staying[chain.spec.ident, number] = self._will_stay(number, chain, plan, runs)
        return known

    def _will_stay(self, number: int, chain: StepChain, plan: Plan, runs: Sequence[StepState]) -> bool:
        step = plan.steps[number]
        record = None if step.mapped else self._recall.find(step.slug, SINGLE)
        if record is None:
            return False
        for i in step.inputs:
            source = runs[i.source]
            if i.source in chain.position:
                if not self._is_whole(chain, chain.position[i.source], record.made, runs):
                    return False
            elif not source.final or not self._is_as_before(source, record.made):
                return False
        return all(self._stays(n, chain, plan, runs) for n in step.consumers) or record.readable

    def _is_whole(self, chain: StepChain, position: int, made: int, runs: Sequence[StepState]) -> bool:
        """Whether every row of a step of a chain will be kept, in its place, and none was made after `made`."""
        slug = chain.runs[position].step.slug
        if chain.space is None:
            rows: Sequence[Identity] = (SINGLE,)
        elif chain.space.closed and not chain.gates:
            rows = self._all_identities(chain)
            if not self._recall.same_width(slug, len(rows)):
                return False
        else:
            return False
        records = [self._recall.find(slug, identity) for identity in rows]
        if any(record is None or record.row != row or record.made > made for row, record in enumerate(records)):
            return False
        first = min((record.made for record in records if record is not None), default=made)
        for (kind, k), i in zip(chain.spec.steps[position].wiring, chain.runs[position].step.inputs, strict=True):
            if kind == STEP and not self._is_whole(chain, k, first, runs):
                return False
            if kind != STEP and not i.mapped and not self._is_as_before(runs[i.source], first):
                return False
        return True

    # -- keys ------------------------------------------------------------------------------------------------------

    def _note_key(self, chain: StepChain, branch: MapRow) -> None:
        """Note what a branch is, by the item it begins with or by the branch it goes on from."""
        if chain.space is None:
            return
        number = chain.space.space.number
        if (number, branch.row) in self._identities:
            return
        for gate in chain.gates:
            if gate.space is not None and (gate.space.space.number, branch.row) in self._identities:
                self._identities[number, branch.row] = self._identities[gate.space.space.number, branch.row]
                return
        key = chain.key_of(branch.row)
        if key is not None:
            self._number(number, branch.row, key)
        elif chain.order is not None:  # rows do not start in their order, by which those of one key are numbered
            self._all_identities(chain)
        else:
            self._number(number, branch.row, _item_key(chain, branch.items))

    def _number(self, space: int, row: int, key: str | None) -> None:
        if (space, row) not in self._identities:
            seen = self._seen.setdefault(space, Counter())
            self._identities[space, row] = identity_of(key, row, seen)

    def _all_identities(self, chain: StepChain) -> list[Identity]:
        """Return what the rows are of a chain that begins with a list."""
        assert chain.space is not None
        number, width = chain.space.space.number, chain.space.width or 0
        if number not in self._complete:
            self._complete.add(number)
            for row in range(width):
                self._number(number, row, _item_key(chain, tuple(pick(row) for pick in chain.pickers)))
        return [self._identities[number, row] for row in range(width)]


def _item_key(chain: StepChain, items: tuple[Any, ...]) -> str | None:
    """Return the key of the item that a branch begins with; a list that stayed on a worker is read once."""
    spec = chain.spec.steps[0]
    if not spec.keyed & COMPUTED:
        return None
    for item in items:
        result = getattr(getattr(item, "state", None), "_result", None)
        if isinstance(result, Held):
            result.peek()
    return item_key(spec, gather(chain.spec, 0, items, {}), chain.spec.run)
