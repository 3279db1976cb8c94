"""Which keys a worker was running when it died: from its own note, which the kernel kept.

The scheduler reads it if it is on the same machine; else the worker's nanny does.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Mapping
from typing import Any

from prefectish.engine.capture import Value, capture
from prefectish.engine.worker.running import UNKNOWN, Body, bodies_in, number_of, read

#: Seconds that a nanny has for an answer.
_PATIENCE = 5.0


def note_here(worker: Any) -> bytes | None:
    """Return the note of a worker that has left, if it was on this machine."""
    return read(worker.pid, worker.address) if worker.pid else None


async def note_at_nanny(scheduler: Any, worker: Any) -> bytes | None:
    """Return the note of a worker that has left, as its nanny reads it; None if that cannot be known."""
    from distributed.protocol import deserialize

    if not (worker.nanny and worker.pid):
        return None
    asking = scheduler.rpc(worker.nanny).run(
        function=pickle.dumps(read), args=pickle.dumps((worker.pid, worker.address)), kwargs=b""
    )
    try:
        answer = await asyncio.wait_for(asking, _PATIENCE)
    except (OSError, TimeoutError):  # it ended with its worker
        return None
    outcome = capture(lambda: deserialize(answer["result"].header, answer["result"].frames))
    return outcome.value if isinstance(outcome, Value) and isinstance(outcome.value, bytes) else None


def keys_in(note: bytes, runs: Mapping[Any, str]) -> set[Any]:
    """Return those keys whose bodies are in a note.

    Parameters
    ----------
    runs
        The name of the run of each key.

    Examples
    --------
    >>> from prefectish.engine.worker.running import _SLOT
    >>> note = _SLOT.pack(1, number_of("load-1"), 17, 0)
    >>> keys_in(note, dict.fromkeys([("load-1-abc", 17, 0), ("load-1-abc", 18, 0), ("save-2-abc", 17, 0)], "abc"))
    {('load-1-abc', 17, 0)}
    """
    bodies = bodies_in(note)
    rows = {(index, submission) for slug, index, submission in bodies if slug == UNKNOWN}
    return {
        key
        for key, run in runs.items()
        if key[1:] in rows or Body(number_of(key[0].removesuffix(f"-{run}")), *key[1:]) in bodies
    }
