"""Which children took longest: a few of them, whatever the number of children; the rest costs a comparison each."""

from __future__ import annotations

from collections.abc import Iterable

from prefectish.engine.scheduling.run_state import StepState
from prefectish.engine.task_states import SlowChild

#: Children that are kept.
KEPT = 20


def no_children() -> list[tuple[float, int, int]]:
    """Return a heap of seconds, step number and row that children who took longer replace the first of.

    Examples
    --------
    >>> from heapq import heapreplace
    >>> slowest = no_children()
    >>> for row in range(30):
    ...     if row / 10 > slowest[0][0]:
    ...         _ = heapreplace(slowest, (row / 10, 0, row))
    >>> slowest[0][0], len(slowest)
    (1.0, 20)
    """
    return [(0.0, -1, -1)] * KEPT


def as_report(slowest: Iterable[tuple[float, int, int]], step_states: list[StepState]) -> tuple[SlowChild, ...]:
    """Return the children by their names, the slowest first."""
    longest: dict[tuple[int, int], float] = {}  # the longest attempt of a child that ran again
    for seconds, number, row in sorted(slowest, reverse=True):
        if number >= 0:
            longest.setdefault((number, row), seconds)
    orders = {number: _places(step_states[number]) for number in {number for number, _ in longest}}
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
