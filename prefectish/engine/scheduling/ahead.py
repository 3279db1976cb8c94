"""How many short children workers are given ahead of their turn: pure rules.

A scheduler that sends a thread its next child when the last one has ended spends more on the messages than a short body
takes. Short children wait on the workers instead, a few for each thread, so that a message carries many. What waits
there is out of the scheduler's hands: others that come wait until it has run, and it may go down with its worker. So it
is little, in seconds and in number, and none of it while others wait for their turn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from heapq import heapify, heapreplace
from typing import NamedTuple

#: Children that wait on a worker for each of its threads: at most so many, worth so many seconds; fewer than the
#: least are not worth it.
MOST_AHEAD = 64
SECONDS_AHEAD = 0.25
LEAST_AHEAD = 16
#: Children for each thread that are open until some have been measured, and altogether at least.
UNMEASURED = 8
LEAST_UNMEASURED = 64
#: Children that are measured before a mean counts, and how many later ones it follows.
_SAMPLE = 8
_MEMORY = 32
#: Seconds after which a body is a long one, for those that wait behind it.
LONG = 0.5
#: Seconds after which a chain of which no child has ended counts as a long one.
PATIENCE = 0.5


def children_ahead(mean: float) -> int:
    """Return how many children each thread is given ahead whose bodies take so many seconds; 0 for none.

    Examples
    --------
    >>> children_ahead(0.0001), children_ahead(0.01), children_ahead(0.1)
    (64, 25, 0)
    """
    number = int(min(MOST_AHEAD, SECONDS_AHEAD / mean)) if mean > 0 else MOST_AHEAD
    return number if number >= LEAST_AHEAD else 0


class Pace:
    """How long the children of a chain take.

    Parameters
    ----------
    now
        When its first child was submitted, in seconds.

    Attributes
    ----------
    mean
        Seconds of a child: of all at first, then of the last ones above all.
    """

    __slots__ = ("_ahead", "count", "mean", "since")

    def __init__(self, now: float) -> None:
        self.count = 0
        self.mean = 0.0
        self.since = now
        self._ahead = 0

    def note(self, seconds: float) -> None:
        """Note that a child has ended."""
        self.count += 1
        self.mean += (seconds - self.mean) / min(self.count, _MEMORY)
        if self.count >= _SAMPLE:
            self._ahead = children_ahead(self.mean)

    def ahead(self, now: float) -> int | None:
        """Return how many of its children each thread is given ahead; None if that is not known yet."""
        if self.count >= _SAMPLE or now - self.since > PATIENCE:
            return self._ahead
        return None


def window_of(widest: int, threads: int, paces: Iterable[int | None]) -> int:
    """Return how many rows of maps may be open.

    Parameters
    ----------
    widest
        As many as may be open where bodies are long: they wait in the queue of the scheduler.
    threads
        Of the cluster.
    paces
        What :meth:`Pace.ahead` says of each chain that has open rows.

    Examples
    --------
    >>> window_of(1000, 2, [64]), window_of(1000, 2, [0]), window_of(1000, 2, [64, 0]), window_of(1000, 2, [64, 25])
    (128, 1000, 1000, 128)
    >>> window_of(1000, 2, [None]), window_of(1000, 100, [64]), window_of(16, 2, [64]), window_of(1000, 2, [])
    (64, 1000, 16, 1000)
    """
    known = list(paces)
    if not known or 0 in known:
        return widest
    each = [UNMEASURED if ahead is None else ahead for ahead in known]
    least = LEAST_UNMEASURED if None in known else 0
    return min(widest, max(least, threads * max(each)))


class Room(NamedTuple):
    """A worker that takes tasks, its threads, and the tasks that it was given and has not finished."""

    worker: str
    threads: int
    given: int


def spread(number: int, rooms: Sequence[Room], ahead: int) -> list[str]:
    """Return the workers of so many children in turn, or of fewer if there is no room: the least busy comes first.

    Parameters
    ----------
    ahead
        Tasks that each thread may have.

    Examples
    --------
    >>> spread(5, [Room("a", 1, 2), Room("b", 2, 0)], 16)
    ['b', 'b', 'b', 'b', 'a']
    >>> spread(4, [Room("a", 1, 15)], 16)
    ['a']
    """
    heap = [(room.given / room.threads, place, room.given) for place, room in enumerate(rooms) if room.threads]
    heapify(heap)
    found: list[str] = []
    while heap and len(found) < number:
        load, place, given = heap[0]
        if load >= ahead:
            break
        room = rooms[place]
        found.append(room.worker)
        heapreplace(heap, ((given + 1) / room.threads, place, given + 1))
    return found


def is_held_up(running: Collection[float], threads: int) -> bool:
    """Whether what waits on a worker waits for long: bodies that have run for long have all of its threads.

    Parameters
    ----------
    running
        For how many seconds each body there has run.

    Examples
    --------
    >>> is_held_up([8.0], 1), is_held_up([8.0], 2), is_held_up([8.0, 0.1], 2)
    (True, False, False)
    """
    return sum(seconds >= LONG for seconds in running) >= threads


def is_alone(queued: Iterable[object], own: object) -> bool:
    """Whether all tasks in the queue of the scheduler are of one run.

    Parameters
    ----------
    queued
        The run of each of them, None if it is of none.
    """
    return all(run == own for run in queued)
