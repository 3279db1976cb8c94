"""A session on one shared pool: Dask runs slices of the open branches, each by one ``get`` in a helper thread.

A slice is what a ``get`` of Dask's local schedulers takes: a graph that is known in advance. It is no unit of anything
else. Receipts come one by one, from a function that Dask calls after each task, and the next slice starts before the
last one is done; so a slow branch keeps its helper thread waiting, which sleeps, and nobody else.

How large a slice is follows from how quickly slices drain. Branches that take microseconds share the cost of a thread
and a ``get`` among a hundred; of branches that take a second only a few are handed over at once, and the rest can still
be overtaken by those nearer to the end of the flow.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from prefectish.engine.context import get_logger
from prefectish.engine.jobs.job import Job, Record
from prefectish.engine.jobs.protocol import LossCause, Lost, Receipt
from prefectish.engine.jobs.references import Held

#: Largest slice, in branches, whatever the number of slots, if that is not larger.
LARGEST = 128
#: A slice that drains in fewer seconds is followed by a larger one; in more than the second figure, by a smaller one.
QUICK, SLOW = 0.01, 0.05

#: Tasks that a warning names.
SHOWN = 3

#: A step that ended: its branch, its position, and its record, or None if it was given up.
Arrival = tuple["PoolJob", int, Record | None]
Report = Callable[[Arrival], None]


class PoolJob:
    """A job that was handed over.

    Attributes
    ----------
    left
        Steps that have not reported yet.
    running
        Mask of the positions that were handed to a process and have not come back.
    gone
        True once it was given up: steps that have not started never start.
    queued
        It came from the backlog, and keeps the next slice waiting.
    states
        Of steps that are final, by position: those that came with the job, and those that have ended since.
    """

    __slots__ = ("gone", "job", "left", "queued", "running", "states")

    def __init__(self, job: Job, queued: bool = False) -> None:
        self.job = job
        self.queued = queued
        self.left = len(job.positions)
        self.gone = False
        self.running = 0
        self.states = dict(job.given)


class _Broken:
    """A slice whose ``get`` raised."""

    def __init__(self, branches: Sequence[PoolJob], error: BaseException) -> None:
        self.branches = branches
        self.error = error


class Workers(Protocol):
    """Threads or processes, and Dask's scheduler for them.

    Attributes
    ----------
    slots
        Bodies that can run at once.
    batches
        Whether the jobs of a batch come together, as a slice of their own.
    live
        Whether bodies get the very objects that are here.
    """

    slots: int
    batches: bool
    live: bool

    def run(self, branches: Sequence[PoolJob], report: Report, ahead: int) -> None:
        """Run branches to their end in this thread's name and report each of their steps once.

        Parameters
        ----------
        report
            Called with each step as it ends.
        ahead
            Tasks that may wait in the pool, beside those that run.
        """

    def lost(self, branches: Sequence[PoolJob], error: BaseException) -> tuple[list[Receipt], list[PoolJob]]:
        """Return what became of branches whose slice broke, and those of them that are to run again."""

    def stop(self) -> None:
        """End the bodies that run, if that can be done."""

    def close(self) -> None:
        """End, or get ready for another run; nobody is in `run` any more."""


class BatchSizer:
    """How many branches go to Dask at once."""

    __slots__ = ("_last", "least", "most", "size")

    def __init__(self, slots: int) -> None:
        self.least = 2 * slots
        self.most = max(LARGEST, 4 * slots)
        self.size = self.least
        self._last = 0.0

    def note(self, taken: int, now: float) -> None:
        """Take notice of a slice of `taken` branches that starts now, because the one before has drained."""
        gap = now - self._last
        self._last = now
        if gap < QUICK and taken == self.size:
            self.size = min(self.most, 2 * self.size)
        elif gap > SLOW:
            self.size = max(self.least, self.size // 2)


class JobQueue:
    """Jobs that wait for a slice: those of later steps first, among equals the older ones."""

    __slots__ = ("_queues", "count")

    def __init__(self) -> None:
        self._queues: dict[int, deque[Job]] = {}
        self.count = 0

    def add(self, jobs: Sequence[Job]) -> None:
        """Put jobs at the end of their queues."""
        for job in jobs:
            step = job.chain.steps[job.positions[0]].number
            queue = self._queues.get(step)
            if queue is None:
                queue = self._queues[step] = deque()
            queue.append(job)
        self.count += len(jobs)

    def take(self, most: int) -> list[Job]:
        """Remove and return at most so many jobs."""
        taken: list[Job] = []
        for step in sorted(self._queues, reverse=True):
            queue = self._queues[step]
            while queue and len(taken) < most:
                taken.append(queue.popleft())
            if queue:
                break
            del self._queues[step]
        self.count -= len(taken)
        return taken

    def drop(self, gone: set[Job]) -> None:
        """Remove jobs."""
        for step, queue in self._queues.items():
            self._queues[step] = deque(job for job in queue if job not in gone)
        self.count = sum(map(len, self._queues.values()))


class PoolSession:
    """A run on threads or processes of this machine.

    Parameters
    ----------
    stall_warning
        After how many seconds in which nothing ends a warning says what is open; None for never.

    Attributes
    ----------
    open
        Branches that were handed over and have not ended, by job.
    """

    def __init__(self, workers: Workers, run: Mapping[str, Any], stall_warning: float | None = None) -> None:
        self.workers = workers
        self.stall_warning = stall_warning
        self._quiet_since: float | None = None
        self._raise = bool(run.get("raise_on_exception"))
        self.slots = workers.slots
        self.live = workers.live
        self.pace = BatchSizer(workers.slots)
        self.window = 3 * self.pace.most  # one slice at work, one about to follow, one being admitted
        self.backlog = JobQueue()
        self.open: dict[Job, PoolJob] = {}
        self._queued = 0
        self._helpers: list[threading.Thread] = []
        self._arrivals: SimpleQueue[Arrival | _Broken | None] = SimpleQueue()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs, and hand over what the pool can use."""
        queued: list[Job] = []
        batches: dict[int, list[PoolJob]] = {}
        for job in jobs:
            if job.solo:
                self._start([PoolJob(job)])
            elif job.batch is not None and self.workers.batches:
                batches.setdefault(job.batch, []).append(PoolJob(job))
            else:
                queued.append(job)
        for branches in batches.values():
            self._start(branches)
        self.backlog.add(queued)
        self._hand_over()

    def _hand_over(self) -> None:
        # Fewer branches than a slice are open, and some of them run: start the next slice before the pool has to wait.
        while self.backlog.count and self._queued < self.pace.size:
            branches = [PoolJob(job, queued=True) for job in self.backlog.take(self.pace.size)]
            self._queued += len(branches)
            self.pace.note(len(branches), time.monotonic())
            self._start(branches)

    def _start(self, branches: Sequence[PoolJob]) -> None:
        self.open.update((branch.job, branch) for branch in branches)
        helper = threading.Thread(target=self._run, args=(branches,), name="prefectish-slice", daemon=True)
        self._helpers = [thread for thread in self._helpers if thread.is_alive()]
        self._helpers.append(helper)
        helper.start()

    def _run(self, branches: Sequence[PoolJob]) -> None:
        ahead = self.slots if self.pace.size == self.pace.least else self.pace.size
        try:
            self.workers.run(branches, self._arrivals.put, ahead)
        except BaseException as error:  # nothing of the user's can raise here; whatever did, the run must hear of it
            self._arrivals.put(_Broken(branches, error))

    def receipts(self, timeout: float | None) -> Sequence[Receipt]:
        """Wait until steps have ended, at most `timeout` seconds, and return their receipts."""
        self._hand_over()
        receipts: list[Receipt] = []
        try:
            self._take(self._arrivals.get(timeout=timeout), receipts)
            while True:
                self._take(self._arrivals.get_nowait(), receipts)
        except Empty:
            self._note_quiet(bool(receipts))
            return receipts

    def _note_quiet(self, ended: bool) -> None:
        """Warn once if nothing ends for long."""
        now = time.monotonic()
        if ended or not self.open or self._quiet_since is None:
            self._quiet_since = now
        elif self.stall_warning is not None and self.open and now - self._quiet_since >= self.stall_warning:
            shown = ", ".join(_label(branch) for branch in list(self.open.values())[:SHOWN])
            get_logger("engine").warning(
                "nothing has ended for %.0f s; %d tasks are open: %s. One that never ends needs a timeout",
                now - self._quiet_since, len(self.open), shown,
            )  # fmt: skip
            self._quiet_since = float("inf")

    def wake(self) -> None:
        """End the wait for receipts, from another thread."""
        self._arrivals.put(None)

    def _take(self, arrival: Arrival | _Broken | None, receipts: list[Receipt]) -> None:
        if arrival is None:
            return
        if isinstance(arrival, _Broken):
            receipts.extend(self._lose(arrival))
            return
        branch, position, record = arrival
        branch.left -= 1
        if not branch.left:
            self._forget(branch)
        if record is not None and not branch.gone:
            receipts.append(Receipt(branch.job, ((position, record),)))

    def _lose(self, broken: _Broken) -> list[Receipt]:
        if self._raise or isinstance(broken.error, KeyboardInterrupt):
            raise broken.error
        lost = [branch for branch in broken.branches if branch.left and not branch.gone]
        for branch in broken.branches:
            self._forget(branch)
        receipts, again = self.workers.lost(lost, broken.error)
        if again:
            self._start(again)
        return receipts

    def _forget(self, branch: PoolJob) -> None:
        if self.open.pop(branch.job, None) is not None and branch.queued:
            branch.queued = False
            self._queued -= 1

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Forget jobs: those not started never start, the records of the others are dropped."""
        gone = set(jobs)
        self.backlog.drop(gone)
        for job in gone & self.open.keys():
            self.open[job].gone = True

    def settle(self, held: Sequence[Held]) -> None:
        """Do nothing: results are here."""

    def close(self) -> None:
        """Start nothing more, and end the threads that have nothing to do."""
        self.backlog = JobQueue()
        if not self.open:
            self._end()
            return
        self.cancel([*self.open])
        self.workers.stop()
        # A body in a thread cannot be ended: the rest waits for it, and the caller does not.
        threading.Thread(target=self._end, name="prefectish-end", daemon=True).start()

    def _end(self) -> None:
        for helper in self._helpers:
            helper.join()
        self.workers.close()


def _label(branch: PoolJob) -> str:
    """Return the name of the step that a branch is at."""
    job = branch.job
    position = next((p for p in job.positions if p not in branch.states), job.positions[-1])
    return job.chain.steps[position].label(job.index)


def cluster_error(branch: PoolJob, error: BaseException) -> Receipt:
    """Return the receipt of a branch that Dask could not run, for a reason that is not its own."""
    return Receipt(branch.job, (), Lost(LossCause.CLUSTER_ERROR, detail=f"{type(error).__name__}: {error}"))


def in_given_order(keys: Iterable[Any]) -> Callable[[Any, Mapping[str, Any]], None]:
    """Have Dask's local schedulers begin with the first of these keys: a callback for the start of a ``get``.

    Left to itself Dask (2026.8) begins with the last of tasks that are equal but for their keys, and with processes,
    where it culls the graph before, with any: a short branch would wait behind long ones that were submitted later.
    """
    place = {key: n for n, key in enumerate(keys)}

    def begin(graph: Any, state: Mapping[str, Any]) -> None:
        state["ready"].sort(key=place.__getitem__, reverse=True)  # it takes them from the end

    return begin
