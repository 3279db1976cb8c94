"""What `prefectish gc` may delete from a result store: files that a store of ours wrote, and nothing else."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from prefectish import config, history
from prefectish.errors import ParameterError
from prefectish.history.needed_results import needed
from prefectish.results.envelope import MAGIC
from prefectish.results.names import UNFINISHED_SUFFIX, checked

DAY_SECONDS = 86400.0
#: Age in seconds after which a temporary file counts as abandoned by its writer.
STALE_AFTER = DAY_SECONDS
LEFTOVER_REASON = "leftover temporary file"
#: Names under which stores write a file before they rename it.
_UNFINISHED = re.compile(r"\.[0-9a-f]{16}" + re.escape(UNFINISHED_SUFFIX))


class Garbage(NamedTuple):
    """Something that can be deleted."""

    name: str
    nbytes: int
    reason: str
    remove: Callable[[], None]


def find_garbage(store: str | None, days: float, recorded: str | None) -> Iterator[Garbage]:
    """Yield what can be deleted: results of runs that succeeded so many days ago, and stale temporary files.

    Only files that a store wrote count, which is seen by their beginning, and temporary files by their names, too.
    Results that an unsuccessful run would read again are kept, even if another run made them, and so are results of
    runs that the history `recorded` does not know. Raises ValueError if a run has a name that leads out of the store.
    """
    if not days >= 0:
        raise ParameterError(f"--older-than must be a number of days, got {days}")
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
        files = [path for path in _files(folder) if _is_ours(_beginning(path))]
        if files:
            nbytes = sum(path.stat().st_size for path in files)
            yield Garbage(str(folder), nbytes, reason, partial(_remove, folder, files))
    for path in _files(root):
        if (
            _UNFINISHED.fullmatch(path.name)
            and now - path.stat().st_mtime > STALE_AFTER
            and _is_ours(_beginning(path), whole=False)
        ):
            yield Garbage(str(path), path.stat().st_size, LEFTOVER_REASON, partial(path.unlink, missing_ok=True))


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders; links are left alone."""
    if folder.is_symlink():
        return
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            if path.is_file() and not path.is_symlink():
                yield path


def _beginning(path: Path) -> bytes:
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(MAGIC))
    return b"unreadable"


def _is_ours(beginning: bytes, whole: bool = True) -> bool:
    """Whether a store wrote a file that begins like this; one that is not `whole` may end within its header."""
    return beginning == MAGIC if whole else bool(beginning) and MAGIC.startswith(beginning)


def _remove(folder: Path, files: Sequence[Path]) -> None:
    for path in files:
        path.unlink(missing_ok=True)
    for place, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # it is not empty
            os.rmdir(place)


def _in_url(place: str, done: Mapping[str, str], now: float) -> Iterator[Garbage]:
    from fsspec.core import url_to_fs

    system, root = url_to_fs(place)
    system.invalidate_cache()
    for name, reason in done.items():
        found = system.find(f"{root.rstrip('/')}/{name}", detail=True)
        files = [path for path, start in _beginnings(system, list(found)) if _is_ours(start)]
        if files:
            nbytes = sum(int(found[path].get("size") or 0) for path in files)
            yield Garbage(f"{root.rstrip('/')}/{name}", nbytes, reason, partial(_remove_in, system, files, name))
    found = system.find(root, detail=True) if system.exists(root) else {}
    stale = [
        path
        for path, facts in found.items()
        if _UNFINISHED.fullmatch(path.rpartition("/")[2]) and now - _modified_at(facts, now) > STALE_AFTER
    ]
    for path, start in _beginnings(system, stale):
        if _is_ours(start, whole=False):
            yield Garbage(path, int(found[path].get("size") or 0), LEFTOVER_REASON, partial(system.rm_file, path))


def _remove_in(system: Any, files: list[str], name: str) -> None:
    """Delete files, and the folders of a run that are empty then, where a file system has folders."""
    system.rm(files)
    parents = {path.rsplit("/", n)[0] for path in files for n in range(1, path.count("/"))}
    for folder in sorted(parents, key=len, reverse=True):
        if f"/{name}/" in f"{folder}/":
            with suppress(OSError):
                system.rmdir(folder)


def _beginnings(system: Any, paths: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield files with what they begin with, read at once where the file system can do that."""
    if paths:
        read = system.cat_ranges(paths, [0] * len(paths), [len(MAGIC)] * len(paths), on_error="return")
        yield from ((path, start) for path, start in zip(paths, read, strict=True) if isinstance(start, bytes))


def _modified_at(facts: Mapping[str, Any], now: float) -> float:
    """Return when a file was written; now, if its file system does not record it."""
    found = next((facts[name] for name in ("mtime", "LastModified", "updated", "created") if facts.get(name)), now)
    return found.timestamp() if isinstance(found, datetime) else float(found)
