"""What a child costs where it runs: time of the processor, and memory. Measured only for runs that are recorded.

To measure takes some microseconds, so it is left out where children take less than a hundred times as long.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from time import thread_time

from prefectish.engine.jobs.envelope import Encoded, weight
from prefectish.engine.jobs.job import Cost
from prefectish.engine.state import State
from prefectish.kinds import is_a

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: Key of the context of a run whose children are measured.
MEASURES = "measures_cost"
#: Children of a task are measured if those before took this long, in seconds; one that took long counts for a while.
WORTHWHILE, FADES = 0.001, 0.8
#: Unit of the peak memory of a process as the system reports it, in bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024


def begin() -> tuple[float, int]:
    """Return what was used before a body, for :func:`spent`."""
    return thread_time(), _peak()


def spent(before: tuple[float, int], upstream: Iterable[State] = ()) -> Cost:
    """Return what was used since, and the size of the inputs."""
    seconds, peak = thread_time() - before[0], _peak() - before[1]
    return seconds, peak, sum(map(_size, upstream))


def _size(state: State) -> int:
    """Return the size of an input in bytes, as far as it says it: texts, arrays, and what came from elsewhere."""
    value = state._raw_result
    if is_a(value, (Encoded, str)):
        return weight(value)
    try:
        return memoryview(value).nbytes
    except TypeError:
        return 0


def _peak() -> int:
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
