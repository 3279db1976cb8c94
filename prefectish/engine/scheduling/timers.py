"""Things that are due at a time: a heap, no thread and no clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Timers(Generic[Item]):
    """Things by the time at which they are due, in seconds of the owner's monotonic clock.

    Examples
    --------
    >>> timers = Timers()
    >>> timers.at(2.0, "b"); timers.at(1.0, "a")
    >>> timers.next_due, timers.pop(1.5), timers.pop(1.5)
    (1.0, 'a', None)
    """

    __slots__ = ("_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Item]] = []
        self._count = 0

    def at(self, due: float, thing: Item) -> None:
        """Note a thing; of two that are due at once the first noted comes first."""
        self._count += 1
        heappush(self._heap, (due, self._count, thing))

    @property
    def next_due(self) -> float | None:
        """When the next thing is due; None if there is none."""
        return self._heap[0][0] if self._heap else None

    def pop(self, now: float) -> Item | None:
        """Return the next thing that is due by `now`, None if none is."""
        return heappop(self._heap)[2] if self._heap and self._heap[0][0] <= now else None

    def drop(self, stale: Callable[[Item], bool]) -> None:
        """Forget the next things as long as they are `stale`, so that nobody waits for them."""
        while self._heap and stale(self._heap[0][2]):
            heappop(self._heap)

    def clear(self) -> None:
        """Forget everything."""
        self._heap.clear()

    def __bool__(self) -> bool:
        return bool(self._heap)
