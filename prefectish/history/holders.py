"""Who holds a run, and whether that process is still there.

A holder is written as ``host:pid#boot.namespace.start``. A process can be looked up where its machine, since the boot,
and its namespace of process ids are those of this process; its start tells it from another one that got its number.
Elsewhere (another machine, a container beside this one) no clocks are compared: a heartbeat is alive if it moves while
this process looks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import cache

import psutil

from prefectish.process_tree import process_name

#: Seconds in which a heartbeat has to move, of a client that cannot be looked up or is stopped.
STANDSTILL = 60.0
#: Seconds between two looks at a heartbeat.
LOOK_INTERVAL = 0.5
#: Tolerance in seconds of the start time of a process, for holders that earlier releases wrote.
START_TOLERANCE = 2.0


class Life(Enum):
    """What is known of the client of a run."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


def own_holder() -> str:
    """Return this process as the holder of a run."""
    return f"{process_name()}#{_place()}.{_start_of(os.getpid())}"


def shown(holder: str) -> str:
    """Return a holder for people: ``host:pid``.

    Examples
    --------
    >>> shown("alpha:17#b1.4026.99"), shown("alpha:17")
    ('alpha:17', 'alpha:17')
    """
    return holder.partition("#")[0]


def life_of(holder: str, heartbeat: float) -> Life:
    """Return whether a process lives, as far as that can be seen from here.

    Parameters
    ----------
    holder
        As :func:`own_holder` wrote it; or ``host:pid``, by an earlier release.
    heartbeat
        The last one, of a holder of an earlier release.
    """
    name, identity, known = holder.partition("#")
    host, _, pid = name.rpartition(":")
    if identity:
        place, _, start = known.rpartition(".")
        if place != _place() or not pid.isdecimal():
            return Life.UNKNOWN
        return _looked_up(int(pid), lambda process: _start_of(process.pid) == start)
    if host != process_name().rpartition(":")[0] or not pid.isdecimal():
        return Life.UNKNOWN
    return _looked_up(int(pid), lambda process: process.create_time() <= heartbeat + START_TOLERANCE)


def is_alive(holder: str, heartbeat: float, now: float) -> bool:
    """Whether a client seems to live, for who only shows it: one that cannot be looked up, by the clocks of both."""
    life = life_of(holder, heartbeat)
    return now - heartbeat < STANDSTILL if life is Life.UNKNOWN else life is Life.ALIVE


def stands_still(beat: Callable[[], object], sleep: Callable[[float], None] = time.sleep) -> bool:
    """Whether what `beat` returns stays the same for :data:`STANDSTILL` seconds by the clock of this process."""
    first, end = beat(), time.monotonic() + STANDSTILL
    while time.monotonic() < end:
        sleep(LOOK_INTERVAL)
        if beat() != first:
            return False
    return True


def _looked_up(pid: int, is_same: Callable[[psutil.Process], bool]) -> Life:
    try:
        process = psutil.Process(pid)
        if not is_same(process) or process.status() == psutil.STATUS_ZOMBIE:
            return Life.DEAD
        return Life.UNKNOWN if process.status() == psutil.STATUS_STOPPED else Life.ALIVE
    except psutil.NoSuchProcess:
        return Life.DEAD
    except psutil.AccessDenied:  # a process of another user, so it exists
        return Life.ALIVE


@cache
def _place() -> str:
    """Return what distinguishes this machine, since it was booted, and this namespace of process ids from others."""
    boot, namespace = "", ""
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip().replace("-", "")
    with suppress(OSError, AttributeError):
        namespace = "".join(c for c in os.readlink("/proc/self/ns/pid") if c.isdigit())
    host = process_name().rpartition(":")[0].replace(".", "-")
    return f"{boot or host}.{namespace}"


def _start_of(pid: int) -> str:
    """Return when a process started, in ticks since the boot where the system says so."""
    with suppress(OSError, IndexError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[19]
    with suppress(psutil.Error):
        return f"{psutil.Process(pid).create_time():.0f}"
    return ""
