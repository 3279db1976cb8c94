"""The session that runs one job at a time in this thread, and the executor that uses it without Dask."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from prefectish.engine.jobs.job import Job, Receipt, Record, taken_back
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.steps import Plan
from prefectish.engine.worker.run_steps import run_job
from prefectish.engine.worker.tracebacks import debuggable


class SerialSession:
    """Runs one job at a time, in this thread: a debugger stops in the body, and branches are run depth first."""

    window = 1
    slots = 1
    live = True
    batches = True
    in_order = True
    follows = False

    def __init__(self, run: Callable[[Job], Sequence[tuple[int, Record]]] = run_job) -> None:
        self._run = run  # runs a job and returns its records by position
        self._queue: deque[Job] = deque()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Put jobs at the end of the queue."""
        self._queue.extend(jobs)

    def receipts(self, timeout: float | None) -> Sequence[Receipt]:
        """Run the next job; there is nothing to wait for, so `timeout` does not matter."""
        if not self._queue:
            return ()
        job = self._queue.popleft()
        return (Receipt(job, self._run(job)),)

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Forget jobs."""
        cancelled = set(jobs)
        self._queue = deque(job for job in self._queue if job not in cancelled)

    def recall(self, jobs: Sequence[Job]) -> Sequence[Receipt]:
        """Take back the jobs in the queue: nothing runs meanwhile."""
        recalled = set(jobs)
        receipts = [taken_back(job) for job in self._queue if job in recalled]
        self.cancel(jobs)
        return receipts

    def wake(self) -> None:
        """Do nothing: there is no wait."""

    def settle(self, held: Sequence[Held]) -> None:
        """Do nothing: results are in this process."""


class LocalExecutor:
    """Runs a flow in this process and thread, one task after another.

    A debugger stops in a body (`breakpoint()`), and to quit it ends the run, as Ctrl-C does.

    Examples
    --------
    >>> from prefectish import Flow, task
    >>> @task
    ... def double(x):
    ...     return 2 * x
    >>> with Flow("doubles") as flow:
    ...     doubled = double.map([1, 2, 3])
    >>> flow.run(executor=LocalExecutor()).result[doubled].result
    [2, 4, 6]
    """

    @contextmanager
    def start(self, plan: Plan, run: Mapping[str, Any]) -> Iterator[SerialSession]:
        """Open a session."""
        with debuggable():
            yield SerialSession()

    def __repr__(self) -> str:
        return "<LocalExecutor>"
