"""A session on one shared pool: each ``get`` of Dask's local schedulers runs a graph of some open jobs, in a thread.

A ``get`` takes a graph that is known in advance, so jobs are submitted in graphs of several. Receipts arrive one by
one, from a callback that Dask calls after each task, and the next graph starts before the last one is done: a slow
branch keeps the thread of its ``get`` waiting, which sleeps, and no other job.

How many jobs go into a graph follows from how quickly graphs drain. Jobs that take microseconds share the cost of a
thread and a ``get`` among a hundred; of jobs that take a second only a few are submitted at once, and those nearer to
the end of the flow can still overtake the rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from heapq import heappop, heappush
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from prefectish.engine.context import get_logger
from prefectish.engine.jobs.bundle import Bundle, BundleReceipt, BundleRecords, gathered, unpack
from prefectish.engine.jobs.job import CALL, Job, Receipt, taken_back
from prefectish.engine.jobs.protocol import LossCause, Lost
from prefectish.engine.jobs.references import Held
from prefectish.executors.pool_jobs import (
    Arrival,
    BrokenGraph,
    EndedBundle,
    PoolBundle,
    PoolJob,
    Report,
    ReportBundle,
    sharing,
)
from prefectish.executors.unread_failures import UnreadFailures

#: Most jobs in a graph, unless four for each slot are more.
MAX_GRAPH_JOBS = 128
#: A graph that drains in fewer seconds is followed by a larger one; in more than the second figure, by a smaller one.
_QUICK, SLOW = 0.01, 0.05

#: Where more jobs for each slot are open, and the next one ends within so many seconds, receipts are read in groups.
_MANY, _GROUPED = 4, 0.001

#: Tasks that a warning names.
_MAX_SHOWN = 3


class Workers(Protocol):
    """Threads or processes, and Dask's scheduler for them.

    Attributes
    ----------
    slots
        Bodies that can run at once.
    run_bundle
        Runs a bundle to its end, in a graph of its own, and reports how it ended; None if each job runs by itself.
    live
        Whether bodies get the objects of this process, not copies.
    """

    slots: int
    live: bool

    @property
    def run_bundle(self) -> Callable[[PoolBundle, ReportBundle, int], None] | None:
        """Return what runs bundles."""

    def run(self, pool_jobs: Sequence[PoolJob], report: Report, ahead: int, first: CallsAhead | None) -> None:
        """Run jobs to their end, while this thread waits, and report each of their steps once.

        Parameters
        ----------
        report
            Called with each step as it ends.
        ahead
            Tasks that may wait in the pool, beside those that run.
        first
            Called with each task that the pool has: they are calls, and go before other jobs. None for other jobs.
        """

    def lost(self, pool_jobs: Sequence[PoolJob], error: BaseException) -> tuple[list[Receipt], list[PoolJob]]:
        """Return what became of jobs whose graph raised: receipts, and the jobs that are to run again."""

    def recall(self, pool_jobs: Sequence[PoolJob]) -> Mapping[Job, int] | None:
        """Let no further step of these jobs begin; return masks of those that have, None if not all answered."""

    def stop(self) -> None:
        """End the bodies that run, where that is possible."""

    def close(self) -> None:
        """End, or get ready for another run; no thread is in `run` any more."""


class GraphSizer:
    """How many jobs go into the next graph; it is `large` from the beginning if nothing is to overtake them."""

    __slots__ = ("_last", "minimum", "maximum", "size")

    def __init__(self, slots: int, large: bool = False) -> None:
        self.maximum = max(MAX_GRAPH_JOBS, 4 * slots)
        self.minimum = self.maximum if large else 2 * slots
        self.size = self.minimum
        self._last = 0.0

    def note(self, taken: int, now: float) -> None:
        """Note that a graph of `taken` jobs starts now, because the one before has drained."""
        gap = now - self._last
        self._last = now
        if gap < _QUICK and taken == self.size:
            self.size = min(self.maximum, 2 * self.size)
        elif gap > SLOW:
            self.size = max(self.minimum, self.size // 2)


class JobQueue:
    """Jobs that wait for a graph: those of the larger precedence first, among equals those whose turn it is."""

    __slots__ = ("_added", "_queues", "count")

    def __init__(self) -> None:
        self._queues: dict[int, list[tuple[int, int, Job]]] = {}
        self._added = 0
        self.count = 0

    def add(self, jobs: Sequence[Job]) -> None:
        """Put jobs into their queues."""
        for job in jobs:
            precedence = job.chain.steps[job.positions[0]].precedence
            queue = self._queues.get(precedence)
            if queue is None:
                queue = self._queues[precedence] = []
            self._added += 1
            heappush(queue, (job.turn, self._added, job))
        self.count += len(jobs)

    def take(self, maximum: int) -> list[Job]:
        """Remove and return at maximum so many jobs."""
        taken: list[Job] = []
        for precedence in sorted(self._queues, reverse=True):
            queue = self._queues[precedence]
            while queue and len(taken) < maximum:
                taken.append(heappop(queue)[-1])
            if queue:
                break
            del self._queues[precedence]
        self.count -= len(taken)
        return taken

    def drop(self, cancelled: set[Job]) -> list[Job]:
        """Remove jobs; return those that were in a queue."""
        dropped = [entry[-1] for queue in self._queues.values() for entry in queue if entry[-1] in cancelled]
        for precedence, queue in self._queues.items():
            self._queues[precedence] = sorted(entry for entry in queue if entry[-1] not in cancelled)
        self.count -= len(dropped)
        return dropped


class Lane:
    """Jobs on their way into graphs: calls of a flow function have a lane of their own, and go before other jobs.

    Attributes
    ----------
    open
        Its jobs that are in graphs.
    """

    __slots__ = ("first", "open", "queue", "sizer", "slots", "unread")

    def __init__(self, slots: int, first: bool, unread: UnreadFailures | None = None) -> None:
        self.first = first
        self.unread = unread
        self.queue = JobQueue()
        self.slots = slots
        self.sizer = GraphSizer(slots, large=first)
        self.open = 0

    @property
    def ahead(self) -> int:
        """Return how many tasks may wait in the pool, beside those that run."""
        return self.sizer.size if self.first or self.sizer.size > self.sizer.minimum else self.slots

    def next_graph(self) -> list[PoolJob]:
        """Return the jobs of the next graph, if it is to be started by now; none otherwise."""
        # Fewer jobs than a graph holds are left, and some of them run: the next graph starts before the pool is idle.
        if not self.queue.count or self.open >= self.sizer.size:
            return []
        pool_jobs = [PoolJob(job, self) for job in self.queue.take(self.sizer.size)]
        self.open += len(pool_jobs)
        self.sizer.note(len(pool_jobs), time.monotonic())
        return pool_jobs


class CallsAhead:
    """Calls that go before other jobs, until the pool has as many of them as it takes at once."""

    __slots__ = ("_known", "_left")

    def __init__(self, count: int = 0) -> None:
        self._left = count
        self._known = threading.Event()
        if not count:
            self._known.set()

    def submitted(self) -> None:
        """Note that the pool has one more."""
        self._left -= 1
        if self._left <= 0:
            self._known.set()

    def end(self) -> None:
        """Note that no more come."""
        self._known.set()

    def wait(self) -> None:
        """Wait until the pool has them."""
        self._known.wait()


def _may_feed(receipt: Receipt | BundleReceipt) -> bool:
    """Whether a step that has ended may have sent items while it ran: one that a map runs over, and is none itself."""
    of = receipt.bundle if isinstance(receipt, BundleReceipt) else receipt.job
    return any(spec.measure and not spec.mapped for spec in of.chain.steps)


class PoolSession:
    """A run on threads or processes of this machine.

    Parameters
    ----------
    stall_warning
        After how many seconds in which nothing ends a warning says what is open; None for never.

    Attributes
    ----------
    open, open_bundles
        Jobs that were submitted to Dask and have not ended, and bundles by number.
    in_order
        Whether one job runs after another, in the order of submission: never.
    follows
        Whether a job may read an open one: never.
    """

    def __init__(
        self,
        workers: Workers,
        run: Mapping[str, Any],
        stall_warning: float | None = None,
        look: Callable[[], None] | None = None,
    ) -> None:
        self.in_order = False
        self.follows = False
        self.workers = workers
        self.stall_warning = stall_warning
        self._look = look  # takes what bodies have sent so far: it comes before the receipts of those that did
        self._quiet_since: float | None = None
        self._read_at = 0.0  # when receipts were read last
        self._raises = bool(run.get("raise_on_exception"))
        self.slots = workers.slots
        self.live = workers.live
        self.batches = self.bundles = workers.run_bundle is not None
        self._unread = UnreadFailures() if workers.live else None
        self._calls = Lane(workers.slots, True, self._unread)
        self._others = Lane(workers.slots, False, self._unread)
        self._lanes: tuple[Lane, ...] = self._calls, self._others
        self._shared: dict[int, Lane] = {}  # of jobs that share slots, by how many do
        self.window = 3 * self._others.sizer.maximum  # one graph at work, one about to follow, one being admitted
        self.open: dict[Job, PoolJob] = {}
        self.open_bundles: dict[int, PoolBundle] = {}
        self._threads: list[threading.Thread] = []
        self._calls_ahead = CallsAhead()  # the newest calls
        self._arrivals: SimpleQueue[Arrival | EndedBundle | BrokenGraph | None] = SimpleQueue()

    def submit(self, jobs: Sequence[Job | Bundle]) -> None:
        """Queue jobs, and start what the pool can use."""
        calls: list[Job] = []
        others: list[Job] = []
        single, bundles = gathered(jobs) if self.bundles else (unpack(jobs), [])
        for job in single:
            if job.solo:
                self._start([PoolJob(job)])
            elif (shared := sharing(job)) is not None and not self.batches:
                self._lane_of(shared).queue.add([job])
            elif job.chain.steps[0].precedence == CALL:
                calls.append(job)
            else:
                others.append(job)
        for bundle in bundles:
            self.open_bundles[bundle.number] = pool_bundle = PoolBundle(bundle)
            self._start(pool_bundle)
        self._calls.queue.add(calls)
        self._others.queue.add(others)
        self._start_queued()

    def _lane_of(self, shared: int) -> Lane:
        """Return the lane of jobs of which so many share a slot."""
        lane = self._shared.get(shared)
        if lane is None:
            lane = self._shared[shared] = Lane(self.workers.slots * shared, False)
            self._lanes = (*self._lanes, lane)
        return lane

    def _start_queued(self) -> None:
        for lane in self._lanes:
            while pool_jobs := lane.next_graph():
                self._start(pool_jobs, lane)

    def _start(self, pool_jobs: Sequence[PoolJob] | PoolBundle, lane: Lane | None = None) -> None:
        lane, before, calls = lane or self._others, self._calls_ahead, None
        if not isinstance(pool_jobs, PoolBundle):
            self.open.update((pool_job.job, pool_job) for pool_job in pool_jobs)
            if lane.first:
                calls = self._calls_ahead = CallsAhead(min(len(pool_jobs), lane.ahead))
        arguments = pool_jobs, lane, before, calls
        thread = threading.Thread(target=self._run, args=arguments, name="prefectish-graph", daemon=True)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(thread)
        thread.start()

    def _run(
        self, pool_jobs: Sequence[PoolJob] | PoolBundle, lane: Lane, before: CallsAhead, calls: CallsAhead | None
    ) -> None:
        try:
            before.wait()
            if isinstance(pool_jobs, PoolBundle):
                assert self.workers.run_bundle is not None
                self.workers.run_bundle(pool_jobs, self._arrivals.put, lane.ahead)
            else:
                self.workers.run(pool_jobs, self._arrivals.put, lane.ahead, calls)
        except BaseException as error:  # no code of the user runs here; a run must not wait for a thread that raised
            self._arrivals.put(BrokenGraph(pool_jobs, error))
        finally:
            if calls is not None:
                calls.end()

    def receipts(self, timeout: float | None) -> Sequence[Receipt | BundleReceipt]:
        """Wait until steps have ended, at maximum `timeout` seconds, and return their receipts."""
        if self._unread is not None:
            self._unread.acted()
        self._start_queued()
        receipts: list[Receipt | BundleReceipt] = []
        try:
            self._take(self._arrivals.get(timeout=timeout), receipts)
            if self._comes_more():
                time.sleep(_GROUPED)
            while True:
                self._take(self._arrivals.get_nowait(), receipts)
        except Empty:
            self._read_at = time.monotonic()
            self._warn_if_stalled(bool(receipts))
            if self._look is not None and any(map(_may_feed, receipts)):
                self._look()
            return receipts

    def _comes_more(self) -> bool:
        """Whether steps end so quickly, and are so many, that a moment later several can be read in one turn."""
        is_busy = len(self.open) > _MANY * self.slots and self._arrivals.empty()
        return is_busy and time.monotonic() - self._read_at < _GROUPED

    def _warn_if_stalled(self, ended: bool) -> None:
        """Warn once if nothing has ended for a long time."""
        now = time.monotonic()
        if ended or not (self.open or self.open_bundles) or self._quiet_since is None:
            self._quiet_since = now
        elif self.stall_warning is not None and now - self._quiet_since >= self.stall_warning:
            # Of the rows of a bundle, the first one stands for all.
            names = [_label(pool_job) for pool_job in list(self.open.values())[:_MAX_SHOWN]]
            names += [_label(opened.pool_jobs[0]) for opened in list(self.open_bundles.values())[:_MAX_SHOWN]]
            get_logger("engine").warning(
                "nothing has ended for %.0f s; %d tasks are open: %s. One that never ends needs a timeout",
                now - self._quiet_since,
                len(self.open) + sum(len(opened.bundle) for opened in self.open_bundles.values()),
                ", ".join(names[:_MAX_SHOWN]),
            )
            self._quiet_since = float("inf")

    def wake(self) -> None:
        """End the wait for receipts, from another thread."""
        self._arrivals.put(None)

    def _take(
        self, arrival: Arrival | EndedBundle | BrokenGraph | None, receipts: list[Receipt | BundleReceipt]
    ) -> None:
        if arrival is None:
            return
        if isinstance(arrival, BrokenGraph):
            receipts.extend(self._lose(arrival))
            return
        if isinstance(arrival, EndedBundle):
            self._take_bundle(*arrival, receipts)
            return
        pool_job, position, record = arrival
        if pool_job.unread is not None and record is not None and record.state.is_failed():
            pool_job.unread.take()
        pool_job.left -= 1
        if not pool_job.left:
            self._forget(pool_job)
        if record is not None and not pool_job.cancelled:
            receipts.append(Receipt(pool_job.job, ((position, record),)))

    def _take_bundle(
        self, ended: PoolBundle, records: BundleRecords | None, receipts: list[Receipt | BundleReceipt]
    ) -> None:
        self.open_bundles.pop(ended.bundle.number, None)
        if records is None:
            return
        receipt = BundleReceipt(ended.bundle, records)
        if not ended.has_pool_jobs:
            receipts.append(receipt)
            return
        kept = (number for number, pool_job in enumerate(ended.pool_jobs) if not pool_job.cancelled)
        receipts.extend(receipt.receipt(number) for number in kept)

    def _lose(self, broken: BrokenGraph) -> list[Receipt]:
        if self._raises or isinstance(broken.error, KeyboardInterrupt):
            raise broken.error
        lost = [pool_job for pool_job in broken.pool_jobs if pool_job.left and not pool_job.cancelled]
        for pool_job in broken.pool_jobs:
            self._forget(pool_job)
        if isinstance(broken.content, PoolBundle):
            self.open_bundles.pop(broken.content.bundle.number, None)
        receipts, again = self.workers.lost(lost, broken.error)
        if again:
            self._start(again)
        return receipts

    def _forget(self, pool_job: PoolJob) -> None:
        if self.open.pop(pool_job.job, None) is not None and pool_job.lane is not None:
            pool_job.lane.open -= 1
            pool_job.lane = None

    def cancel(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Forget jobs: those not started never start, the records of the others are dropped; return the queued ones."""
        cancelled = set(jobs)
        dropped = self._drop_queued(cancelled)
        for pool_job in self._open_jobs(cancelled):
            pool_job.cancelled = True
        for opened in self.open_bundles.values():
            opened.cancelled = opened.has_pool_jobs and all(pool_job.cancelled for pool_job in opened.pool_jobs)
        return dropped

    def _open_jobs(self, jobs: Collection[Job]) -> list[PoolJob]:
        """Return those of some jobs that are in graphs."""
        found = [self.open[job] for job in jobs if job in self.open]
        numbers = {job.batch for job in jobs if job.batch is not None} & self.open_bundles.keys()
        wanted = set(jobs)
        of_bundles = (self.open_bundles[number].pool_jobs for number in sorted(numbers))
        return found + [pool_job for pool_jobs in of_bundles for pool_job in pool_jobs if pool_job.job in wanted]

    def _drop_queued(self, jobs: set[Job]) -> list[Job]:
        """Remove jobs from the queues; return those that were in one."""
        return [job for lane in self._lanes for job in lane.queue.drop(jobs)]

    def recall(self, jobs: Sequence[Job]) -> Sequence[Receipt]:
        """Take back what has not begun: what is in the queue, and what a thread or process will find recalled."""
        recalled = set(jobs)
        receipts = [taken_back(job) for job in self._drop_queued(recalled)]
        pool_jobs = self._open_jobs(jobs)
        begun = self.workers.recall(pool_jobs) if pool_jobs else {}
        for pool_job in pool_jobs:
            mask = self._take_back(pool_job, pool_job.running if begun is None else begun[pool_job.job])
            if mask:
                receipts.append(taken_back(pool_job.job, mask))
        return receipts

    def _take_back(self, pool_job: PoolJob, begun: int) -> int:
        """Return the mask of the steps of a job whose bodies never begin."""
        job = pool_job.job
        # What has ended is looked up last: a body that is no longer among those that have begun has a state by now.
        pool_job.recalled = sum(1 << p for p in job.positions if not (begun >> p & 1 or p in pool_job.states))
        if pool_job.recalled == sum(1 << p for p in job.positions):
            pool_job.cancelled = True
        return pool_job.recalled

    def settle(self, held: Sequence[Held]) -> None:
        """Do nothing: results are here."""

    def close(self) -> None:
        """Start nothing more, and end the threads that are idle."""
        for lane in self._lanes:
            lane.queue = JobQueue()
        if not (self.open or self.open_bundles):
            self._end()
            return
        self.cancel([*self.open, *unpack(opened.bundle for opened in self.open_bundles.values())])
        self.workers.stop()
        # A body in a thread cannot be ended: another thread waits for it, so that the caller need not.
        threading.Thread(target=self._end, name="prefectish-end", daemon=True).start()

    def _end(self) -> None:
        for thread in self._threads:
            thread.join()
        self.workers.close()


def _label(pool_job: PoolJob) -> str:
    """Return the name of the step that a job is at."""
    job = pool_job.job
    position = next((p for p in job.positions if p not in pool_job.states), job.positions[-1])
    return job.chain.steps[position].label_of(job.index)


def cluster_error(pool_job: PoolJob, error: BaseException) -> Receipt:
    """Return the receipt of a job that Dask could not run, for a reason that is not the job's own."""
    return Receipt(pool_job.job, (), Lost(LossCause.CLUSTER_ERROR, detail=f"{type(error).__name__}: {error}"))


def in_given_order(keys: Iterable[Any]) -> Callable[[Any, Mapping[str, Any]], None]:
    """Return a callback for the start of a ``get`` that makes Dask begin with the first of these keys.

    Otherwise Dask (2026.8) begins with the last of tasks that are equal but for their keys, and with processes, where
    it culls the graph before, with any: a short branch would wait behind long ones that were submitted later.
    """
    place = {key: n for n, key in enumerate(keys)}

    def begin(graph: Any, state: Mapping[str, Any]) -> None:
        state["ready"].sort(key=place.__getitem__, reverse=True)  # Dask takes them from the end

    return begin
