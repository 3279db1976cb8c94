"""Options of tasks that hold around a call, or around a run, set with the tool of an executor: ``dask.annotate``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from prefectish.engine.context import get_logger

if TYPE_CHECKING:
    from prefectish.tasks.task import Task


def options_here() -> Mapping[str, Any]:
    """Return the options of tasks that are set around this call: resources, workers, priority and retries."""
    return _reader()() if "dask" in sys.modules else {}  # without Dask there are none


@cache
def _reader() -> Callable[[], Mapping[str, Any]]:
    """Return what reads them, which is beside the executors: only these know Dask."""
    read: Callable[[], Mapping[str, Any]] = import_module("prefectish.executors.annotations").task_options
    return read


def options_around(task: Task, given: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the options of a call of a task: those set around it, then those `given` with it.

    Resources by name are added to those of the task.
    """
    around = options_here()
    return given if not around else {**annotated(task, around), **(given or {})}


def annotated(task: Task, around: Mapping[str, Any]) -> dict[str, Any]:
    """Return options that are set around a task as those of the task."""
    own = task.resources
    if "resources" in around and isinstance(own, Mapping):
        return {**around, "resources": {**own, **around["resources"]}}
    return dict(around)


def log_annotations(around: Mapping[str, Any]) -> None:
    """Log what is set around a run."""
    shown = ", ".join(f"{name}={value!r}" for name, value in around.items())
    get_logger("engine").info("annotations around the run hold for all tasks: %s", shown)
