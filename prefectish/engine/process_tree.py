"""The name of this process, and how one is ended together with what it started."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from importlib import import_module
from typing import Any

_named: tuple[int, str] | None = None


def process_name() -> str:
    """Return the name of this process for records, ``host:pid``."""
    global _named
    pid = os.getpid()
    if _named is None or _named[0] != pid:
        _named = (pid, f"{os.uname().nodename if hasattr(os, 'uname') else os.environ.get('COMPUTERNAME', '')}:{pid}")
    return _named[1]


def kill_tree(pid: int) -> None:
    """Kill a process that leads a process group, its group, and its descendants that left the group.

    Parameters
    ----------
    pid
        It may have ended; then the rest of its group is killed.
    """
    # The descendants first: it may be this very process that ends itself.
    for process in _descendants(pid):
        with suppress(Exception):  # it ended by itself, or belongs to somebody else
            process.kill()
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    else:
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)  # on Windows it ends the process at once


def _descendants(pid: int) -> list[Any]:
    psutil = import_module("psutil")  # late: it takes a while, and few processes have to be ended
    try:
        found: list[Any] = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return found
