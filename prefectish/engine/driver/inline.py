"""The session that runs one job at a time in this thread, and the executor that uses it without Dask."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from prefectish.engine.context import get_logger
from prefectish.engine.jobs.job import Job, Receipt, Record, taken_back
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.steps import Plan
from prefectish.engine.worker.run_steps import run_job
from prefectish.engine.worker.tracebacks import debuggable


class StallWatch:
    """Warns, from a thread of its own, of a body that holds up the thread of the run.

    Parameters
    ----------
    seconds
        How long a job may take; None for no warning.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._job: Job | None = None
        self._began = 0.0
        self._told: Job | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begins(self, job: Job) -> None:
        """Note that a job begins."""
        self._began = time.monotonic()
        self._job = job
        if self._thread is None and self.seconds is not None:
            self._thread = threading.Thread(
                target=self._watch, args=(self.seconds,), name="prefectish-watch", daemon=True
            )
            self._thread.start()

    def ends(self) -> None:
        """Note that no job runs."""
        self._job = None

    def close(self) -> None:
        """End the thread."""
        self._ended.set()

    def _watch(self, seconds: float) -> None:
        while not self._ended.wait(min(1.0, seconds / 4)):
            job = self._job
            quiet = time.monotonic() - self._began
            if job is None or job is self._told or quiet < seconds:
                continue
            self._told = job
            labels = ", ".join(job.chain.steps[p].label(job.index) for p in job.positions)
            text = "nothing has ended for %.0f s; what runs is %s. One that never ends needs a timeout"
            get_logger("engine").warning(text, quiet, labels)


class SerialSession:
    """Runs one job at a time, in this thread: a debugger stops in the body, and branches are run depth first.

    Parameters
    ----------
    run
        Runs a job and returns its records by position.
    stall_warning
        Seconds after which a warning names a body that runs; None for no warning.
    """

    window = 1
    slots = 1
    live = True
    batches = True
    in_order = True
    follows = False

    def __init__(
        self, run: Callable[[Job], Sequence[tuple[int, Record]]] = run_job, stall_warning: float | None = None
    ) -> None:
        self._run = run
        self.watch = StallWatch(stall_warning)
        self._queue: deque[Job] = deque()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Put jobs at the end of the queue."""
        self._queue.extend(jobs)

    def receipts(self, timeout: float | None) -> Sequence[Receipt]:
        """Run the next job; there is nothing to wait for, so `timeout` does not matter."""
        if not self._queue:
            return ()
        job = self._queue.popleft()
        self.watch.begins(job)
        try:
            return (Receipt(job, self._run(job)),)
        finally:
            self.watch.ends()

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

    Parameters
    ----------
    stall_warning
        Seconds without a finished task after which a warning says what runs; None for no warning.

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

    def __init__(self, stall_warning: float | None = 60) -> None:
        self.stall_warning = stall_warning

    @contextmanager
    def start(self, plan: Plan, run: Mapping[str, Any]) -> Iterator[SerialSession]:
        """Open a session."""
        session = SerialSession(stall_warning=self.stall_warning)
        try:
            with debuggable():
                yield session
        finally:
            session.watch.close()

    def __repr__(self) -> str:
        return "<LocalExecutor>"
