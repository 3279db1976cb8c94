"""Who killed a worker? Suspects run again alone, one after another, before anybody is blamed.

When a worker dies, the cluster blames every task it was running, and after some deaths gives one up: not always the
guilty one. Each child that was given up is a suspect. While there are suspects nothing new is admitted; what runs may
end, for :data:`PATIENCE` seconds at most; then each suspect gets one run alone, one step at a time. One that ends is
cleared, whatever its state; one that takes its worker along again is guilty.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from prefectish.engine.scheduling.run_state import MapRow, StepChain

#: How long what runs beside a suspect may take to end, in seconds, before the suspect gets a worker to itself.
PATIENCE = 30.0


class Suspect(NamedTuple):
    """A step of a branch that was lost with its worker."""

    chain: StepChain
    map_row: MapRow
    position: int


class Suspects:
    """The suspects of a run.

    Attributes
    ----------
    current
        The suspect that runs alone now.
    crashes
        Runs alone that took their worker along, by step number and row.
    """

    __slots__ = ("_queue", "_since", "crashes", "current")

    def __init__(self) -> None:
        self._queue: deque[Suspect] = deque()
        self._since: float | None = None
        self.current: Suspect | None = None
        self.crashes: dict[tuple[int, int], int] = {}

    @property
    def busy(self) -> bool:
        """Whether admission is closed."""
        return bool(self._queue) or self.current is not None

    def add(self, suspect: Suspect, now: float) -> None:
        """Note a suspect."""
        if self._since is None:
            self._since = now
        self._queue.append(suspect)

    def next(self, others: int, now: float) -> Suspect | None:
        """Return the suspect that can run alone now, if one can.

        Parameters
        ----------
        others
            Jobs of ours that are in flight.
        """
        if self.current is not None or not self._queue:
            return None
        assert self._since is not None
        if others and now < self._since + PATIENCE:
            return None
        self.current = self._queue.popleft()
        return self.current

    def clear(self, now: float) -> None:
        """Note that the current suspect's run alone has ended."""
        self.current = None
        self._since = now if self._queue else None

    def count_crash(self, suspect: Suspect, crash_retries: int) -> bool:
        """Count a run alone that took its worker along; True if there is no further one."""
        key = (suspect.chain.step_states[suspect.position].step.number, suspect.map_row.row)
        self.crashes[key] = self.crashes.get(key, 0) + 1
        return self.crashes[key] > crash_retries

    def due(self) -> float | None:
        """When patience ends; None if nobody waits for it."""
        if self.current is not None or not self._queue or self._since is None:
            return None
        return self._since + PATIENCE
