"""`prefect.utilities.logging`, and the logger `prefect`, whose handlers get what the engine logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefectish.compat.configuration import config
from prefectish.engine import context


def get_logger(name: str | None = None) -> logging.Logger:
    """Return the logger `prefect`, or one below it, whose records go where those of the engine go."""
    logger = logging.getLogger(f"prefect.{name}" if name else "prefect")
    if name:
        logger.parent = context.get_logger()
    return logger


def configure_logging(testing: bool = False) -> logging.Logger:
    """Return the logger `prefect`, at the level of the settings; for a test another one, which says everything."""
    logger = logging.getLogger("prefect-test-logger" if testing else "prefect")
    logger.setLevel("DEBUG" if testing else config.logging.level)
    return logger


@contextmanager
def temporary_logger_config(level: int | str | None = None) -> Iterator[None]:
    """Change the level of the logger in a `with` block."""
    before = prefect_logger.level
    prefect_logger.setLevel(before if level is None else level)
    try:
        yield
    finally:
        prefect_logger.setLevel(before)


def join_loggers() -> None:
    """Put the logger of the package below `prefect`: handlers and levels that a program has set there hold for it."""
    context.get_logger().parent = logging.getLogger("prefect")


#: The logger of the package.
prefect_logger = get_logger()
