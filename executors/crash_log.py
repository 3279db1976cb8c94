"""What a worker process leaves behind for whoever finds it dead: its last log lines, and where a crash was.

A preload module of Dask: with the setting ``prefectish.last-words`` a worker writes warnings, and the stacks that
Python prints when it is killed by a fault of its own (a segmentation fault, an abort), into a file of that folder.
Temporary clusters are started so; for workers of your own::

    DASK_PREFECTISH__LAST_WORDS=/tmp/words dask worker tcp://... --preload prefectish.executors.crash_log
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

#: Setting of Dask that names the folder.
SETTING = "prefectish.last-words"
#: Bytes of log lines that a process keeps, twice.
MOST = 64_000
#: Lines that are told of a dead process, and the longest of them, in characters.
LINES = 20
LONGEST = 300


def keep(folder: str) -> None:
    """Have this process write its last words."""
    import faulthandler
    import logging
    from logging.handlers import RotatingFileHandler

    handler = RotatingFileHandler(_log(folder, os.getpid()), maxBytes=MOST, backupCount=1)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    for name in ("", "distributed"):  # the latter does not hand on what it logs
        logging.getLogger(name).addHandler(handler)
    if not faulthandler.is_enabled():  # else somebody wants to see it elsewhere
        faulthandler.enable(open(_crash(folder, os.getpid()), "w"), all_threads=False)  # noqa: SIM115  until the end


def find(folder: str, pid: int) -> list[str]:
    """Return the last lines that a process logged, and after them where it crashed, innermost call first."""
    logged, crash = _lines(_log(folder, pid)), _lines(_crash(folder, pid))
    return logged[-LINES:] + [line for line in crash if not line.startswith("Extension modules")][:LINES]


def _lines(path: str) -> list[str]:
    try:
        with open(path, errors="replace") as file:
            return [line.rstrip()[:LONGEST] for line in file if line.strip()]
    except OSError:
        return []


def _log(folder: str, pid: int) -> str:
    return os.path.join(folder, f"{pid}.log")


def _crash(folder: str, pid: int) -> str:
    return os.path.join(folder, f"{pid}.crash")


def dask_setup(worker: Any) -> None:
    """Begin, as Dask starts a worker; a folder that cannot be written is no reason not to work."""
    import dask

    folder = dask.config.get(SETTING, None)
    if folder is not None:
        with suppress(OSError):
            keep(folder)
