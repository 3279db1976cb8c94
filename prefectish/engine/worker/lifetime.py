"""The end of the life of this process, and how long bodies take here: what does not fit any more runs elsewhere.

The end is known from ``SLURM_JOB_END_TIME`` (seconds since 1970), from ``PREFECTISH_WORKER_ENDS`` (the same, or a time
in ISO format), and from what the executor knows, such as ``dask worker --lifetime``.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

#: A body fits if this many times its seconds, and some more, are left.
MARGIN, MORE = 1.1, 0.5
#: A body of which nothing is known begins only if more than this part of the life of a process is left.
UNKNOWN = 0.1
#: Chains and attempts that a process remembers.
_MOST = 10_000

#: When this process began, and when its life ends, by `time.monotonic`; None for no end.
began_at: float = time.monotonic()
ends_at: float | None = None
#: Makes what is raised in the place of a body that does not fit, from the seconds needed and the seconds left.
refuse: Callable[[float, float], BaseException] | None = None

_longest: OrderedDict[Any, float] = OrderedDict()
_refused: OrderedDict[Any, None] = OrderedDict()


def end_by_environment(environ: Mapping[str, str], now: float) -> float | None:
    """Return in how many seconds a process ends by its environment; None if that does not say.

    Examples
    --------
    >>> end_by_environment({"SLURM_JOB_END_TIME": "1100", "PREFECTISH_WORKER_ENDS": "1970-01-01T00:18:00Z"}, 1000.0)
    80.0
    """
    found = []
    for name in ("SLURM_JOB_END_TIME", "PREFECTISH_WORKER_ENDS"):
        text = environ.get(name, "").strip()
        try:
            end = float(text)
        except ValueError:
            try:
                end = datetime.fromisoformat(text).timestamp()
            except ValueError:
                continue
        found.append(end - now)
    return min(found, default=None)


def set_end(seconds_by_executor: float | None, lived: float, refusal: Callable[[float, float], BaseException]) -> None:
    """Note in how many seconds this process ends, by the executor or its environment, and since when it lives."""
    global began_at, ends_at, refuse
    now = time.monotonic()
    known = (seconds_by_executor, end_by_environment(os.environ, time.time()))
    left = min((seconds for seconds in known if seconds is not None), default=None)
    began_at, ends_at, refuse = now - lived, None if left is None else now + left, refusal


def seconds_left() -> float | None:
    """Return how long this process lives; None if there is no end."""
    return None if ends_at is None else ends_at - time.monotonic()


def span() -> float | None:
    """Return how long this process lives in all; None if there is no end."""
    return None if ends_at is None else ends_at - began_at


def fits(needed: float, left: float | None) -> bool:
    """Whether a body of so many seconds fits into what is left."""
    return left is None or needed * MARGIN + MORE <= left


def check(chain: Any, attempt: Any, expected: float | None) -> None:
    """Raise what `refuse` makes if a body does not fit into the life of this process, but would into that of a new one.

    Parameters
    ----------
    chain
        Names the chain, whose bodies were measured here.
    attempt
        Names the attempt: if it comes back, there is no better place for it.
    expected
        Its seconds, as declared or measured elsewhere; None if that is not known: then some time must be left.
    """
    left = seconds_left()
    if left is None or refuse is None or attempt in _refused:
        return
    measured = _longest.get(chain)
    assert ends_at is not None
    whole = ends_at - began_at
    needed = max((seconds for seconds in (expected, measured) if seconds is not None), default=UNKNOWN * whole)
    if fits(needed, left) or not fits(needed, whole):
        return
    _keep(_refused, attempt, None)
    raise refuse(needed, left)


def note(chain: Any, seconds: float) -> None:
    """Note how long a body took; of a process without an end nothing is kept."""
    if ends_at is not None and seconds > _longest.get(chain, 0.0):
        _keep(_longest, chain, seconds)


def _keep(memory: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > _MOST:
        memory.popitem(last=False)
