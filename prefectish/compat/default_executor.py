"""The executor of flows that have none, as the settings name it."""

from __future__ import annotations

import warnings
from typing import Any

from prefectish.compat.configuration import config
from prefectish.compat.task_helpers import import_object


def get_default_executor_class() -> type[Any]:
    """Return the class that the settings name; with a warning the local one, if that cannot be imported."""
    name = config.engine.executor.default_class
    try:
        found: type[Any] = import_object(name)
    except Exception as error:  # a module of the user's
        warnings.warn(f"Could not import {name!r} ({error}); using prefect.executors.LocalExecutor", stacklevel=2)
        found = import_object("prefect.executors.LocalExecutor")
    return found
