"""What is asked of a run while it goes on: nothing more for now, more or fewer at once.

A run that is paused starts nothing: what runs ends, retries that are due wait, and so does what follows. Time limits go
on. A limit that is changed holds for what starts from now on; nothing that runs is ended.
"""

from __future__ import annotations

import sys

from prefectish.engine.scheduling.run_state import StepChain
from prefectish.engine.scheduling.table import RunState


class RunControls:
    """Changes how a run goes on."""

    def __init__(self, run_state: RunState) -> None:
        self.run_state = run_state

    def pause(self) -> None:
        """Start nothing more until the run is resumed."""
        self.run_state.paused = True

    def resume(self) -> None:
        """Go on where the run was paused."""
        self.run_state.paused = False

    def limit_task(self, slug: str, size: int | None) -> None:
        """Let at most `size` children of a task run at once; None for as many as there is room for.

        A task that travels in one job with others holds them to its limit too.
        """
        step_state = next(step_state for step_state in self.run_state.step_states if step_state.step.slug == slug)
        chain = step_state.chain
        used = 0 if chain is None else places_taken(chain)
        self.run_state.admission.limits.change(step_state.step.number, _size(size), used)
        if chain is not None:
            self._now_limited(chain)

    def limit_tag(self, tag: str, size: int | None) -> None:
        """Let at most `size` children of all tasks with a tag run at once; None for as many as there is room for."""
        used: dict[int, int] = {}
        for step_state in self.run_state.step_states:
            if tag in step_state.step.task.tags:
                used[step_state.step.number] = 0 if step_state.chain is None else places_taken(step_state.chain)
                if step_state.chain is not None:
                    self._now_limited(step_state.chain)
        self.run_state.admission.limits.change_tag(tag, _size(size), used)

    def _now_limited(self, chain: StepChain) -> None:
        chain.limited = True
        self.run_state.admission.queue(chain)


def _size(size: int | None) -> int:
    return sys.maxsize if size is None else size


def places_taken(chain: StepChain) -> int:
    """Return how many places the jobs of a chain would have taken under a limit; a batch takes one."""
    jobs = (job for map_row in chain.open_rows.values() for job in map_row.jobs)
    counted = (job for job in jobs if job.awaiting and not (job.solo or job.probe_only))
    return len({id(job) if job.batch is None else job.batch for job in counted})
