"""Classes of last resort, as the settings name them."""

from __future__ import annotations

import warnings
from typing import Any

from prefectish.compat.configuration import config
from prefectish.compat.task_helpers import import_object


def get_default_executor_class() -> type[Any]:
    """Return the class of the executor of flows that have none."""
    return _named("engine.executor", "prefect.executors.LocalExecutor")


def get_default_flow_runner_class() -> type[Any]:
    """Return the class that runs flows."""
    return _named("engine.flow_runner", "prefect.engine.FlowRunner")


def get_default_task_runner_class() -> type[Any]:
    """Return the class that runs tasks."""
    return _named("engine.task_runner", "prefect.engine.TaskRunner")


def get_default_storage_class() -> type[Any]:
    """Return the class of the storage of flows that have none."""
    return _named("flows.defaults.storage", "prefect.storage.Local")


def _named(section: str, otherwise: str) -> type[Any]:
    """Return the class that a section of the settings names; with a warning another one, if it cannot be imported."""
    name = config.get_nested(f"{section}.default_class")
    try:
        found: type[Any] = import_object(name)
    except Exception as error:  # a module of the user's
        warnings.warn(f"Could not import {name!r} ({error}); using {otherwise}", stacklevel=3)
        found = import_object(otherwise)
    return found
