"""When a map gives up: failures of its children against what the task allows."""

from __future__ import annotations

from prefectish.engine.state import Cancelled
from prefectish.tasks.task import Task

#: The state of a child that was never started because its map, or its run, was stopped.
NEVER_STARTED = Cancelled("never started")


def action_after(task: Task, failures: int, width: int | None) -> str | None:
    """Say whether a map goes on after so many children failed.

    Parameters
    ----------
    failures
        Children that failed so far, at least 1.
    width
        Children of the map, None while it is not known; a ratio is judged once it is.

    Returns
    -------
    None to go on, "stop" to open no new branch, "cancel" to drop the running ones too.

    Notes
    -----
    ``on_child_failure`` "stop" and "cancel" act on the first failure, or on the first beyond ``max_failures``. With
    "continue", the default, ``max_failures`` alone stops the map.
    """
    action: str = task.on_child_failure
    limit = task.max_failures
    if limit is None:
        return None if action == "continue" else action
    if limit < 1:
        if width is None:
            return None
        limit = limit * width
    if failures <= limit:
        return None
    return "stop" if action == "continue" else action
