"""The session that runs one job at a time in this thread, and the executor that uses it without Dask."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from prefectish.engine.context import get_logger
from prefectish.engine.driver.executor_options import check_seconds
from prefectish.engine.jobs.job import Job, Receipt, Record, taken_back
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.steps import Plan
from prefectish.engine.state import Success
from prefectish.engine.worker.run_steps import run_job
from prefectish.engine.worker.tracebacks import debuggable
from prefectish.validation import unknown_argument


class StallWatch:
    """Warns, from a thread of its own, of a body that holds up the thread of the run.

    Parameters
    ----------
    seconds
        How long a job may take; None for no warning.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.job: Job | None = None  # that runs; None for none
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch, from now on."""
        if self._thread is None and self.seconds is not None:
            self._thread = threading.Thread(
                target=self._watch, args=(self.seconds,), name="prefectish-watch", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ended.set()

    def _watch(self, seconds: float) -> None:
        seen: Job | None = None
        since, warned = 0.0, False
        while not self._ended.wait(min(1.0, seconds / 4)):
            job = self.job
            if job is not seen:
                seen, since, warned = job, time.monotonic(), False
            quiet = time.monotonic() - since
            if job is None or warned or quiet < seconds:
                continue
            warned = True
            labels = ", ".join(job.chain.steps[p].label_of(job.index) for p in job.positions)
            text = "nothing has ended for %.0f s; what runs is %s. One that never ends needs a timeout"
            get_logger("engine").warning(text, quiet, labels)


#: Jobs are run one after another for so long, in seconds, before their receipts are returned.
PAGE_SECONDS = 0.001


class SerialSession:
    """Runs one job at a time, in this thread: a debugger stops in the body, and branches are run depth first.

    Of jobs that take no time several are run before the receipts are returned, up to the first that does not simply
    succeed: each turn of the loop costs as much as such a job.

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
    bundles = False
    in_order = True
    follows = False

    def __init__(
        self, run: Callable[[Job], Sequence[tuple[int, Record]]] = run_job, stall_warning: float | None = None
    ) -> None:
        self._run = run
        self.watch = StallWatch(stall_warning)
        self._queue: deque[Job] = deque()
        self._is_woken = False
        self._raised: BaseException | None = None  # while other jobs had receipts

    def submit(self, jobs: Sequence[Any]) -> None:
        """Put jobs at the end of the queue."""
        self._queue.extend(jobs)

    def receipts(self, timeout: float | None) -> Sequence[Receipt]:
        """Run the next jobs; there is nothing to wait for, so `timeout` does not matter."""
        if self._raised is not None:
            raise self._raised
        self.watch.start()
        outer = self.watch.job  # of a generator that has yielded, and goes on once this returns
        receipts: list[Receipt] = []
        left = PAGE_SECONDS
        while self._queue and left > 0:
            job = self.watch.job = self._queue.popleft()
            try:
                records = self._run(job)
            except BaseException as error:
                if not receipts:
                    raise
                self._raised = error  # what has ended stays ended
                break
            receipts.append(Receipt(job, records))
            for _, record in records:
                left = left - record.seconds if type(record.state) is Success else 0.0
            if self._is_woken:
                break
        self.watch.job = outer
        self._is_woken = False
        return receipts

    @property
    def has_queued(self) -> bool:
        """Whether jobs wait."""
        return bool(self._queue)

    def cancel(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Forget jobs; return those in the queue."""
        cancelled = set(jobs)
        dropped = [job for job in self._queue if job in cancelled]
        self._queue = deque(job for job in self._queue if job not in cancelled)
        return dropped

    def recall(self, jobs: Sequence[Job]) -> Sequence[Receipt]:
        """Take back the jobs in the queue: nothing runs meanwhile."""
        return [taken_back(job) for job in self.cancel(jobs)]

    def wake(self) -> None:
        """Begin no further job before the loop has turned."""
        self._is_woken = True

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

    def __init__(self, stall_warning: float | None = 60, **unknown: Any) -> None:
        if "num_workers" in unknown or "n_workers" in unknown:
            raise TypeError(
                "LocalExecutor runs one task after another and has no workers; write LocalDaskExecutor(num_workers=4) "
                "for threads, or scheduler='processes' beside it"
            )
        if unknown:
            raise unknown_argument(type(self), next(iter(unknown)))
        check_seconds("stall_warning", stall_warning)
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
