"""A digest for the console: of a large map, some lines and some failures of each kind are shown, the rest is counted.

Each process counts by run. The history has everything.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter, OrderedDict

from prefectish.engine.worker.logs.lines import one_line

#: Failures of one cause in one map that are logged in full.
FAILURES = 10
#: Lines of one map that the console shows if logging is not configured.
LINES = 100
#: Runs whose counts a process keeps; one that only runs bodies does not see runs end.
RUNS = 64


class Counts:
    """Counts things by run and name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, Counter[tuple[str, str]]] = OrderedDict()

    def count(self, run_id: str, slug: str, kind: str) -> int:
        """Count one more of a kind; return the count, from 1."""
        with self._lock:
            counts = self._runs.setdefault(run_id, Counter())
            self._runs.move_to_end(run_id)
            while len(self._runs) > RUNS:
                self._runs.popitem(last=False)
            counts[slug, kind] += 1
            return counts[slug, kind]

    def take(self, run_id: str) -> dict[tuple[str, str], int]:
        """Return the counts of a run by slug and kind, and forget them."""
        with self._lock:
            return dict(self._runs.pop(run_id, {}))


failures = Counts()
_lines = Counts()


def show(record: logging.LogRecord) -> None:
    """Write a line of a body to the error output, up to :data:`LINES` of a map."""
    slug: str | None = getattr(record, "task_slug", None)
    index: int | None = getattr(record, "map_index", None)
    run_id = str(getattr(record, "flow_run_id", None))
    if slug is not None and index is not None and record.levelno < logging.ERROR:  # noqa: SIM102  counted once
        if _lines.count(run_id, slug, "line") > LINES:
            return
    if sys.stderr is not None:
        print(text_of(record), file=sys.stderr, flush=True)


def text_of(record: logging.LogRecord) -> str:
    """Return a line of a body as the console shows it."""
    clock = time.strftime("%H:%M:%S", time.localtime(record.created))
    where = _where(record)
    text = f"{clock} {record.levelname:<7} {where}: {record.getMessage()}"
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    return f"{text}\n{record.exc_text}" if record.exc_text else text


def _where(record: logging.LogRecord) -> str:
    """Return what logged a line: ``load[3] (eu)``, and the logger if it is another than the task's."""
    name: str = getattr(record, "task_name", "")
    index: int | None = getattr(record, "map_index", None)
    run_name: str | None = getattr(record, "task_run_name", None)
    child = f"{name}{'' if index is None else f'[{index}]'}{'' if run_name is None else f' ({run_name})'}"
    logger = record.name.removeprefix("prefectish.")
    return one_line(child if logger.startswith(name) else f"{child} {logger}")


def summary(run_id: str) -> list[str]:
    """Return what was left out of a run that has ended, in a line each, and forget its counts."""
    failed = [
        f"{slug}: {count - FAILURES} more failures by {kind} were not logged one by one ({count} in all)"
        for (slug, kind), count in failures.take(run_id).items()
        if count > FAILURES
    ]
    return failed + [
        f"{slug}: {count - LINES} more lines were not shown ({count} in all)"
        for (slug, _), count in _lines.take(run_id).items()
        if count > LINES
    ]
