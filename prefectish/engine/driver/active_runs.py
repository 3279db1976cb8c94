"""The runs that this process drives: what a state handler can find out about the run that it is called in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefectish.engine.scheduling.events import Recorder


class ActiveRun:
    """A run that this process drives."""

    __slots__ = ("recorder",)

    def __init__(self) -> None:
        # What records it; None as long as, or because, nothing does. What a handler sends off is delivered later, and
        # asks then.
        self.recorder: Recorder | None = None


_active: dict[tuple[int, str], ActiveRun] = {}


def begin(run_id: str) -> ActiveRun:
    """Note that this process drives a run."""
    run = _active[os.getpid(), run_id] = ActiveRun()
    return run


def end(run_id: str) -> None:
    """Note that a run has ended."""
    _active.pop((os.getpid(), run_id), None)


def find(run_id: str | None) -> ActiveRun | None:
    """Return a run that this process drives; None for one of another process, or one that has ended."""
    return None if run_id is None else _active.get((os.getpid(), run_id))
