"""Pausing from inside a body."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from prefectish.engine import clock as clocks
from prefectish.engine.context import context
from prefectish.engine.signals import PAUSE


def pause_task(message: Any = None, duration: float | timedelta | None = None) -> None:
    """Put the task off until it is resumed; its body is then called again from the start, and passes this line.

    Parameters
    ----------
    message
        The message of the Paused state.
    duration
        Seconds, at least 0, or a timedelta, after which the task goes on by itself. None: the run ends without it, and
        a later one goes on from `task_states` in which the task is `Resume`.

    Raises
    ------
    PAUSE
        Unless the context has a true `resume`.
    ValueError
        If the duration is negative.

    Examples
    --------
    >>> with context(resume=True):
    ...     pause_task("shall I?")
    """
    if context.get("resume"):
        return
    text = "pause_task was called" if message is None else message
    raise PAUSE(text) if duration is None else PAUSE(text, start_time=_after(duration))


def _after(duration: float | timedelta) -> datetime:
    wait = duration if isinstance(duration, timedelta) else timedelta(seconds=duration)
    if wait < timedelta(0):
        raise ValueError(f"pause_task: duration={duration!r} is negative")
    return clocks.later(clocks.now(), wait.total_seconds())
