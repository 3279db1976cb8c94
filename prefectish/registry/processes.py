"""Processes by name, and whether one of this machine is known to be dead."""

from __future__ import annotations

import psutil

from prefectish.engine.process_tree import process_name


def own_name() -> str:
    """Return ``host:pid:start`` of this process, which no other process ever has."""
    return f"{process_name()}:{psutil.Process().create_time():.2f}"


def is_known_dead(name: str | None) -> bool:
    """Whether a process is certainly gone; False for one of another machine, of which nothing is known here."""
    if name is None:
        return False
    place, _, started = name.rpartition(":")
    host, _, pid = place.rpartition(":")
    if host != process_name().rpartition(":")[0]:
        return False
    try:
        process = psutil.Process(int(pid))
        return f"{process.create_time():.2f}" != started or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except (psutil.AccessDenied, ValueError):
        return False
