"""How many branches go into one task of the cluster: opt-in batching, sized by observed time."""

from __future__ import annotations

#: A batch should take about so long, in seconds: long against what a task costs, short against a user's patience.
TARGET = 0.2
#: What a child costs beside its body, in seconds, roughly; keeps bodies that take no time from making batches endless.
CHILD = 20e-6
#: Size of the first batches of a map, before anything is known about its time.
FIRST = 16
#: A batch is at most so many times as large as the one before: one quick item does not speak for all.
GROWTH = 4
LARGEST = 5000
#: Batches in flight for each slot of the cluster.
DEPTH = 3


def auto_size(last: int, mean: float | None, remaining: int | None, slots: int) -> int:
    """Return the number of branches for the next batch.

    Parameters
    ----------
    last
        Size of the batch before, 0 for the first.
    mean
        Observed mean time of a branch in seconds, None if none has ended.
    remaining
        Rows that are left, None if that is not known.
    slots
        Threads of the cluster; the last batches are cut so that all of them have work.

    Examples
    --------
    >>> auto_size(0, None, 10_000, 2), auto_size(16, 0.0, 10_000, 2)
    (16, 64)
    >>> auto_size(4096, 0.0, 10_000, 2), auto_size(16, 0.1, 99, 2)
    (2500, 1)
    """
    size = last or FIRST
    if mean is not None:
        size = min(int(TARGET / (mean + CHILD)), max(last, FIRST) * GROWTH, LARGEST)
    if remaining is not None:
        size = min(size, -(-remaining // (2 * slots)))
    return max(1, size)
