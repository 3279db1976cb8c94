"""A look into the cache before a place under a limit is taken, near the data and without the owner's waiting for it.

A branch under a limit whose task has a cache, or a target, is first sent with :data:`LOOK` as its start. Where its body
would run, its inputs are read and its cache is asked: what is found ends it, and took no place. Otherwise it comes back
as it went, and waits for its place.
"""

from __future__ import annotations

from prefectish.engine.jobs.job import StepSpec
from prefectish.engine.state import Queued, State

#: Branches of a chain that may be looked up ahead of their places.
AHEAD = 64
_MARK = "task_looks"
#: The start of a step that only looks.
LOOK = Queued("Waits for a place; its cache is asked first.", context={_MARK: True})


def is_look(start: State) -> bool:
    """Whether a step that starts so only looks; the mark crosses processes."""
    return type(start) is Queued and _MARK in start.context


def can_look(spec: StepSpec) -> bool:
    """Whether there is something to look into."""
    return spec.caching is not None or getattr(spec.keeping, "target", None) is not None
