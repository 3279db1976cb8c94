"""What follows from the death of a worker for a child that was on it: pure rules, and the counts that they need."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from typing import Any

from prefectish.engine.jobs.protocol import Lost, Share
from prefectish.process_tree import exit_text

#: A body that was begun so often on workers that left on purpose while it ran is given up.
MOST_RETIRED = 5
#: A worker whose memory was beyond this part of its limit when it was killed was killed for it.
NEAR_LIMIT = 0.8
#: One below this part of its limit was killed for something else.
FAR_FROM_LIMIT = 0.5
#: Signals by which a kernel ends a process when memory runs out.
_OF_MEMORY = ("SIGKILL",)
#: What the reasons of Dask for the end of a worker begin with, and what they mean.
_REASONS = {
    "restart": "its worker was restarted on request",
    "client-restart": "its worker was restarted on request",
    "retire": "its worker was retired",
    "worker-close-gracefully": "its worker was retired",
    "worker-lifetime": "its worker was at the end of its lifetime",
    "check-worker-ttl": "did not answer for worker-ttl: a task function that holds the GIL?",
    "scheduler-close": "its cluster was closed",
}


class Next(Enum):
    """What becomes of a child whose worker died."""

    #: It is tried again at once.
    AGAIN = "again"
    #: It is tried again alone, and only a death then is blamed on it.
    ALONE = "alone"
    #: It is Crashed.
    CRASHED = "crashed"


#: How many deaths on request are not counted.
MOST_ASKED = 5


class Deaths:
    """The deaths of workers that had a child.

    Attributes
    ----------
    asked
        Those on request while the child ran alone.
    of_memory
        Those that ran out of memory while they ran it.
    queued
        Those that it had not begun on.
    others
        The rest.
    """

    __slots__ = ("asked", "of_memory", "others", "queued")

    def __init__(self, of_memory: int = 0, others: int = 0, queued: int = 0) -> None:
        self.asked = 0
        self.of_memory = of_memory
        self.others = others
        self.queued = queued

    @property
    def begun(self) -> int:
        """Number of workers that died while they ran it."""
        return self.of_memory + self.others


def after_death(lost: Lost, deaths: Deaths, crash_retries: int) -> Next:
    """Count the first death of a child's worker since it was submitted, and return what follows.

    A death that is proven to be of memory needs no suspicion: the child is tried again at once, `crash_retries` times,
    with what its options ask for then. Beyond that it is Crashed if it was alone there; else a run alone says whether
    it or a neighbour is too large. A child that had not begun has no part in a death, unless that is said of it more
    often than it can be true. Any other death is let pass as often as the cluster would have let it pass.

    Examples
    --------
    >>> lost = Lost("killed-worker", of_memory=True, share=Share.ALONE, tolerated=3)
    >>> counted = Deaths()
    >>> [after_death(lost, counted, crash_retries=1).value for _ in range(2)]
    ['again', 'crashed']
    """
    if lost.share is Share.QUEUED and deaths.queued <= lost.tolerated:
        deaths.queued += 1
        return Next.AGAIN
    if lost.of_memory:
        deaths.of_memory += 1
        if deaths.of_memory <= crash_retries:
            return Next.AGAIN
        return Next.CRASHED if lost.share is Share.ALONE else Next.ALONE
    deaths.others += 1
    return Next.AGAIN if deaths.others <= lost.tolerated else Next.ALONE


def is_asked(evidence: Mapping[str, Any]) -> bool:
    """Whether a worker was ended on purpose, and not because it did not answer.

    Examples
    --------
    >>> is_asked({"asked_to_end": "client-restart-17.5"}), is_asked({"asked_to_end": "check-worker-ttl-17.5"})
    (True, False)
    """
    asked = str(evidence.get("asked_to_end") or "")
    return bool(asked) and not asked.startswith("check-worker-ttl")


def is_let_pass(lost: Lost, deaths: Deaths) -> bool:
    """Count the death of the worker of a child that ran alone; whether it is none of the child's doing."""
    if not lost.asked or deaths.asked >= MOST_ASKED:
        return False
    deaths.asked += 1
    return True


def share_of(key: Any, executing: Collection[Any], processing: Collection[Any], threads: int) -> Share:
    """Return what a key had to do with the death of a worker.

    Parameters
    ----------
    executing
        The keys that its last heartbeat named as running, of those that it still had when it died.
    processing
        All keys that it had been given and had not finished.
    threads
        Bodies that it ran at once.

    Examples
    --------
    >>> share_of("a", ["a"], ["a", "b"], 1).value, share_of("b", ["a"], ["a", "b"], 1).value
    ('alone', 'queued')
    >>> share_of("a", [], ["a", "b"], 1).value, share_of("a", [], ["a"], 4).value
    ('among-others', 'alone')
    """
    if set(processing) <= {key}:
        return Share.ALONE
    if len(executing) < threads:
        return Share.AMONG_OTHERS  # something may have begun since
    if key not in executing:
        return Share.QUEUED
    return Share.ALONE if len(executing) == 1 else Share.AMONG_OTHERS


def blamed(given: Iterable[Any], ran: Collection[Any]) -> list[Any]:
    """Return those of the keys that a dead worker had which may have killed it: all, unless it is known which ran.

    Examples
    --------
    >>> blamed(["a", "b"], {"b"}), blamed(["a", "b"], ())
    (['b'], ['a', 'b'])
    """
    return [key for key in given if not ran or key in ran]


def is_of_memory(evidence: Mapping[str, Any]) -> bool:
    """Whether it is proven that a worker died because its memory ran out."""
    if evidence.get("out_of_memory"):
        return True
    if evidence.get("silent_seconds") or evidence.get("asked_to_end"):
        return False
    part = _part_of_limit(evidence)
    return evidence.get("signal") in _OF_MEMORY and part is not None and part >= NEAR_LIMIT


def _part_of_limit(evidence: Mapping[str, Any]) -> float | None:
    peak, limit = evidence.get("peak_memory"), evidence.get("memory_limit")
    return peak / limit if peak and limit else None


def death_in_words(evidence: Mapping[str, Any]) -> str:
    """Return why a worker process ended, in a few words for a message; empty if that is not known.

    Examples
    --------
    >>> death_in_words({"exit_code": -9, "signal": "SIGKILL"})
    'killed by signal 9 (SIGKILL), possibly out of memory'
    >>> death_in_words({"exit_code": -9, "signal": "SIGKILL", "silent_seconds": 4.0})
    'did not answer for worker-ttl 4 s: a task function that holds the GIL?'
    >>> death_in_words({"exit_code": -9, "signal": "SIGKILL", "peak_memory": 1e8, "memory_limit": 4e9})
    'killed by signal 9 (SIGKILL)'
    """
    if evidence.get("out_of_memory"):
        return "possibly out of memory"
    if silent := evidence.get("silent_seconds"):
        return f"did not answer for worker-ttl {silent:g} s: a task function that holds the GIL?"
    if asked := evidence.get("asked_to_end"):
        return next((words for begin, words in _REASONS.items() if asked.startswith(begin)), f"ended by Dask: {asked}")
    text = exit_text(evidence)
    part = _part_of_limit(evidence)
    if evidence.get("signal") in _OF_MEMORY and (part is None or part >= FAR_FROM_LIMIT):
        return f"{text}, possibly out of memory"
    return text
