"""A batch that dies with its worker is given up at its first death, so that it can be split.

Dask runs a key again until so many workers have died of it as the setting ``allowed-failures`` of the scheduler says.
For a batch that would mean that its innocent rows run as often. The keys of batches, and those of the rows of one that
was lost, carry an annotation; a plugin of the scheduler has them begin with all deaths but one.
"""

from __future__ import annotations

from typing import Any

from distributed import SchedulerPlugin

#: Annotation of the keys that are given up at the first death of their worker.
ANNOTATION = "prefectish-first-death"


class FirstDeath(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """Counts the deaths of annotated keys from all but one that are allowed."""

    name = ANNOTATION
    idempotent = True

    def update_graph(self, scheduler: Any, *, annotations: Any, **about: Any) -> None:
        """Look at the annotations of a graph before any of its keys runs."""
        for key in annotations.get(ANNOTATION, ()):
            task = scheduler.tasks.get(key)
            if task is not None:
                task.suspicious = max(task.suspicious, scheduler.allowed_failures)
