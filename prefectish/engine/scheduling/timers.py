"""Things that are due at a time: a heap, no thread and no clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TypeVar

Item = TypeVar("Item")


class Timers(list[tuple[float, int, Item]]):
    """A heap of things by the time at which they are due, in seconds of the client's monotonic clock.

    Examples
    --------
    >>> timers = Timers()
    >>> timers.at(2.0, "b"); timers.at(1.0, "a")
    >>> timers.next_due, timers.pop_due(1.5), timers.pop_due(1.5)
    (1.0, 'a', None)
    """

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = 0

    def at(self, due: float, thing: Item) -> None:
        """Note a thing; of two that are due at once the first noted comes first."""
        self._count += 1
        heappush(self, (due, self._count, thing))

    @property
    def next_due(self) -> float | None:
        """When the next thing is due; None if there is none."""
        return self[0][0] if self else None

    def pop_due(self, now: float) -> Item | None:
        """Return the next thing that is due by `now`, None if none is."""
        return heappop(self)[2] if self and self[0][0] <= now else None

    def drop(self, stale: Callable[[Item], bool]) -> None:
        """Forget the next things as long as they are `stale`, so that the run does not wait for them."""
        while self and stale(self[0][2]):
            heappop(self)
