"""`prefect.utilities.logging`, and the logger `prefect`, whose handlers get what the engine logs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefectish import config as settings
from prefectish.compat.configuration import config
from prefectish.engine import context


def get_logger(name: str | None = None) -> logging.Logger:
    """Return the logger `prefect`, or one below it."""
    return logging.getLogger(f"prefect.{name}" if name else "prefect")


def configure_logging(testing: bool = False) -> logging.Logger:
    """Return the logger `prefect`, at the level of the settings; for a test another one, which says everything."""
    logger = logging.getLogger("prefect-test-logger" if testing else "prefect")
    logger.setLevel("DEBUG" if testing else config.logging.level)
    return logger


def create_diagnostic_logger(name: str) -> logging.Logger:
    """Return a logger of a program that stands beside the runs, such as an agent, which writes to standard error."""
    logger = logging.getLogger(name)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(config.logging.format, config.logging.datefmt))
        logger.addHandler(handler)
    logger.setLevel(config.logging.level)
    return logger


@contextmanager
def temporary_logger_config(
    level: int | str | None = None, stream_fmt: str | None = None, stream_datefmt: str | None = None
) -> Iterator[None]:
    """Change the logger in a `with` block: its level, and the format of the handlers that it has."""
    before = prefect_logger.level, [(handler, handler.formatter) for handler in prefect_logger.handlers]
    prefect_logger.setLevel(before[0] if level is None else level)
    for handler, _ in before[1] if stream_fmt or stream_datefmt else ():
        handler.setFormatter(logging.Formatter(stream_fmt, stream_datefmt))
    try:
        yield
    finally:
        prefect_logger.setLevel(before[0])
        for handler, formatter in before[1]:
            handler.setFormatter(formatter)


class RedirectToLog:
    """A stream whose lines are logged.

    Parameters
    ----------
    logger
        Default: the logger of the task whose body this is.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self.logger = logger or context.get_run_logger()

    def write(self, s: Any) -> None:
        """Log a text that is not blank."""
        if not isinstance(s, str):
            raise TypeError(f"string argument expected, got {type(s).__name__}")
        if s.strip():
            self.logger.info(s)

    def flush(self) -> None:
        """Write what the process has printed."""
        sys.stdout.flush()


def join_loggers() -> None:
    """Let the logger of the package be `prefect`: handlers and levels that a program has set there hold for all.

    Loggers that the settings name besides are captured in runs, too.
    """
    logging.getLogger("prefectish").parent = prefect_logger  # of what was imported before
    context.name_root_logger(prefect_logger.name)
    settings.program_defaults.setdefault("extra_loggers", config.logging.extra_loggers)
    for logger in (prefect_logger, *map(logging.getLogger, config.logging.extra_loggers)):
        if not logger.level:
            logger.setLevel(config.logging.level)


#: The logger of the package.
prefect_logger = get_logger()
