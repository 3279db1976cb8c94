"""Who starts next: the window, the limits, batches, and strict depth first.

Single steps start at once. Rows of maps take the places of the window, those of the deepest chain first, so that a
branch is finished before another one is begun. A chain under a limit stands aside while it has no place; nothing waits
for it.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from prefectish.engine.scheduling.batch_size import DEPTH, auto_size
from prefectish.engine.scheduling.changes import Changes, chains_of
from prefectish.engine.scheduling.limits import Limits
from prefectish.engine.scheduling.run_state import MapRow, StepChain, pull

#: Weight of the newest branch in a chain's mean time.
NEWEST = 0.1


class Admission:
    """Queues of chains that may have a row to start.

    Attributes
    ----------
    open
        Branches of maps that take a place in the window.
    waiting
        Branches that are ready again but had no place under a limit.
    """

    def __init__(self, window: int, slots: int, limits: Limits) -> None:
        self.window = window
        self.slots = slots
        self.limits = limits
        self.open = 0
        self.waiting: deque[tuple[StepChain, MapRow]] = deque()
        self._chains: dict[int, StepChain] = {}
        self._singles: list[tuple[float, int, int]] = []
        self._mapped: list[tuple[float, int, int]] = []
        self._deferred: list[StepChain] = []

    def queue(self, chain: StepChain) -> None:
        """Put a chain among those that may have a row to start."""
        if not chain.queued:
            chain.queued = True
            self._chains[chain.spec.ident] = chain
            heappush(
                self._singles if chain.map_state is None else self._mapped,
                (-chain.priority, -chain.stage, chain.spec.ident),
            )

    def next_chain(self) -> StepChain | None:
        """Return the chain that starts next, if any has a place; it is not queued any more."""
        if self._singles:
            return self._take(self._singles)
        if self._mapped and self.open < self.window:
            return self._take(self._mapped)
        return None

    def _take(self, heap: list[tuple[float, int, int]]) -> StepChain:
        chain = self._chains[heappop(heap)[2]]
        chain.queued = False
        return chain

    def defer(self, chain: StepChain) -> None:
        """Let a chain wait without keeping others from starting."""
        self._deferred.append(chain)

    def requeue_deferred(self) -> None:
        """Queue the chains that stood aside."""
        deferred, self._deferred = self._deferred, []
        for chain in deferred:
            self.queue(chain)

    @property
    def stuck(self) -> bool:
        """Whether something waits for a place or a time."""
        return bool(self._deferred or self.waiting or self._singles or self._mapped)

    # -- limits ----------------------------------------------------------------------------------------------------

    def permit(self, chain: StepChain, now: float) -> bool:
        """Take a place under the chain's limits, if it has any."""
        return not chain.limited or self.limits.take_all(self._limiting(chain), now)

    def give_back(self, chain: StepChain) -> None:
        """Give back a place under the chain's limits."""
        if chain.limited:
            for number in self._limiting(chain):
                self.limits.give(number)

    def _limiting(self, chain: StepChain) -> list[int]:
        """Return the steps of a chain that have limits: one, unless a limit was set when they travelled already."""
        return [
            step_state.step.number for step_state in chain.step_states if self.limits.limited(step_state.step.number)
        ]

    # -- rows ------------------------------------------------------------------------------------------------------

    def batch_size(self, chain: StepChain) -> int:
        """Return how many rows of a chain the next batch takes; 0 if enough batches are under way."""
        batch = chain.spec.batch_size
        if batch is None or self.limits.rated(chain.step_states[0].step.number):
            return 1  # a rate spaces the starts of children, which those of a batch have one after another
        if chain.batches >= DEPTH * self.slots:
            return 0
        if isinstance(batch, int):
            return batch
        map_state = chain.map_state
        known = map_state is not None and map_state.closed and not chain.dependencies
        remaining = (map_state.width or 0) - chain.opened if known and map_state is not None else None
        chain.last_batch_size = auto_size(chain.last_batch_size, chain.mean, remaining, self.slots)
        return chain.last_batch_size

    def next_row(self, chain: StepChain, changes: Changes) -> int | None:
        """Return the next row of a chain, pulled from an iterator if need be; None if there is none now."""
        row = chain.next_row()
        map_state = chain.map_state
        if (
            row is not None
            or chain.dependencies
            or map_state is None
            or map_state.source is None
            or chain.admission_mode
        ):
            return row
        if pull(map_state):
            for step_state in map_state.members:
                assert step_state.children is not None
                step_state.children.append(None)
                step_state.left += 1
            assert map_state.width is not None
            map_state.width += 1
        else:
            map_state.closed = True
        if map_state.closed:
            for step_state in map_state.members:
                changes.finish_step(step_state)
        for other in chains_of(map_state):
            if other is not chain and not other.dependencies:
                self.queue(other)
        return chain.next_row()


def note_time(chain: StepChain, seconds: float) -> None:
    """Take the time of a branch into its chain's mean."""
    chain.mean = seconds if chain.mean is None else chain.mean + NEWEST * (seconds - chain.mean)
