"""The log of bodies at the client: captured while a run is active, and replayed to the handlers of this process.

Records that bodies log in another process travel with the record of their attempt (:class:`AttemptLog`) and are
replayed here. Levels are those of this process; the levels of its loggers travel with the context of the run
(:class:`~prefectish.engine.worker.logs.capture.LogSettings`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from prefectish import config
from prefectish.engine.context import get_logger, logger_name
from prefectish.engine.jobs.log_lines import LogLine
from prefectish.engine.worker.logs import digest
from prefectish.engine.worker.logs.capture import LogSettings, add_handler, handler, lock, safely
from prefectish.next_command import NextCommand
from prefectish.process_tree import process_id

#: Runs of this process that are active, and whether the level of the top logger was lowered for them.
_users = 0
_lowered = False


class AttemptLog(NamedTuple):
    """What one attempt logged, for the handlers and the history.

    Attributes
    ----------
    step, slug
        Number and name of the task in the plan.
    name
        Of the task, as loggers have it.
    label
        What the task is called in the line.
    row
        Position of the child.
    map_index
        None for a single task.
    attempt
        Its number, from 1.
    worker
        Process that ran it, None for this one.
    run_name
        What the run of the task is called, None without a ``task_run_name``.
    """

    step: int
    slug: str
    name: str
    label: str
    row: int
    map_index: int | None
    attempt: int
    worker: str | None
    run_name: str | None
    lines: tuple[LogLine, ...]


def log_settings(kept: bool, extra: Sequence[str] = ()) -> LogSettings:
    """Return the log settings of a run whose client is this process."""
    top = get_logger()
    levels = {top.name: top.getEffectiveLevel()}
    for name, known in logging.root.manager.loggerDict.copy().items():
        ours = name.startswith(("prefectish.", f"{top.name}.")) or name in extra
        if ours and isinstance(known, logging.Logger) and known.level:
            levels[name] = known.level
    for name in extra:
        levels.setdefault(name, logging.getLogger(name).getEffectiveLevel())
    return LogSettings(process_id(), kept, levels, tuple(extra))


@contextmanager
def listening(run_id: str, commands: NextCommand | None) -> Iterator[Callable[[bool], LogSettings]]:
    """Capture the log of bodies at the client while a run is active; at its end, log what the digest left out.

    Yields a function that returns the log settings of the run, given whether a history records it. If logging is not
    configured, the level is INFO while the run is active; otherwise the levels of the user apply.

    Parameters
    ----------
    commands
        Those about the run; None if no history records it.
    """
    extra = extra_loggers()
    _begin(extra)
    try:
        yield lambda kept: log_settings(kept, extra)
    finally:
        for text in digest.summary(run_id):
            where = "" if commands is None else f"; `{commands.command('logs', run_id)}` shows them"
            safely(get_logger("engine").warning, "%s%s", text, where)
        _end(extra)


def _begin(extra: Sequence[str]) -> None:
    global _users, _lowered
    top = get_logger()
    with lock:
        _users += 1
        if not (top.level or top.handlers or logging.root.handlers) and top.getEffectiveLevel() > logging.INFO:
            _lowered = True
            top.setLevel(logging.INFO)
        for name in (top.name, *extra):
            add_handler(name)


def _end(extra: Sequence[str]) -> None:
    global _users, _lowered
    top = get_logger()
    with lock:
        _users -= 1
        if _users:
            return
        for name in (top.name, *extra):
            logging.getLogger(name).removeHandler(handler)
        if _lowered and top.level == logging.INFO:
            top.setLevel(logging.NOTSET)
        _lowered = False


def extra_loggers() -> tuple[str, ...]:
    """Return the names of further loggers to capture: ``PREFECTISH_EXTRA_LOGGERS``, separated by commas."""
    names = config.setting("extra_loggers") or config.program_defaults.get("extra_loggers") or ()
    names = names.split(",") if isinstance(names, str) else names
    return tuple(name.strip() for name in map(str, names) if name.strip())


def replay_log_records(log: AttemptLog, run_id: str) -> None:
    """Pass what a body logged in another process to the handlers of this one, as far as its levels allow."""
    for line in log.lines:
        record = logging.makeLogRecord(
            {
                "name": line.logger or logger_name(log.name, log.map_index),
                "levelno": line.level,
                "levelname": logging.getLevelName(line.level),
                "msg": line.text,
                "created": line.at,
                "msecs": (line.at % 1) * 1000,
                "exc_text": line.traceback,
                "flow_run_id": run_id,
                "task_name": log.name,
                "task_slug": log.slug,
                "task_label": log.label,
                "map_index": log.map_index,
                "task_run_name": log.run_name,
                "processName": log.worker,
            }
        )
        logger = logging.getLogger(line.logger or logger_name(log.name))
        if logger.isEnabledFor(line.level):
            safely(logger.handle, record)
