"""Whether the client that drives a run is still there."""

from __future__ import annotations

import psutil

from prefectish.engine.process_tree import process_name

#: Seconds without a sign of life after which the driver of a run on another machine counts as dead.
STALE_AFTER = 60.0
#: Seconds by which the system's record of when a process began may be off.
START_TOLERANCE = 2.0


def is_alive(holder: str, heartbeat: float, now: float) -> bool:
    """Whether a process, ``host:pid``, still drives a run whose last sign of life came at `heartbeat`.

    On this machine the process is looked for; one that began after that sign only has the number of the dead one. Of
    another machine only the signs of life are known.
    """
    host, _, pid = holder.rpartition(":")
    here = process_name()
    if holder == here or host != here.rpartition(":")[0]:
        return now - heartbeat < STALE_AFTER
    try:
        process = psutil.Process(int(pid))
        return bool(process.create_time() <= heartbeat + START_TOLERANCE and process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.NoSuchProcess, ValueError):
        return False
    except psutil.AccessDenied:  # somebody else's, so it is there
        return True
