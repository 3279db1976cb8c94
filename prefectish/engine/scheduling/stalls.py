"""What the warning about a stalled run says: what runs, what waits for which data, which workers take nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

#: Tasks or workers that a text names.
_MOST_SHOWN = 3


class Running(NamedTuple):
    """A body that runs."""

    label: str
    worker: str


class Fetching(NamedTuple):
    """A task that was given to a worker and waits there for a value that other workers have."""

    label: str
    worker: str
    value: str
    holders: Sequence[str]


class Idle(NamedTuple):
    """A worker that takes nothing.

    Attributes
    ----------
    why
        ``paused``, ``closing_gracefully``, ``silent``, ...
    memory, limit
        Bytes, 0 if unknown.
    """

    worker: str
    why: str
    memory: int
    limit: int


class Unplaced(NamedTuple):
    """A task that no worker may run which is there.

    Attributes
    ----------
    is_too_long
        Whether the reason is that none of them lives long enough for it.
    """

    label: str
    is_too_long: bool


class Stall(NamedTuple):
    """What a cluster does with the open tasks of a run.

    Attributes
    ----------
    all_idle
        Whether there is no worker beside the idle ones.
    unplaced
        What waits for another worker.
    is_empty
        Whether there is no worker at all.
    """

    running: Sequence[Running]
    fetching: Sequence[Fetching]
    idle: Sequence[Idle]
    all_idle: bool
    unplaced: Sequence[Unplaced] = ()
    is_empty: bool = False


def stall_text(seconds: float, open_tasks: int, stall: Stall) -> str:
    """Return the warning of a run in which nothing has ended for so many seconds.

    Examples
    --------
    >>> print(stall_text(60, 3, Stall([Running("load-1[2]", "w1")], [], [], False)))
    nothing has ended for 60 s; of 3 open tasks 1 run: load-1[2] on w1. One that never ends needs a timeout; one that \
waits for tasks of its own on this cluster needs distributed.worker_client()
    >>> print(stall_text(60, 1, Stall([], [Fetching("total-1", "w2", "load-1[3]", ["w1"])], [], False)))
    nothing has ended for 60 s; of 1 open tasks 0 run; 1 waits for data: total-1 on w2 for load-1[3], which w1 has
    >>> print(stall_text(60, 2, Stall([], [], [], False, [Unplaced("load-1[3]", True), Unplaced("load-1[4]", True)])))
    nothing has ended for 60 s; of 2 open tasks 0 run; 2 wait for a worker that lives long enough: load-1[3], load-1[4]
    >>> print(stall_text(60, 2, Stall([], [], [], False, is_empty=True)))
    nothing has ended for 60 s; of 2 open tasks 0 run; the cluster has no workers
    >>> print(stall_text(60, 1, Stall([], [], [Idle("w1", "closing", 0, 0)], True, [Unplaced("load-1[3]", False)])))
    nothing has ended for 60 s; of 1 open tasks 0 run; no worker takes anything: w1 is closing
    """
    parts = [f"nothing has ended for {seconds:.0f} s; of {open_tasks} open tasks {len(stall.running)} run"]
    if stall.running:
        parts[0] += f": {_listed([f'{body.label} on {body.worker}' for body in stall.running])}"
    if stall.fetching:
        texts = [f"{f.label} on {f.worker} for {f.value}, which {_listed(f.holders)} has" for f in stall.fetching]
        parts.append(f"{len(texts)} wait{'s' * (len(texts) == 1)} for data: {_listed(texts)}")
    parts += [idle_text(stall.idle)] if stall.all_idle else _unplaced_texts(stall)
    text = "; ".join(parts)
    if not stall.running:
        return text
    return (
        f"{text}. One that never ends needs a timeout; one that waits for tasks of its own on this cluster needs "
        f"distributed.worker_client()"
    )


def _unplaced_texts(stall: Stall) -> list[str]:
    """Return what tasks wait for that no worker may run which is there."""
    if stall.is_empty:
        return ["the cluster has no workers"]
    texts = []
    kinds = ((True, "that lives long enough"), (False, "with a resource or a name that they ask for"))
    for is_too_long, wanted in kinds:
        labels = [each.label for each in stall.unplaced if each.is_too_long is is_too_long]
        if labels:
            texts.append(f"{len(labels)} wait{'s' * (len(labels) == 1)} for a worker {wanted}: {_listed(labels)}")
    return texts


def idle_text(idle: Sequence[Idle]) -> str:
    """Return why no worker takes anything.

    Examples
    --------
    >>> idle_text([Idle("w1", "paused", 256 << 20, 400 << 20), Idle("w2", "silent", 0, 0)])
    'no worker takes anything: w1 is paused (memory 64 % of 400 MiB), w2 does not answer'
    >>> idle_text([Idle("w1", "paused", 256 << 20, 400 << 20)])
    'all workers are paused: w1 (memory 64 % of 400 MiB)'
    """
    if all(worker.why == "paused" for worker in idle):
        return f"all workers are paused: {_listed([f'{worker.worker}{_share(worker)}' for worker in idle])}"
    words = {"silent": "does not answer", "paused": "is paused", "closing_gracefully": "is about to leave"}
    texts = [f"{each.worker} {words.get(each.why, f'is {each.why}')}{_share(each)}" for each in idle]
    return f"no worker takes anything: {_listed(texts)}"


def _share(worker: Idle) -> str:
    if not worker.memory or not worker.limit:
        return ""
    return f" (memory {100 * worker.memory / worker.limit:.0f} % of {worker.limit / (1 << 20):.0f} MiB)"


def _listed(texts: Sequence[str]) -> str:
    rest = f" and {len(texts) - _MOST_SHOWN} more" if len(texts) > _MOST_SHOWN else ""
    return ", ".join(texts[:_MOST_SHOWN]) + rest
