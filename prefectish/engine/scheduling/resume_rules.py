"""What a run takes over from before, by the keys of its items: results that are kept, and where others continue.

Items with the same key are distinguished by their number among them. The client counts, and so only items that it
has: those of a list that stayed on a worker are not fetched for their names, and share one if they share a key.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from operator import and_
from typing import Any, NamedTuple

from prefectish.engine.deferred import Deferred
from prefectish.engine.jobs.job import ITEM, STEP, Pick, StepSpec
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.item_key import ITEM_NUMBER, ItemId, item_id_of
from prefectish.engine.plan.steps import Plan, Step
from prefectish.engine.scheduling.previous_run import PreviousResult, PreviousRun, PreviousWait
from prefectish.engine.scheduling.run_state import NOT_RUN, MapRow, StepChain, StepState
from prefectish.engine.state import State, Success
from prefectish.engine.worker.run_steps import gather
from prefectish.engine.worker.storage import ResultStorage
from prefectish.engine.worker.time_limit import key_in_time
from prefectish.kinds import is_a
from prefectish.tasks.reductions import Reduced

#: Identity of a single task.
SINGLE: ItemId = (None, 0)
logger = logging.getLogger("prefectish")


class Kept(NamedTuple):
    """What is known of a row from before, by position in its chain.

    Attributes
    ----------
    records
        Of steps that are kept.
    starts
        States from which steps continue that were neither finished nor at their start.
    rerun
        Steps that were not finished before, and run.
    unrecorded
        Of these, such whose result may be stored although they have no record, under a name that the user chose; with
        the first part of the run whose results count.
    """

    records: dict[int, PreviousResult]
    starts: dict[int, State]
    rerun: set[int]
    unrecorded: dict[int, int]


class ResumeRules:
    """Looks up rows in the record of a run."""

    def __init__(self, previous_run: PreviousRun) -> None:
        self._previous_run = previous_run
        self._identities: dict[tuple[int, int], ItemId] = {}
        self._seen: dict[int, Counter[str]] = {}
        self._rerun_rows: dict[int, set[int]] = {}
        self._staying: dict[tuple[int, int], bool] = {}
        self._complete: set[int] = set()
        self._begun: dict[int, StepChain] = {}  # chains whose rows begin with an item of a list, by domain
        self._twins: dict[tuple[str, str], dict[int, ItemId | PreviousWait]] = {}  # several children of a key
        self._placed: set[tuple[str, str]] = set()  # those of which it is known whether they are where they were
        self._generations: dict[tuple[int, int], int] = {}
        self._latest: dict[int, int] = {}
        self._moved: set[int] = set()
        self._returned: set[tuple[int, int]] = set()  # rows that the last part of the run had not
        self._unreadable: set[str] = set()

    def learn(self, step: Step) -> None:
        """Read the record of a step that is about to be added to the plan."""
        self._previous_run.learn(step)

    def order(self, chain: StepChain, plan: Plan) -> Sequence[int] | None:
        """Return the rows of a map, those first that most likely have to run; None if they start in its own order.

        Who resumes a million children of which some failed does not wait until the others were read. Where a failure
        that is kept stops a map, or the first of several children has a name, the order of the map decides.
        """
        map_state = chain.map_state
        if chain.order is not None or chain.dependencies or chain.spec.names_results:
            return chain.order
        if map_state is None or map_state.width is None or not map_state.closed:
            return None
        steps = [step for step in plan.steps if step.domain == map_state.domain.number]
        if any(s.task.on_child_failure != "continue" or s.task.max_failures is not None for s in steps):
            return None
        ended = [rows for step in steps if (rows := self._previous_run.ended_rows(step.slug)) is not None]
        if len(ended) < len(steps):
            return None
        kept = bytes([1]) * map_state.width
        for rows in ended:
            known = bytearray(map_state.width)
            for row in rows:
                if row < map_state.width:
                    known[row] = 1
            kept = bytes(map(and_, kept, known))
        first = [row for row, is_kept in enumerate(kept) if not is_kept]
        if not 0 < len(first) < map_state.width:
            return None
        return first + [row for row, is_kept in enumerate(kept) if is_kept]

    def reran(self, number: int, row: int | None) -> bool:
        """Whether a row of a step, or any of it, was not what it had been before."""
        if row is None:
            return bool(self._rerun_rows.get(number)) or number in self._moved
        return row in self._rerun_rows.get(number, ())

    def resized(self, step_state: StepState, row: int | None = None) -> bool:
        """Whether all of a map is meant, and it has another number of children than it had."""
        if row is not None or step_state.children is None or not step_state.step.mapped:
            return False
        return not self._previous_run.same_width(step_state.step.slug, len(step_state.children))

    def returned(self, number: int, row: int | None) -> bool:
        """Whether a row of a step is kept that the last part of the run had not: there it may have had another one."""
        return row is not None and (number, row) in self._returned

    def inherit(self, number: int, row: int, source: tuple[int, int | None]) -> None:
        """Note that a row of a step is a row of another one."""
        if self.reran(*source):
            self._rerun_rows.setdefault(number, set()).add(row)

    def item_key(self, chain: StepChain, row: int) -> str | None:
        """Return the key of the item that a row began with."""
        return self._identity(chain, row)[0]

    def _identity(self, chain: StepChain, row: int) -> ItemId:
        if chain.map_state is None:
            return SINGLE
        return self._identities.get((chain.map_state.domain.number, row), (None, row))

    def kept(self, chain: StepChain, map_row: MapRow, plan: Plan, step_states: Sequence[StepState]) -> Kept:
        """Return what is kept of a row, and what has to run."""
        identity = self.identity(chain, map_row)
        found: dict[int, PreviousResult] = {}
        starts: dict[int, State] = {}
        rerun: set[int] = set()
        unrecorded: dict[int, int] = {}
        for position, step_state in enumerate(chain.step_states):
            slug = step_state.step.slug
            record = self._find(chain, slug, identity, map_row.row)
            if record is not None and not self._is_stale(chain, position, map_row.row, record, found, step_states):
                found[position] = record
                self._note_kept(step_state, map_row.row, record)
                continue
            waiting = self._start(chain, slug, identity, map_row.row) if record is None else None
            if waiting is not None and not self._is_stale(chain, position, map_row.row, waiting, found, step_states):
                starts[position] = waiting.state
            elif waiting is None and record is None and step_state.step.store is not None:
                since = self._unrecorded_since(chain, position, map_row.row, identity, found, step_states)
                if since is not None:
                    unrecorded[position] = since
            rerun.add(position)
            self._rerun_rows.setdefault(step_state.step.number, set()).add(map_row.row)
        for position in reversed(range(len(chain.step_states))):
            needed = position in found and self._is_needed(chain, position, found, plan, step_states)
            if needed and not found[position].readable:
                del found[position]
                self._warn_unreadable(chain.step_states[position].step.label)
        return Kept(found, starts, rerun, unrecorded)

    def _find(self, chain: StepChain, slug: str, identity: ItemId, row: int) -> PreviousResult | None:
        """Return the record of a row that may be kept; None if it has to run.

        The children of one key are numbered as far as they are recorded. So the number does not tell which is which if
        an earlier one is missing; their rows do, if all of them are still where they were.
        """
        record = self._previous_run.find(slug, identity)
        key = identity[0]
        if key is None or (record is not None and record.row == row):
            return record
        twins = self._twins_in_place(chain, slug, key)
        if not twins:
            return record
        found = twins.get(row)
        return None if found is None or isinstance(found, PreviousWait) else self._previous_run.find(slug, found)

    def _start(self, chain: StepChain, slug: str, identity: ItemId, row: int) -> PreviousWait | None:
        """Return the state from which a row without a record continues; told from others of its key as `_find` does."""
        key = identity[0]
        twins = {} if key is None else self._twins_in_place(chain, slug, key)
        if not twins:
            return self._previous_run.start(slug, identity)
        found = twins.get(row)
        return found if isinstance(found, PreviousWait) else None

    def _twins_in_place(self, chain: StepChain, slug: str, key: str) -> dict[int, ItemId | PreviousWait]:
        """Return the children of one key by their rows; none unless all are known to be where they were.

        Several are looked at once, whatever their number: all items of a map may be equal. Of the keys of single
        children nothing is kept: there may be a million.
        """
        place = slug, key
        if place in self._placed:
            return self._twins[place]
        twins = self._twins.get(place) or self._previous_run.twins(slug, key)
        if len(twins) > 1:
            self._twins[place] = twins
        if not twins or self._key_at(chain, next(reversed(twins))) is None:
            return {}  # the list has not come so far
        if any(self._key_at(chain, row) != key for row in twins):
            twins = {}
        if place in self._twins:
            self._placed.add(place)
            self._twins[place] = twins
        return twins

    def _unrecorded_since(
        self,
        chain: StepChain,
        position: int,
        row: int,
        identity: ItemId,
        found: dict[int, PreviousResult],
        step_states: Sequence[StepState],
    ) -> int | None:
        """Return the first part of the run in which a step without a record may have stored what counts."""
        spec = chain.spec.steps[position]
        storage = spec.storage
        if not isinstance(storage, ResultStorage) or storage.chosen is None or storage.target is not None:
            return None  # what has no name of its own is listed by the store, and targets are looked at anyway
        since = self._previous_run.unrecorded_since(spec.slug, identity)
        newest = PreviousWait(NOT_RUN, sys.maxsize)
        if since is None or self._is_stale(chain, position, row, newest, found, step_states):
            return None
        sources = [i.source for i in spec.inputs if i.source >= 0]
        if spec.mapped and not spec.computes_key and any(number in self._moved for number in sources):
            return None  # such a result does not tell of which item it is
        read = [(number, row) for number in sources] + [(n, r) for n, r in chain.reads_of(row) if r is not None]
        made = [self._generations.get(place, 0) for place in read] + [self._latest.get(n, 0) for n in sources]
        return max(since, *made, 0)

    def kept_results(self, slug: str) -> Iterator[tuple[ItemId, PreviousResult]]:
        """Yield the children of a task that are kept, as far as their own record decides, and that have a result."""
        return self._previous_run.kept_results(slug)

    def identity(self, chain: StepChain, map_row: MapRow) -> ItemId:
        """Return what distinguishes a row from others, in all parts of the run."""
        self._note_key(chain, map_row)
        return self._identity(chain, map_row.row)

    def _warn_unreadable(self, label: str) -> None:
        """Warn once that a task runs again although it had ended, and why."""
        if label not in self._unreadable:
            self._unreadable.add(label)
            logger.warning(
                "the result of %s was not stored, or cannot be read: it is computed again where it is needed", label
            )

    def _note_kept(self, step_state: StepState, row: int, record: PreviousResult) -> None:
        number = step_state.step.number
        if record.generation:  # 0 is what is taken for one that is not noted
            self._generations[number, row] = record.generation
            self._latest[number] = max(record.generation, self._latest.get(number, 0))
        if record.row != row:
            self._moved.add(number)
        if record.row is None:
            self._returned.add((number, row))

    def _is_stale(
        self,
        chain: StepChain,
        position: int,
        row: int,
        record: PreviousResult | PreviousWait,
        found: dict[int, PreviousResult],
        step_states: Sequence[StepState],
    ) -> bool:
        """Whether a step reads something that was not finished before it ran, or a list of other items than before."""
        inputs = chain.step_states[position].step.inputs
        if any(self._has_changed(step_states[number], read, record) for number, read in chain.reads_of(row)):
            return True
        for (kind, k), i in zip(chain.spec.steps[position].wiring, inputs, strict=True):
            if i.source < 0:
                continue
            source = step_states[i.source]
            if chain.combines(source):
                changed = self._is_regrouped(chain, row, source)
            elif kind == STEP:
                changed = k not in found or found[k].generation > record.generation
            elif i.mapped and source.step.mapped and not i.flattened:
                changed = (
                    row in self._rerun_rows.get(i.source, ())
                    or self._generations.get((i.source, row), 0) > record.generation
                    or self._may_be_another(chain, row, source)
                )
            elif i.mapped:
                changed = False  # the item says by its key whether it is the same
            else:
                changed = not self._is_as_before(source, record.generation, step_states)
            if changed:
                return True
        return False

    def _has_changed(self, source: StepState, row: int | None, record: PreviousResult | PreviousWait) -> bool:
        """Whether a row of a step, or all of it, is not what it was when something that was made then read it."""
        number = source.step.number
        is_newer = row is not None and self._generations.get((number, row), 0) > record.generation
        return is_newer or self.reran(number, row) or self.resized(source, row)

    def _may_be_another(self, chain: StepChain, row: int, source: StepState) -> bool:
        """Whether a row that is known by its position may read another child of a step than it did."""
        assert chain.map_state is not None
        if source.step.number not in self._moved or self._identity(chain, row)[0] is not None:
            return False
        return source.step.domain != chain.map_state.domain.number

    def _is_regrouped(self, chain: StepChain, row: int, source: StepState) -> bool:
        """Whether a row of a reduction may read others than it did; whether these changed, is asked of each."""
        if source.step.number in self._moved:
            return True
        return not (
            chain.reads_full_groups(row) or self._previous_run.same_width(source.step.slug, len(source.children or ()))
        )

    def _is_as_before(self, source: StepState, generation: int, step_states: Sequence[StepState]) -> bool:
        """Whether all of a step is what it was when something that was made then read it."""
        if isinstance(source.step.task, Reduced):  # stands for what a reduction gave
            source = step_states[source.step.inputs[0].source]
        number = source.step.number
        if source.rerun or number in self._moved or self._latest.get(number, 0) > generation:
            return False
        return not self.resized(source)

    def _is_needed(
        self,
        chain: StepChain,
        position: int,
        found: dict[int, PreviousResult],
        plan: Plan,
        step_states: Sequence[StepState],
    ) -> bool:
        """Whether a step that has to run, or may have to, reads the result of a step."""
        if plan.grows:
            return True  # the flow function may
        inside = chain.position
        for number in plan.steps[chain.step_states[position].step.number].consumers:
            if number in inside:
                if inside[number] not in found:
                    return True
            elif not self._stays(number, chain, plan, step_states):
                return True
        return False

    def _stays(self, number: int, chain: StepChain, plan: Plan, step_states: Sequence[StepState]) -> bool:
        """Whether a step outside of a chain will be kept whole, as far as is known before it is reached."""
        known = self._staying.get((chain.spec.ident, number))
        if known is None:
            known = self._staying[chain.spec.ident, number] = self._will_stay(number, chain, plan, step_states)
        return known

    def _will_stay(self, number: int, chain: StepChain, plan: Plan, step_states: Sequence[StepState]) -> bool:
        step = plan.steps[number]
        record = None if step.mapped else self._previous_run.find(step.slug, SINGLE)
        if record is None:
            return False
        for i in step.inputs:
            source = step_states[i.source]
            if i.source in chain.position:
                if not self._is_kept_whole(chain, chain.position[i.source], record.generation, step_states):
                    return False
            elif not source.final or not self._is_as_before(source, record.generation, step_states):
                return False
        return all(self._stays(n, chain, plan, step_states) for n in step.consumers) or record.readable

    def _is_kept_whole(
        self, chain: StepChain, position: int, generation: int, step_states: Sequence[StepState]
    ) -> bool:
        """Whether all rows of a step of a chain will be kept, each in its place and none from a later generation."""
        rows: Sequence[ItemId] = (SINGLE,)
        if chain.map_state is not None:
            if not chain.map_state.closed or chain.dependencies:
                return False
            rows = self._all_identities(chain)
        newest = {position: generation}  # by the steps that are read; each once, along however many ways
        for at in range(position, -1, -1):
            if at in newest and not self._is_kept_with_inputs(chain, at, rows, newest, step_states):
                return False
        return True

    def _is_kept_with_inputs(
        self,
        chain: StepChain,
        position: int,
        rows: Sequence[ItemId],
        newest: dict[int, int],
        step_states: Sequence[StepState],
    ) -> bool:
        """Whether the rows of a step will be kept if the steps of the chain that it reads are, which it notes."""
        slug, generation = chain.step_states[position].step.slug, newest[position]
        if chain.map_state is not None and not self._previous_run.same_width(slug, len(rows)):
            return False
        first = generation
        for row, identity in enumerate(rows):
            record = self._previous_run.find(slug, identity)
            if record is None or record.row != row or record.generation > generation:
                return False
            first = min(first, record.generation)
        inputs = chain.step_states[position].step.inputs
        for (kind, k), i in zip(chain.spec.steps[position].wiring, inputs, strict=True):
            if kind == STEP:
                newest[k] = min(first, newest.get(k, first))
            elif not i.mapped and not self._is_as_before(step_states[i.source], first, step_states):
                return False
        return True

    # -- keys ------------------------------------------------------------------------------------------------------

    def _note_key(self, chain: StepChain, map_row: MapRow) -> None:
        """Note the identity of a row, by the item it begins with or by the row it continues."""
        if chain.map_state is None:
            return
        number = chain.map_state.domain.number
        if (number, map_row.row) in self._identities:
            return
        goes_on = chain.key_of(map_row.row) is None and not chain.spec.steps[0].computes_key
        for dependency in chain.dependencies if goes_on else ():
            if (
                dependency.map_state is not None
                and (dependency.map_state.domain.number, map_row.row) in self._identities
            ):
                self._identities[number, map_row.row] = self._identities[
                    dependency.map_state.domain.number, map_row.row
                ]
                return
        key = chain.key_of(map_row.row)
        if key is None and chain.spec.steps[0].computes_key and not chain.dependencies:
            self._begun[number] = chain
        if key is not None:
            self._number(number, map_row.row, key)
        elif chain.order is not None and chain.spec.steps[0].computes_key:
            self._number_all(chain)  # rows do not start in their order, by which those of one key are numbered
        else:
            self._number(number, map_row.row, _item_key(chain, map_row.items))

    def _key_at(self, chain: StepChain, row: int) -> str | None:
        """Return the key of the item that is in a row now; None if it cannot be known yet."""
        assert chain.map_state is not None
        number = chain.map_state.domain.number
        known = [number, *[d.map_state.domain.number for d in chain.dependencies if d.map_state is not None]]
        for domain in known:
            first = self._begun.get(domain)
            if first is not None and first.map_state is not None and first.map_state.closed:
                self._number_all(first)
            if (domain, row) in self._identities:
                return self._identities[domain, row][0]
        return None

    def _number(self, domain: int, row: int, key: str | None) -> None:
        if (domain, row) not in self._identities:
            seen = self._seen.setdefault(domain, Counter())
            self._identities[domain, row] = item_id_of(key, row, seen)

    def _all_identities(self, chain: StepChain) -> list[ItemId]:
        """Return the identities of the rows of a chain that begins with a list."""
        number, width = self._number_all(chain)
        return [self._identities[number, row] for row in range(width)]

    def _number_all(self, chain: StepChain) -> tuple[int, int]:
        """Note the identities of all rows of such a chain, once; return the number of its domain and its width."""
        assert chain.map_state is not None
        number, width = chain.map_state.domain.number, chain.map_state.width or 0
        if number not in self._complete:
            self._complete.add(number)
            for row in range(width):
                self._number(number, row, _item_key(chain, chain.items_of(row)))
        return number, width


def _item_key(chain: StepChain, items: tuple[Any, ...]) -> str | None:
    """Return the key of the item that a row begins with; a list that stayed on a worker is read once.

    A large result of another child that is on a worker was made anew, and so is what reads it: it has no need of a key.
    """
    spec = chain.spec.steps[0]
    if not spec.computes_key or any(is_a(item, State) and is_a(item._raw_result, Held) for item in items):
        return None
    for item in items:
        result = getattr(getattr(item, "state", None), "_raw_result", None)
        if is_a(result, Held):
            result.peek()
    return key_in_time(spec, gather(chain.spec, 0, items, {}), chain.spec.run)


class DuplicateKeys:
    """Counts the items of each key."""

    def __init__(self) -> None:
        self._seen: dict[int, Counter[str]] = {}

    def items(self, chain: StepChain, items: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the items of a row that begins, those that are not the first of their key with a number."""
        for position, spec in enumerate(chain.spec.steps):
            if spec.computes_key and spec.named_by_key:
                items = self._of_step(chain, position, spec, items)
        return items

    def _of_step(self, chain: StepChain, position: int, spec: StepSpec, items: tuple[Any, ...]) -> tuple[Any, ...]:
        mine = [k for (kind, k), i in zip(spec.wiring, spec.inputs, strict=True) if kind == ITEM and i.mapped]
        if not mine or not all(_can_be_read(items[k]) for k in mine):
            return items
        upstream = gather(chain.spec, position, items, {})
        key = key_in_time(spec, upstream, chain.spec.run)
        if key is None:
            return items
        seen = self._seen.setdefault(spec.number, Counter())
        seen[key] += 1
        if seen[key] == 1:
            return items
        state = upstream[next(n for n, (kind, k) in enumerate(spec.wiring) if kind == ITEM and k == mine[0])]
        numbered = Success(None, state.result, context={**state.context, ITEM_NUMBER: seen[key]})
        return (*items[: mine[0]], numbered, *items[mine[0] + 1 :])


def _can_be_read(item: Any) -> bool:
    """Whether the value of an item can be read at the client; a list that stayed on a worker is read once."""
    state = item.state if is_a(item, Pick) else item
    if not is_a(state, State):
        return True
    result = state._raw_result
    if not state.is_successful() or (is_a(result, Deferred) and not is_a(item, Pick)):
        return False
    if is_a(result, Held):
        result.peek()
    return True
