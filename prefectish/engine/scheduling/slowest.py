"""Which children took longest: a few of them, whatever the number of children; the rest costs a comparison each."""

from __future__ import annotations

from heapq import heappush, heapreplace

from prefectish.engine.scheduling.run_state import StepState
from prefectish.engine.task_states import SlowChild

#: Children that are kept.
KEPT = 20


class Slowest:
    """Keeps the children that took longest.

    Attributes
    ----------
    least
        Seconds that a child has to have taken to be among them.

    Examples
    --------
    >>> slowest = Slowest()
    >>> for row in range(30):
    ...     if row / 10 > slowest.least:
    ...         slowest.note(row / 10, 0, row)
    >>> slowest.least, len(slowest.found)
    (1.0, 20)
    """

    __slots__ = ("found", "least")

    def __init__(self) -> None:
        self.least = 0.0
        self.found: list[tuple[float, int, int]] = []

    def note(self, seconds: float, number: int, row: int) -> None:
        """Take a child that took longer than the least."""
        if len(self.found) < KEPT:
            heappush(self.found, (seconds, number, row))
        else:
            heapreplace(self.found, (seconds, number, row))
        if len(self.found) == KEPT:
            self.least = self.found[0][0]

    def as_report(self, step_states: list[StepState]) -> tuple[SlowChild, ...]:
        """Return the children by what they are called, the slowest first."""
        longest: dict[tuple[int, int], float] = {}  # of a child that was told to run again
        for seconds, number, row in sorted(self.found, reverse=True):
            longest.setdefault((number, row), seconds)
        orders = {number: _places(step_states[number]) for number, _ in longest}
        return tuple(
            SlowChild(
                step_states[number].step.slug,
                orders[number].get(row, row) if step_states[number].step.mapped else None,
                seconds,
            )
            for (number, row), seconds in longest.items()
        )


def _places(step_state: StepState) -> dict[int, int]:
    """Return the map index of each row that has another one."""
    order = step_state.map_state.order() if step_state.map_state is not None else None
    return {} if order is None else {row: index for index, row in enumerate(order)}
