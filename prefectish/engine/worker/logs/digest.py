"""A digest for the console: of a large map some lines are shown, the rest is counted. The history has everything."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter, OrderedDict

from prefectish.engine.context import get_logger, logger_name
from prefectish.engine.jobs.log_lines import one_line
from prefectish.slugs import child_label

#: Lines of one map that the console shows if logging is not configured.
LINES = 100
#: Runs whose counts a process keeps; one that only runs bodies does not see runs end.
RUNS = 64


class Counts:
    """Counts lines by run and name of the task; each process has its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, Counter[str]] = OrderedDict()

    def count(self, run_id: str, name: str) -> int:
        """Count one more of a name; return the count, from 1."""
        with self._lock:
            counts = self._runs.setdefault(run_id, Counter())
            self._runs.move_to_end(run_id)
            while len(self._runs) > RUNS:
                self._runs.popitem(last=False)
            counts[name] += 1
            return counts[name]

    def take(self, run_id: str) -> dict[str, int]:
        """Return the counts of a run by name, and forget them."""
        with self._lock:
            return dict(self._runs.pop(run_id, {}))


_lines = Counts()


def is_handled(name: str, but: logging.Handler | None = None) -> bool:
    """Whether records of a logger reach a handler of the user; `but` is none."""
    known = logging.root.manager.loggerDict.get(name.partition("[")[0])
    logger: logging.Logger | None = known if isinstance(known, logging.Logger) else get_logger()
    while logger is not None:
        if any(handler is not but for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def show(record: logging.LogRecord) -> None:
    """Write a line of a task to the error output, up to :data:`LINES` of a map."""
    slug: str | None = getattr(record, "task_slug", None)
    index: int | None = getattr(record, "map_index", None)
    run_id = str(getattr(record, "flow_run_id", None))
    if slug is not None and index is not None and record.levelno < logging.ERROR:  # noqa: SIM102  counted once
        if _lines.count(run_id, record.task_name) > LINES:  # type: ignore[attr-defined]
            return
    if sys.stderr is not None:
        print(text_of(record), file=sys.stderr, flush=True)


def text_of(record: logging.LogRecord) -> str:
    """Return a line of a body as the console shows it."""
    clock = time.strftime("%H:%M:%S", time.localtime(record.created))
    # What the engine says of a failure, without the name of the child, which stands before it here.
    said = getattr(record, "text", None) or record.getMessage()
    text = f"{clock} {record.levelname:<7} {_where(record)}: {said}"
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    return f"{text}\n{record.exc_text}" if record.exc_text else text


def _where(record: logging.LogRecord) -> str:
    """Return what logged a line: ``load[3] (eu)``, and the logger if it is another than the task's."""
    name: str = getattr(record, "task_name", "")
    index: int | None = getattr(record, "map_index", None)
    run_name: str | None = getattr(record, "task_run_name", None)
    label: str = getattr(record, "task_label", name)
    child = f"{child_label(label, index)}{'' if run_name is None else f' ({run_name})'}"
    logger = record.name.removeprefix(logger_name(""))
    return one_line(child if logger.startswith(name) else f"{child} {logger}")


def summary(run_id: str) -> list[str]:
    """Return how many lines were left out of a run that has ended, in a line for each task, and forget its counts."""
    return [
        f"{name}: {count - LINES} more lines were not shown ({count} in all)"
        for name, count in _lines.take(run_id).items()
        if count > LINES
    ]
