"""Runs of one cache with equal keys: the first computes, the others wait for it and take what it gave.

A row whose task shares its cache is first submitted as a probe, where its inputs are; a miss comes back with the key.
It is looked up in the memory of this process. The first row with a key runs and leads. A row that comes with the same
key holds no place and no slot: when the leader succeeds it ends as ``Cached`` here, without a job of its own; otherwise
the next one leads.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from prefectish.caching.lookups import Miss, cache_name, entry_of
from prefectish.engine.clock import Now
from prefectish.engine.jobs.job import Record
from prefectish.engine.jobs.references import Held
from prefectish.engine.scheduling.items import length_of
from prefectish.engine.scheduling.run_state import NEVER_STARTED, NOT_RUN, MapRow, StepChain
from prefectish.engine.state import Cached, State
from prefectish.engine.worker.attempt_context import MISS
from prefectish.engine.worker.cache import without_reason
from prefectish.kinds import is_a

if TYPE_CHECKING:
    from prefectish.engine.scheduling.rows import Rows


class Follower:
    """A step of a row that waits for another one with the same key."""

    __slots__ = ("chain", "item_key", "map_row", "position")

    def __init__(self, chain: StepChain, map_row: MapRow, position: int, item_key: str | None) -> None:
        self.chain = chain
        self.map_row = map_row
        self.position = position
        self.item_key = item_key

    @property
    def waits(self) -> bool:
        """Whether it has not ended otherwise meanwhile."""
        here = self.chain.open_rows.get(self.map_row.row) is self.map_row
        return here and bool(self.map_row.waiting >> self.position & 1)


class KeyInUse:
    """A key in this run."""

    __slots__ = ("followers", "leader", "length", "outcome")

    def __init__(self) -> None:
        self.leader: tuple[int, int] | None = None  # number of the step and row that computes it now
        self.outcome: Cached | None = None  # what stands for all runs with the key, once one has succeeded
        self.length: int | None = None  # length of its result, for a map over it
        self.followers: deque[Follower] = deque()


class SameKeys:
    """The keys of a run, by cache."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.changes = rows.changes
        self.run_state = rows.run_state
        self._keys: dict[tuple[str, str], KeyInUse] = {}
        self._led: dict[tuple[int, int], KeyInUse] = {}  # by number of the step and row of the leader

    def meet(self, chain: StepChain, map_row: MapRow, position: int, record: Record, now: Now) -> None:
        """Let a row that was probed, and found nothing, lead, wait or end."""
        state = record.state
        miss: Miss = state.context[MISS]
        self.changes.start_row_from(map_row, position, state)
        one = Follower(chain, map_row, position, record.item_key)
        name = cache_name(chain.step_states[position].step.task), str(miss.same_key)
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = KeyInUse()
            self._look(key, chain, position, miss)
        found = None if key.outcome is None else _shared(key.outcome)
        if found is not None:
            self._end(one, found, key.length, now)
        elif key.leader is None:  # it is new, the one before failed, or its result was released
            self._lead(key, one)
        else:
            self.changes.wait_row(chain, map_row, position)
            self.changes.end_probe(chain, map_row)
            key.followers.append(one)

    def _look(self, key: KeyInUse, chain: StepChain, position: int, miss: Miss) -> None:
        """Look in the memory of this process for what stands for the runs with a key."""
        cache = chain.spec.steps[position].cache
        assert cache is not None
        key.outcome = cache.found_at_client(miss, chain.spec.run.get("flow_run_id"))
        if key.outcome is not None:
            key.length = length_of(chain.step_states[position].step, key.outcome)

    def _lead(self, key: KeyInUse, one: Follower) -> None:
        place = one.chain.step_states[one.position].step.number, one.map_row.row
        key.leader = place
        self._led[place] = key
        self.changes.watch_row(place)

    def settle(self, now: Now, may_start: bool) -> None:
        """End what waited for rows that have ended, or let the next one run.

        With `may_start` false nothing more is started: the run comes to its end.
        """
        ended = self.run_state.watched_ended
        while ended:
            place, state, width, held = ended.popleft()
            key = self._led.pop(place)
            key.leader = None
            entry = entry_of(state)
            if entry is None:
                self._next(key, now, may_start)
                continue
            key.outcome, key.length = without_reason(entry), width
            given = key.outcome if held is None else key.outcome.replace(result=held)
            while key.followers:
                one = key.followers.popleft()
                if one.waits and (found := _shared(given)) is not None:
                    self.changes.wake_row(one.map_row, 1 << one.position)
                    self._end(one, found, width, now)
                    self.rows.settle_row(one.chain, one.map_row, now)

    def _next(self, key: KeyInUse, now: Now, may_start: bool) -> None:
        """Let the next row with a key lead, since the one before gave nothing to keep."""
        while key.followers and may_start:
            one = key.followers.popleft()
            if not one.waits:
                continue
            if not (one.chain.admission_mode or one.chain.spec.ident in self.run_state.stopping):
                self.changes.wake_row(one.map_row, 1 << one.position)
                self._lead(key, one)
                self.rows.resubmit(one.chain, one.map_row, now)
                return
            self.changes.end_position(one.chain, one.map_row, one.position, NEVER_STARTED)
            self.rows.settle_row(one.chain, one.map_row, now)

    def _end(self, one: Follower, found: Cached, width: int | None, now: Now) -> None:
        """End a row with the result of another, as an attempt that finds it in the cache does."""
        start = one.map_row.starts.get(one.position, NOT_RUN)
        own = {name: value for name, value in start.context.items() if name != MISS}
        state: State = found.replace(context={**found.context, **own}) if own else found
        step_state = one.chain.step_states[one.position]
        state = self.changes.notify_row(step_state, one.map_row.row, NOT_RUN, state)
        self.rows.record(one.chain, one.map_row, one.position, Record(state, 0.0, None, width, None, one.item_key), now)


def meets_same_keys(chain: StepChain) -> bool:
    """Whether rows of a chain may wait for one another, or for those of others with the same cache."""
    cache = chain.spec.steps[0].cache
    return cache is not None and cache.is_isolated and len(chain.step_states) == 1


def _shared(state: Cached) -> Cached | None:
    """Return a state for another row: a result on a worker is held once more; None if it was released."""
    result = state._raw_result
    if not is_a(result, Held):
        return state
    again = result.held_again()
    return None if again is None else state.replace(result=again)
