"""`prefect.utilities.logging`."""

from __future__ import annotations

import logging

from prefectish.engine import context


def get_logger(name: str | None = None) -> logging.Logger:
    """Return the logger of the package, or one below it."""
    return context.get_logger(name)
