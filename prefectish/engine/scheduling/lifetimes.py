"""Where a body goes that does not fit into what is left of the life of its worker: a pure rule."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from prefectish.engine.worker.lifetime import fits


class Living(NamedTuple):
    """A worker that takes tasks.

    Attributes
    ----------
    left
        Seconds until its end; None if it has none.
    threads, given
        Bodies that it runs at once, and tasks that it was given and has not finished.
    """

    address: str
    left: float | None
    threads: int
    given: int


def places_for(needed: float, workers: Sequence[Living], allowed: Collection[str] | None = None) -> list[str] | None:
    """Return the workers that a body may go to; an empty list if it waits for a new one, None if there is none but one.

    Parameters
    ----------
    needed
        Its seconds.
    workers
        Those that take tasks, the one that refused it among them.
    allowed
        The workers that its task may run on; None for any.

    Examples
    --------
    >>> old, young = Living("old", 3.0, 1, 0), Living("young", 18.0, 1, 0)
    >>> places_for(8.0, [old, young]), places_for(8.0, [old, young._replace(given=2)]), places_for(8.0, [old])
    (['young'], [], None)
    >>> places_for(8.0, [old, Living("for ever", None, 1, 99)])
    ['for ever']
    """
    open_to = [worker for worker in workers if allowed is None or worker.address in allowed]
    for_ever = [worker.address for worker in open_to if worker.left is None]
    if for_ever:
        return for_ever
    room = {w.address: room_for(needed, w.left or 0.0, w.threads) - w.given for w in open_to if fits(needed, w.left)}
    best = max(room, key=room.__getitem__, default=None)
    if best is not None and room[best] > 0:
        return [best]
    return [] if len(workers) > 1 else None


def room_for(needed: float, left: float, threads: int) -> int:
    """Return how many bodies of so many seconds a worker can run in the time that is left.

    Examples
    --------
    >>> room_for(8.0, 20.0, 1), room_for(8.0, 20.0, 4), room_for(8.0, 5.0, 4)
    (2, 8, 0)
    """
    return threads * int(left // max(needed, 1e-3))
