"""End a process together with what it started."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from importlib import import_module
from typing import Any


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
