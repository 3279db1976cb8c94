"""Whether the client of a run is still alive."""

from __future__ import annotations

import psutil

from prefectish.engine.process_tree import process_name

#: Seconds without a heartbeat after which a client on another machine counts as dead.
STALE_AFTER = 60.0
#: Tolerance in seconds of the start time of a process.
START_TOLERANCE = 2.0


def is_alive(holder: str, heartbeat: float, now: float) -> bool:
    """Whether a process, ``host:pid``, is still the client of a run with its last heartbeat at `heartbeat`.

    On this machine the process is looked up; a process that started after the heartbeat has only reused the pid. On
    another machine only heartbeats are known.
    """
    host, _, pid = holder.rpartition(":")
    own = process_name()
    if holder == own or host != own.rpartition(":")[0]:
        return now - heartbeat < STALE_AFTER
    try:
        process = psutil.Process(int(pid))
        return bool(process.create_time() <= heartbeat + START_TOLERANCE and process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.NoSuchProcess, ValueError):
        return False
    except psutil.AccessDenied:  # a process of another user, so it exists
        return True
