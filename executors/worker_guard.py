"""What is looked at on each worker when it opens a chain of a run, so also on those that join late.

Its Python is the client's, and it sees the result stores that the client sees. One that does not fit is sent away, what
it was given runs elsewhere, and the log of the run says so once. A worker that has an end tells when; each notes from
then on what it runs, and tells when its disk is full.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from distributed import get_worker

from prefectish.engine.capture import Value, capture
from prefectish.engine.worker import recall
from prefectish.engine.worker.running import open_note
from prefectish.executors import lifetimes, spilling
from prefectish.executors.same_modules import TOPIC, OtherModules
from prefectish.results.probes import leave_probe

#: A shared folder may show a new file late; it is looked for so often, with so many seconds between.
_LOOKS, _PAUSE = 6, 0.5

#: Marks of clients that this process has seen, or need not look for: each run with stores has some of its own.
_seen: deque[str] = deque(maxlen=1_000)


class WorkerGuard:
    """Pickled with a chain; where it is unpickled, the process is looked at.

    Parameters
    ----------
    marks
        Result stores, and the name of what the client wrote into each.
    """

    def __init__(self, marks: Sequence[tuple[Any, str]]) -> None:
        self.marks = tuple(marks)

    def __reduce__(self) -> tuple[Any, ...]:
        return _admit, (tuple(sys.version_info[:2]), self.marks)


def leave_probe_here(store: Any, run_id: str, mark: str | None) -> str:
    """Write a small file, on a worker, for the client to look at; its own mark need not be looked for here any more."""
    place = leave_probe(store, run_id)
    if mark is not None:
        _seen.append(mark)
    return place


def _admit(python: tuple[int, int], marks: Sequence[tuple[Any, str]]) -> None:
    """Raise `OtherModules` on a worker that does not fit, which it leaves."""
    text = _complaint(python, marks)
    if text is None:
        lifetimes.announce_end()
        open_note(get_worker().address)
        spilling.tell_of(get_worker())
        recall.is_dropped = _is_dropped
        return
    worker = get_worker()
    if not getattr(worker, "prefectish_sent_away", False):
        worker.prefectish_sent_away = True
        worker.log_event(TOPIC, {"worker": worker.address, "text": text})
        worker.loop.add_callback(worker.close_gracefully, restart=False, reason="prefectish-does-not-fit")
    raise OtherModules(text)


def _is_dropped() -> bool:
    """Whether Dask has cancelled the task that this thread runs: it cannot end it."""
    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state == "cancelled"


def _complaint(python: tuple[int, int], marks: Sequence[tuple[Any, str]]) -> str | None:
    """Return why this process does not fit; None if it does."""
    here = tuple(sys.version_info[:2])
    if here != python:
        return f"Python is {'.'.join(map(str, here))} there and {'.'.join(map(str, python))} at the client"
    for store, mark in marks:
        if not _sees(store, mark):
            return f"{store!r} is not shared: what the client wrote there is not to be found"
    return None


def _sees(store: Any, mark: str) -> bool:
    for look in range(_LOOKS):
        if mark in _seen:
            return True
        if isinstance(capture(store.read, mark), Value):
            _seen.append(mark)
            return True
        if look < _LOOKS - 1:
            time.sleep(_PAUSE)
    return False
