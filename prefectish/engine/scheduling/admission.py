"""Who starts next: the window, the limits, bundles, and strict depth first.

Single steps start at once. Rows of maps take the places of the window, those of the deepest lane first, so that a
branch is finished before another one is begun. A lane under a limit stands aside while it has no place; nothing waits
for it.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from prefectish.engine.scheduling import run_state as tables
from prefectish.engine.scheduling.batch_size import DEPTH, auto_size
from prefectish.engine.scheduling.changes import Finisher, lanes_of
from prefectish.engine.scheduling.limits import Limits
from prefectish.engine.scheduling.run_state import Branch, Lane

#: Weight of the newest branch in a lane's mean time.
NEWEST = 0.1


class Admission:
    """Queues of lanes that may have a row to start.

    Attributes
    ----------
    open : branches of maps that take a place in the window.
    waiting : branches that are ready again but had no place under a limit.
    """

    def __init__(self, window: int, slots: int, limits: Limits) -> None:
        self.window = window
        self.slots = slots
        self.limits = limits
        self.open = 0
        self.waiting: deque[tuple[Lane, Branch]] = deque()
        self._lanes: dict[int, Lane] = {}
        self._singles: list[tuple[float, int, int]] = []
        self._mapped: list[tuple[float, int, int]] = []
        self._aside: list[Lane] = []

    def queue(self, lane: Lane) -> None:
        """Put a lane among those that may have a row to start."""
        if not lane.queued:
            lane.queued = True
            self._lanes[lane.spec.ident] = lane
            heappush(
                self._singles if lane.space is None else self._mapped, (-lane.priority, -lane.stage, lane.spec.ident)
            )

    def next_lane(self) -> Lane | None:
        """Return the lane that starts next, if any has a place; it is not queued any more."""
        if self._singles:
            return self._take(self._singles)
        if self._mapped and self.open < self.window:
            return self._take(self._mapped)
        return None

    def _take(self, heap: list[tuple[float, int, int]]) -> Lane:
        lane = self._lanes[heappop(heap)[2]]
        lane.queued = False
        return lane

    def stand_aside(self, lane: Lane) -> None:
        """Let a lane wait without keeping others from starting."""
        self._aside.append(lane)

    def come_back(self) -> None:
        """Queue the lanes that stood aside."""
        aside, self._aside = self._aside, []
        for lane in aside:
            self.queue(lane)

    @property
    def stuck(self) -> bool:
        """Whether something waits for a place or a time."""
        return bool(self._aside or self.waiting or self._singles or self._mapped)

    # -- limits ----------------------------------------------------------------------------------------------------

    def permit(self, lane: Lane, now: float) -> bool:
        """Take a place under the lane's limits, if it has any."""
        return not lane.limited or self.limits.take_all(self._limiting(lane), now)

    def give_back(self, lane: Lane) -> None:
        """Give back a place under the lane's limits."""
        if lane.limited:
            for number in self._limiting(lane):
                self.limits.give(number)

    def _limiting(self, lane: Lane) -> list[int]:
        """Return the steps of a lane that have limits: one, unless a limit was set when they travelled already."""
        return [run.step.number for run in lane.runs if self.limits.limited(run.step.number)]

    # -- rows ------------------------------------------------------------------------------------------------------

    def bundle_size(self, lane: Lane) -> int:
        """Return how many rows of a lane the next bundle takes; 0 if enough bundles are under way."""
        batch = lane.spec.batch
        if batch is None or self.limits.rated(lane.runs[0].step.number):
            return 1  # a rate spaces the starts of children, which those of a bundle have one after another
        if lane.bundles >= DEPTH * self.slots:
            return 0
        if isinstance(batch, int):
            return batch
        space = lane.space
        known = space is not None and space.closed and not lane.gates
        remaining = (space.width or 0) - lane.opened if known and space is not None else None
        lane.bundle = auto_size(lane.bundle, lane.mean, remaining, self.slots)
        return lane.bundle

    def next_row(self, lane: Lane, finisher: Finisher) -> int | None:
        """Return the next row of a lane, pulled from an iterator if need be; None if there is none now."""
        row = lane.next_row()
        space = lane.space
        if row is not None or lane.gates or space is None or space.source is None or lane.stopped:
            return row
        if tables.pull(space):
            for run in space.members:
                assert run.children is not None
                run.children.append(None)
                run.left += 1
            assert space.width is not None
            space.width += 1
        else:
            space.closed = True
        if space.closed:
            for run in space.members:
                finisher.step(run)
        for other in lanes_of(space):
            if other is not lane and not other.gates:
                self.queue(other)
        return lane.next_row()


def note_time(lane: Lane, seconds: float) -> None:
    """Take the time of a branch into its lane's mean."""
    lane.mean = seconds if lane.mean is None else lane.mean + NEWEST * (seconds - lane.mean)
