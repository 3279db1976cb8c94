"""What a child costs where it runs: time of the processor, and memory. Measured only for runs that are recorded.

To measure takes some microseconds, so it is left out where children take less than a hundred times as long.
"""

from __future__ import annotations

import sys
from time import thread_time

from prefectish.engine.jobs.job import Cost

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: Key of the context of a run whose children are measured.
MEASURES = "measures_cost"
#: Children of a task are measured if those before took this long, in seconds; one that took long counts for a while.
WORTHWHILE, FADES = 0.001, 0.8
#: Unit of the peak memory of a process as the system tells it, in bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024


def begin() -> Cost:
    """Return what was used before a body, for :func:`spent`."""
    return thread_time(), _peak()


def spent(before: Cost) -> Cost:
    """Return what was used since."""
    return thread_time() - before[0], _peak() - before[1]


def _peak() -> int:
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
