"""What `prefectish gc` may remove from a folder of results."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prefectish import config, history

DAY = 86400.0
#: Age of a temporary file, in seconds, from which on nobody is writing it any more.
STALE = DAY


class Garbage(NamedTuple):
    """Something that nobody needs."""

    path: Path
    nbytes: int
    reason: str

    def remove(self) -> None:
        """Remove it."""
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


def find_garbage(store: str | None, days: float, recorded: str | None) -> Iterator[Garbage]:
    """Yield what can go: results of runs that succeeded so many days ago, and stale temporary files.

    Parameters
    ----------
    store : folder of results; None for the one in the home folder.
    days : a run must have ended so long ago.
    recorded : history of the runs, as for ``history.runs``; results of runs it does not know are left alone.
    """
    root = Path(store if store is not None else os.path.join(config.home(), "results"))
    if not root.is_dir():
        return
    now = time.time()
    for run in history.runs(limit=None, store=recorded):
        folder = root / run.id
        old = run.ended is not None and now - run.ended.timestamp() >= days * DAY
        if old and run.state == "Success" and folder.is_dir():
            yield Garbage(folder, _size(folder), f"run of {run.flow_name} that succeeded")
    for path in root.rglob("*.tmp"):
        if path.is_file() and not path.is_symlink() and now - path.stat().st_mtime > STALE:
            yield Garbage(path, path.stat().st_size, "left by a writer that died")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
