"""The crash log of a worker process: its last log lines, and where it crashed, for a report of its death.

A preload module of Dask: with the setting ``prefectish.last-words`` a worker writes warnings, and the stacks that
Python prints when it is killed by a fault of its own (a segmentation fault, an abort), to a file in that folder.
Temporary clusters are started so; to start other workers so::

    DASK_PREFECTISH__LAST_WORDS=/tmp/words dask worker tcp://... --preload prefectish.executors.crash_log
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

#: Setting of Dask that names the folder.
SETTING = "prefectish.last-words"
#: Bytes of log lines that a process keeps, twice.
_MAX_LOG_BYTES = 64_000
#: Lines that are reported of a dead process, and the longest of them, in characters.
MAX_LINES = 20
_MAX_LINE_LENGTH = 300


def start(folder: str) -> None:
    """Start the crash log of this process."""
    import faulthandler
    import logging
    from logging.handlers import RotatingFileHandler

    handler = RotatingFileHandler(_log_path(folder, os.getpid()), maxBytes=_MAX_LOG_BYTES, backupCount=1)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    for name in ("", "distributed"):  # the logger of distributed does not propagate
        logging.getLogger(name).addHandler(handler)
    if not faulthandler.is_enabled():  # else it is sent elsewhere already
        faulthandler.enable(open(_crash_path(folder, os.getpid()), "w"), all_threads=False)  # noqa: SIM115  until the end


def read(folder: str, pid: int) -> list[str]:
    """Return the last lines that a process logged, followed by where it crashed, innermost call first."""
    logged, crash = _lines(_log_path(folder, pid)), _lines(_crash_path(folder, pid))
    return logged[-MAX_LINES:] + [line for line in crash if not line.startswith("Extension modules")][:MAX_LINES]


def _lines(path: str) -> list[str]:
    try:
        with open(path, errors="replace") as file:
            return [line.rstrip()[:_MAX_LINE_LENGTH] for line in file if line.strip()]
    except OSError:
        return []


def _log_path(folder: str, pid: int) -> str:
    return os.path.join(folder, f"{pid}.log")


def _crash_path(folder: str, pid: int) -> str:
    return os.path.join(folder, f"{pid}.crash")


def dask_setup(worker: Any) -> None:
    """Start the crash log when Dask starts a worker. A folder that cannot be written must not stop the worker."""
    import dask

    folder = dask.config.get(SETTING, None)
    if folder is not None:
        with suppress(OSError):
            start(folder)
