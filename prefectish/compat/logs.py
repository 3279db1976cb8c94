"""`prefect.utilities.logging`, and the logger `prefect`, whose handlers get what the engine logs."""

from __future__ import annotations

import logging

from prefectish.engine import context


def get_logger(name: str | None = None) -> logging.Logger:
    """Return the logger of the package, or one below it."""
    return context.get_logger(name)


def join_loggers() -> None:
    """Put the logger of the package below `prefect`: handlers and levels that a program has set there hold for it."""
    context.get_logger().parent = logging.getLogger("prefect")


#: The logger of the package.
prefect_logger = get_logger()
