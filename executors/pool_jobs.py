"""Jobs and bundles in graphs of a pool, and what becomes of them there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from prefectish.engine.jobs.bundle import Bundle, BundleRecords
from prefectish.engine.jobs.job import Job, Record

if TYPE_CHECKING:
    from prefectish.executors.pool_session import Lane

#: A step that ended: its job, its position, and its record, or None if it was cancelled.
Arrival = tuple["PoolJob", int, Record | None]
Report = Callable[[Arrival], None]


class PoolJob:
    """A job in a graph.

    Attributes
    ----------
    left
        Steps that have not reported yet.
    begun
        Positions that a thread has begun; a list, because several threads may add to it at once.
    running
        Mask of the positions that a process runs, or is about to run.
    cancelled
        Steps that have not started never start.
    recalled
        Mask of the positions whose bodies never begin.
    lane
        Where it was queued; it counts there as one that the next graph waits for. None if it was not queued, or ended.
    states
        Of steps that are final, by position: those that came with the job, and those that have ended since.
    unread
        Failures for which it waits before it begins, and to which its own are added; None if they stop nothing.
    """

    __slots__ = ("begun", "cancelled", "job", "lane", "left", "recalled", "running", "states", "unread")

    def __init__(self, job: Job, lane: Lane | None = None) -> None:
        self.job = job
        self.lane = lane
        self.left = len(job.positions)
        self.cancelled = False
        self.recalled = 0
        self.begun: list[int] = []
        self.running = 0
        self.states = dict(job.given)
        self.unread = lane.unread if lane is not None and job.chain.may_stop else None

    def may_begin(self, position: int) -> bool:
        """Note in a thread that a step begins; False if it was recalled."""
        if self.unread is not None:
            self.unread.wait()
        self.begun.append(position)  # before it looks: the session notes what it recalls, and then looks what has begun
        return not self.recalled >> position & 1


def sharing(job: Job) -> int | None:
    """Return how many of these jobs share a slot, since their bodies are async; None if each has its own."""
    found: int | None = job.chain.steps[job.positions[0]].task.async_concurrency
    return found


class PoolBundle:
    """A bundle in a graph of its own.

    Attributes
    ----------
    refused
        Records of its jobs that are not run, by their number in it.
    cancelled
        None of its jobs starts any more.
    """

    __slots__ = ("_lock", "_pool_jobs", "_records", "_running", "bundle", "cancelled", "refused")

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.refused: dict[int, list[tuple[int, Record]]] = {}
        self.cancelled = False
        self._pool_jobs: list[PoolJob] | None = None
        self._running = False
        self._records: BundleRecords | None = None
        self._lock = threading.Lock()  # the thread of the graph tells of its beginning and end

    @property
    def has_pool_jobs(self) -> bool:
        """Whether something was done to one of its jobs."""
        return self._pool_jobs is not None

    @property
    def pool_jobs(self) -> list[PoolJob]:
        """Return its jobs as those of a graph, for the thread of the session."""
        with self._lock:
            if self._pool_jobs is None:
                self._pool_jobs = [PoolJob(job) for job in self.bundle.jobs]
                self._note(self._pool_jobs)
            return self._pool_jobs

    def begin(self) -> None:
        """Note that a process is about to run it."""
        self._change(True, None)

    def end(self, records: BundleRecords | None) -> None:
        """Note how it ended; None if it was not run."""
        self._change(False, records)

    def _change(self, running: bool, records: BundleRecords | None) -> None:
        with self._lock:
            self._running, self._records = running, records
            self._note(self._pool_jobs or ())

    def _note(self, pool_jobs: Sequence[PoolJob]) -> None:
        for number, pool_job in enumerate(pool_jobs):
            job = pool_job.job
            pool_job.running = sum(1 << p for p in job.positions) if self._running else 0
            for position, (_, record) in zip(job.positions, self._ended(number), strict=False):
                if record.begun:
                    pool_job.states[position] = record.state

    def _ended(self, number: int) -> Sequence[tuple[int, Record]]:
        return () if self._records is None else self._records.of(number) or ()


class EndedBundle(NamedTuple):
    """A bundle that ended: its records, or None if it was cancelled."""

    pool_bundle: PoolBundle
    records: BundleRecords | None


ReportBundle = Callable[[EndedBundle], None]


class BrokenGraph:
    """A graph whose ``get`` raised."""

    def __init__(self, pool_jobs: Sequence[PoolJob] | PoolBundle, error: BaseException) -> None:
        self.content = pool_jobs
        self.error = error

    @property
    def pool_jobs(self) -> Sequence[PoolJob]:
        """Return its jobs."""
        return self.content.pool_jobs if isinstance(self.content, PoolBundle) else self.content
