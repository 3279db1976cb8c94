"""A batch that dies with its worker is given up at its first death, so that it can be split.

Dask runs a key again until so many workers have died of it as the setting ``allowed-failures`` of the scheduler says.
For a batch that would mean that its innocent rows run as often. The keys of batches, and those of the rows of one that
was lost, carry an annotation; a plugin of the scheduler has them begin with all deaths but one. That ends with a value:
if it is lost and made again, Dask's setting holds for the key as for any other. Else what reads it would be lost, too.
"""

from __future__ import annotations

from typing import Any

from distributed import SchedulerPlugin

#: Annotation of the keys that are given up at the first death of their worker.
ANNOTATION = "prefectish-first-death"
#: States of a key in which it is no longer looked after.
_ENDS = frozenset({"memory", "erred", "forgotten"})


class FirstDeath(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """Counts the deaths of annotated keys from all but one that are allowed."""

    name = ANNOTATION
    idempotent = True

    def __init__(self) -> None:
        self._tasks: dict[Any, Any] = {}  # those of the scheduler that are annotated and have no value yet

    def transition(self, key: Any, start: str, finish: str, *args: Any, **about: Any) -> None:
        """Count the deaths of a key that has a value from none."""
        if finish in _ENDS and (task := self._tasks.pop(key, None)) is not None and finish == "memory":
            task.suspicious = 0

    def update_graph(self, scheduler: Any, *, annotations: Any, **about: Any) -> None:
        """Look at the annotations of a graph before any of its keys runs."""
        for key in annotations.get(ANNOTATION, ()):
            task = scheduler.tasks.get(key)
            if task is not None:
                self._tasks[key] = task
                task.suspicious = max(task.suspicious, scheduler.allowed_failures)
