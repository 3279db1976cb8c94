"""What `prefectish gc` may delete from a result store."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from prefectish import config, history
from prefectish.history.needs import needed
from prefectish.results.names import UNFINISHED_SUFFIX, checked

DAY_SECONDS = 86400.0
#: Age in seconds after which a temporary file counts as abandoned by its writer.
STALE_AFTER = DAY_SECONDS
LEFTOVER_REASON = "leftover temporary file"


class Garbage(NamedTuple):
    """Something that can be deleted."""

    name: str
    nbytes: int
    reason: str
    remove: Callable[[], None]


def find_garbage(store: str | None, days: float, recorded: str | None) -> Iterator[Garbage]:
    """Yield what can be deleted: results of runs that succeeded so many days ago, and stale temporary files.

    Results that an unsuccessful run would read again are kept, even if another run made them, and so are results of
    runs that the history `recorded` does not know. Raises ValueError if a run has a name that leads out of the store.
    """
    place = store if store is not None else os.path.join(config.home(), "results")
    find = _in_url if "://" in place else _in_folder
    now = time.time()
    kept = needed(recorded)
    done = {
        checked(run.id).replace("/", "%2F"): f"run of {run.flow_name} that succeeded"
        for run in history.runs(limit=None, store=recorded)
        if run.state == "Success" and run.ended is not None and now - run.ended.timestamp() >= days * DAY_SECONDS
        if run.id not in kept
    }
    return find(place, done, now)


def _in_folder(place: str, done: Mapping[str, str], now: float) -> Iterator[Garbage]:
    root = Path(place)
    for name, reason in done.items():
        folder = root / name
        if folder.is_dir() and not folder.is_symlink():
            yield Garbage(str(folder), _size(folder), reason, partial(shutil.rmtree, folder))
    for path in root.rglob(f"*{UNFINISHED_SUFFIX}") if root.is_dir() else ():
        if path.is_file() and not path.is_symlink() and now - path.stat().st_mtime > STALE_AFTER:
            yield Garbage(str(path), path.stat().st_size, LEFTOVER_REASON, partial(path.unlink, missing_ok=True))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _in_url(place: str, done: Mapping[str, str], now: float) -> Iterator[Garbage]:
    from fsspec.core import url_to_fs

    system, root = url_to_fs(place)
    system.invalidate_cache()
    for name, reason in done.items():
        folder = f"{root.rstrip('/')}/{name}"
        files = system.find(folder, detail=True)
        if files:
            nbytes = sum(int(facts.get("size") or 0) for facts in files.values())
            yield Garbage(folder, nbytes, reason, partial(system.rm, folder, recursive=True))
    for path, facts in system.find(root, detail=True).items() if system.exists(root) else ():
        if path.endswith(UNFINISHED_SUFFIX) and now - _modified_at(facts, now) > STALE_AFTER:
            yield Garbage(path, int(facts.get("size") or 0), LEFTOVER_REASON, partial(system.rm_file, path))


def _modified_at(facts: Mapping[str, Any], now: float) -> float:
    """Return when a file was written; now, if its file system does not record it."""
    found = next((facts[name] for name in ("mtime", "LastModified", "updated", "created") if facts.get(name)), now)
    return found.timestamp() if isinstance(found, datetime) else float(found)
