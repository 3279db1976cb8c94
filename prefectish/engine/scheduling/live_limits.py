"""What is asked of a run while it goes on: nothing more for now, more or fewer at once.

A run that is paused starts nothing: what runs ends, retries that are due wait, and so does what follows. Time limits go
on. A limit that is changed holds for what starts from now on; nothing that runs is ended.
"""

from __future__ import annotations

import sys

from prefectish.engine.scheduling.run_state import StepChain
from prefectish.engine.scheduling.table import RunState
from prefectish.engine.worker.cache import LOOK


class RunControls:
    """Changes how a run goes on."""

    def __init__(self, table: RunState) -> None:
        self.table = table

    def pause(self) -> None:
        """Start nothing more until the run is resumed."""
        self.table.paused = True

    def resume(self) -> None:
        """Go on where the run was paused."""
        self.table.paused = False

    def limit_task(self, slug: str, size: int | None) -> None:
        """Let at most `size` children of a task run at once; None for as many as there is room for.

        A task that travels in one job with others holds them to its limit too.
        """
        run = next(run for run in self.table.runs if run.step.slug == slug)
        chain = run.chain
        used = 0 if chain is None else places_taken(chain)
        self.table.admission.limits.change(run.step.number, _size(size), used)
        if chain is not None:
            self._now_limited(chain)

    def limit_tag(self, tag: str, size: int | None) -> None:
        """Let at most `size` children of all tasks with a tag run at once; None for as many as there is room for."""
        used: dict[int, int] = {}
        for run in self.table.runs:
            if tag in run.step.task.tags:
                used[run.step.number] = 0 if run.chain is None else places_taken(run.chain)
                if run.chain is not None:
                    self._now_limited(run.chain)
        self.table.admission.limits.change_tag(tag, _size(size), used)

    def _now_limited(self, chain: StepChain) -> None:
        chain.limited = True
        self.table.admission.queue(chain)


def _size(size: int | None) -> int:
    return sys.maxsize if size is None else size


def places_taken(chain: StepChain) -> int:
    """Return how many places the jobs of a chain would have taken under a limit; a batch takes one."""
    jobs = (job for branch in chain.branches.values() for job in branch.jobs)
    counted = (job for job in jobs if job.awaiting and not job.solo and job.starts.get(0) is not LOOK)
    return len({id(job) if job.batch is None else job.batch for job in counted})
