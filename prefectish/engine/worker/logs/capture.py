"""Capture what bodies log, where they run, with run, task and child.

A handler at the logger ``prefectish`` finds the attempt of a log record by a context variable. At the client of the run
the record is passed on to the handlers that the user configured, and a copy is kept for the history, if there is one.
In another process it is kept instead, travels with the record of its attempt, and is replayed at the client
(:mod:`prefectish.engine.worker.logs.relay`). Records that no attempt logged are left alone.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from prefectish.engine.capture import Error, capture
from prefectish.engine.context import current, get_logger, logger_name
from prefectish.engine.jobs.log_lines import LogLine, block, one_line
from prefectish.engine.worker.logs import digest
from prefectish.engine.worker.tracebacks import refuse_debuggers
from prefectish.errors import describe
from prefectish.process_tree import process_id

if TYPE_CHECKING:
    from prefectish.engine.worker.attempt_context import AttemptContext

#: Key of the context of a run that has its :class:`LogSettings`.
SETTINGS = "log_settings"

#: Attribute of a record whose traceback is indented and escaped.
FENCED = "prefectish_fenced"


class LogSettings(NamedTuple):
    """How what a run logs is treated.

    Attributes
    ----------
    owner
        The process of the client, see :func:`~prefectish.process_tree.process_id`.
    kept
        Whether a history records what is logged.
    levels
        Levels by name: of ``prefectish``, and of each logger below it that has a level of its own.
    extra
        Names of further loggers to capture.
    """

    owner: str
    kept: bool
    levels: Mapping[str, int]
    extra: tuple[str, ...] = ()


def level_of(name: str, levels: Mapping[str, int]) -> int:
    """Return the level of the nearest logger above a name that has one.

    Examples
    --------
    >>> level_of("prefectish.load[3]", {"prefectish": 20, "prefectish.load": 10, "prefectish.lo": 50})
    10
    """
    name = name.partition("[")[0]
    while name and name not in levels:
        name = name.rpartition(".")[0]
    return levels.get(name, logging.NOTSET)


class Capturing(logging.Handler):
    """Captures log records of attempts; those that no other handler shows go to standard error, as in Python."""

    def emit(self, record: logging.LogRecord) -> None:
        """Capture a record; an error here is reported as :mod:`logging` does, and does not reach the body."""
        try:
            self._take(record)
        except Exception:
            self.handleError(record)

    def _take(self, record: logging.LogRecord) -> None:
        attempt: AttemptContext | None = getattr(current(), "attempt", None)
        settings: LogSettings | None = None if attempt is None else attempt.run.get(SETTINGS)
        if attempt is None or settings is None:
            self._show(record)
            return
        away = settings.owner != process_id()
        try:
            _mark(record, attempt)
        except Exception:  # its arguments do not fit: every handler reports that, so one is enough
            if away or not self._is_shown(record):
                raise
            return
        if away and record.levelno < level_of(record.name, settings.levels):
            return  # the level was lowered for another run with bodies in this process
        if away or settings.kept:
            attempt.log(line_of(record, attempt))
        if not away:
            self._show(record)

    def _show(self, record: logging.LogRecord) -> None:
        """Show a record that has no other handler, as Python would if this one were not installed."""
        if getattr(record, "is_shown_live", False) or self._is_shown(record):
            return
        last = logging.lastResort
        if getattr(record, "task_slug", None) is not None:
            digest.show(record)
        elif last is not None and record.levelno >= last.level:
            last.handle(record)

    def _is_shown(self, record: logging.LogRecord) -> bool:
        return digest.is_handled(record.name, but=self)


#: The handler of this process, and the lock under which it is added to loggers and their levels are set.
handler = Capturing()
lock = threading.Lock()


def add_handler(name: str) -> None:
    """Let a logger pass its records to :data:`handler`, before any other handler formats them."""
    logger = logging.getLogger(name)
    if handler not in logger.handlers:
        logger.handlers[:0] = [handler]


def listen(settings: LogSettings | None) -> None:
    """Capture the log of bodies in a process that runs them for a client, as long as the process lives."""
    if settings is None or settings.owner == process_id():
        return
    refuse_debuggers()
    with lock:
        for name in (get_logger().name, *settings.extra):
            add_handler(name)
        for name, level in settings.levels.items():
            logger = logging.getLogger(name)
            if not logger.level or logger.level > level:
                logger.setLevel(level)


def _mark(record: logging.LogRecord, attempt: AttemptContext) -> None:
    """Bind a record to its child, for the formatters of users, and make one line of its message."""
    spec = attempt.spec
    record.flow_run_id = attempt.run.get("flow_run_id")
    record.task_name = spec.name
    record.task_slug = spec.slug
    record.task_label = spec.label
    record.map_index = attempt.index if attempt.index >= 0 else None  # that of a call, too
    record.task_run_name = attempt.name
    text = record.getMessage()
    if not text.isprintable():
        record.msg, record.args = one_line(text, sys.maxsize), None
    if not record.name.isprintable():
        record.name = one_line(record.name)
    fence(record)


def fence(record: logging.LogRecord) -> None:
    """Indent and escape the traceback of a record, so that no text in it can pass for a line of the log."""
    if getattr(record, FENCED, False) or not (record.exc_text or (record.exc_info and record.exc_info[0])):
        return
    text = record.exc_text or (_formatter.formatException(record.exc_info) if record.exc_info else "")
    record.exc_text = block(text)
    setattr(record, FENCED, True)


def line_of(record: logging.LogRecord, attempt: AttemptContext) -> LogLine:
    """Return a record as a line."""
    fence(record)
    name = None if record.name == _own_name(attempt) else record.name
    return LogLine(record.created, record.levelno, name, one_line(record.getMessage()), record.exc_text)


def _own_name(attempt: AttemptContext) -> str:
    """Return the name of the logger in the context of the body."""
    spec = attempt.spec
    return one_line(logger_name(spec.name, attempt.index if spec.mapped else None))


_formatter = logging.Formatter()


def safely(log: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Log a message of the engine; a handler of the user that raises is reported and stops nothing."""
    outcome = capture(log, *args, **kwargs)
    if isinstance(outcome, Error) and logging.lastResort is not None:
        text = one_line(f"a logging handler raised {describe(outcome.exception)}; the run continues")
        logging.lastResort.handle(logging.makeLogRecord({"msg": text, "levelno": logging.ERROR}))
