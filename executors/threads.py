"""Threads for ``dask.threaded.get``: live objects, nothing is copied.

A graph of many jobs, which take no time, would cost more than they do. So its tasks are as many as there are threads,
and each runs one job after another from one line: none waits behind another that takes long. Calls that go first are
made by these tasks, too, between two jobs.

Dask uses any pool that has ``submit`` and ``_max_workers``. This one is for bodies that take microseconds: its futures
need no lock, because Dask adds its callback to a future right after ``submit``, and the work starts only then.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any

import dask.threaded

from prefectish.engine.jobs.job import Job, Receipt
from prefectish.engine.worker.run_steps import run_steps
from prefectish.executors.loop_runner import LoopRunner
from prefectish.executors.pool_jobs import Arrival, PoolJob, Report, sharing
from prefectish.executors.pool_session import CallsAhead, cluster_error, in_given_order

#: Jobs for each thread of which a graph has a task of their own.
_FEW = 2


class _Future:
    """A call, and later its outcome."""

    __slots__ = ("_args", "_done", "_fn", "_start", "_value", "error")

    def __init__(self, start: Callable[[_Future], None], fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._start = start
        self._fn = fn
        self._args = args
        self._value: Any = None
        self.error: BaseException | None = None

    def add_done_callback(self, done: Callable[[_Future], None]) -> None:
        """Start the call; `done` is called at its end."""
        self._done = done
        self._start(self)

    def call(self) -> None:
        """Make the call, in a thread of the pool."""
        try:
            self._value = self._fn(*self._args)
        except BaseException as error:  # for Dask, which raises it from result()
            self.error = error
        self._done(self)

    def result(self) -> Any:
        """Return what the call returned, or raise what it raised; it has ended."""
        if self.error is not None:
            raise self.error
        return self._value


class ThreadPool:
    """Threads that share one queue; they start with the first calls.

    Each call sees the context variables of the thread that made the pool, in a copy of its own.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._due: SimpleQueue[bool] = SimpleQueue()  # True when a call comes, False for each thread that is to end
        self._first: deque[_Future] = deque()  # calls that go before the others
        self._rest: deque[_Future] = deque()
        self.scope = contextvars.copy_context()

    def submit(self, fn: Callable[..., Any], *args: Any) -> _Future:
        """Return the future of a call."""
        if len(self.threads) < self.size:
            self._add_thread()
        return _Future(self._put, fn, args)

    def submit_first(self, calls: CallsAhead, fn: Callable[..., Any], *args: Any) -> _Future:
        """Return the future of a call that goes before all that wait and were submitted otherwise."""
        if len(self.threads) < self.size:
            self._add_thread()

        def put(future: _Future) -> None:
            self._first.append(future)
            self._due.put(True)
            calls.submitted()

        return _Future(put, fn, args)

    @property
    def has_first(self) -> bool:
        """Whether a call waits that goes before the others."""
        return bool(self._first)

    def make_first(self) -> None:
        """Make a call that goes before the others, if one still waits, in this thread of the pool."""
        with contextlib.suppress(IndexError):
            self.scope.copy().run(self._first.popleft().call)

    def _put(self, future: _Future) -> None:
        self._rest.append(future)
        self._due.put(True)

    def _add_thread(self) -> None:
        with self._lock:
            if len(self.threads) == self.size:
                return
            name = f"prefectish-{len(self.threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self.threads.append(thread)
            thread.start()

    def _work(self) -> None:
        take, scope = self._due.get, self.scope
        while take():
            if (future := self._next()) is not None:
                scope.copy().run(future.call)
            del future  # or its result would stay here until the next call

    def _next(self) -> _Future | None:
        """Return the call that is due; None if other threads took the last one meanwhile."""
        for waiting in (self._first, self._rest):
            if waiting:
                with contextlib.suppress(IndexError):
                    return waiting.popleft()
        return None

    def shutdown(self) -> None:
        """End the threads; no call may come after this."""
        for _ in self.threads:
            self._due.put(False)
        for thread in self.threads:
            thread.join()


class _View:
    """The shared pool as one ``get`` sees it: with room for more calls than there are threads."""

    def __init__(self, pool: ThreadPool, room: int, first: CallsAhead | None) -> None:
        self.submit = pool.submit if first is None else self._submit_first
        self._max_workers = room
        self._pool = pool
        self._first = first

    def _submit_first(self, fn: Callable[..., Any], *args: Any) -> _Future:
        assert self._first is not None
        return self._pool.submit_first(self._first, fn, *args)


class Threads:
    """Runs jobs by ``dask.threaded.get``.

    Parameters
    ----------
    slots
        Number of threads.
    run_id
        Names the run in every key.
    """

    run_bundle = None
    live = True

    def __init__(self, slots: int, run_id: str) -> None:
        self.slots = slots
        self.run_id = run_id
        self.pool = ThreadPool(slots)
        # What runs async bodies, with its threads, by how many share a slot.
        self._runners: dict[int, tuple[LoopRunner, ThreadPool]] = {}
        self._lock = threading.Lock()

    def _runner_of(self, job: Job) -> LoopRunner | None:
        """Return what runs a job that shares a slot, with threads of its own, which only wait; None for others."""
        shared = sharing(job)
        if shared is None:
            return None
        with self._lock:
            if shared not in self._runners:
                pool = ThreadPool(self.slots * shared)
                scope = pool.scope
                runner = LoopRunner(pool.size, partial(_in_thread, pool), lambda call: scope.copy().run(call))
                self._runners[shared] = runner, pool
            return self._runners[shared][0]

    def run(self, pool_jobs: Sequence[PoolJob], report: Report, ahead: int, first: CallsAhead | None) -> None:
        """Run jobs in the pool."""
        runner = self._runner_of(pool_jobs[0].job)
        if runner is not None:
            runner.run(pool_jobs, report)
            return
        pool = self.pool
        view = _View(pool, max(ahead, pool.size), first)
        if first is None and len(pool_jobs) > _FEW * pool.size:
            line = deque(pool_jobs)
            graph = {key_of(b.job, b.job.positions[0], self.run_id): (_run_line, line, report, pool)
                     for b in pool_jobs[: pool.size]}  # fmt: skip
            dask.threaded.get(graph, list(graph), pool=view)
            return
        graph = live_graph(pool_jobs, self.run_id)
        dask.threaded.get(graph, list(graph), pool=view, callbacks=[posttask(graph, report)])

    def lost(self, pool_jobs: Sequence[PoolJob], error: BaseException) -> tuple[list[Receipt], list[PoolJob]]:
        """Return losses: threads do not die, so a ``get`` that raises is an error of Dask or of this package."""
        return [cluster_error(pool_job, error) for pool_job in pool_jobs], []

    def recall(self, pool_jobs: Sequence[PoolJob]) -> Mapping[Job, int]:
        """Let no further step of these jobs begin; return the masks of those that have begun."""
        for pool_job in pool_jobs:
            pool_job.recalled = -1
        return {pool_job.job: sum(1 << p for p in set(pool_job.begun)) for pool_job in pool_jobs}

    def stop(self) -> None:
        """Do nothing: a thread cannot be ended."""

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown()
        for _, pool in self._runners.values():
            pool.shutdown()


def key_of(job: Job, position: int, run_id: str) -> tuple[str, int, int]:
    """Return the key of a step of a job."""
    return f"{job.chain.steps[position].slug}-{run_id}", job.index, job.submission


def live_graph(pool_jobs: Sequence[PoolJob], run_id: str) -> dict[tuple[str, int, int], Any]:
    """Return the graph of jobs whose steps run in this process."""
    graph: dict[tuple[str, int, int], Any] = {}
    for pool_job in pool_jobs:
        job = pool_job.job
        keys: dict[int, tuple[str, int, int]] = {}
        for position in job.positions:
            keys[position] = key = key_of(job, position, run_id)
            before = [keys[p] for p in job.sources(position)] if len(job.positions) > 1 else ()
            graph[key] = (_run_live, pool_job, position, *before)
    return graph


def _run_live(pool_job: PoolJob, position: int, *before: Any) -> list[Arrival]:
    """Run one step of a job. The callback empties the list, so that the results Dask keeps hold no values."""
    if pool_job.cancelled:
        return [(pool_job, position, None)]
    job = pool_job.job
    options = None, job.probe_only, pool_job.may_begin
    ((_, record),) = run_steps(job.chain, (position,), job.index, job.items, pool_job.states, job.starts, *options)
    if pool_job.unread is not None and record.state.is_failed():
        pool_job.unread.note()
    return [(pool_job, position, record)]


def _run_line(line: deque[PoolJob], report: Report, pool: ThreadPool) -> None:
    """Run one job of a line after another, until there are none; calls that go first come between them."""
    while line:
        while pool.has_first:
            pool.make_first()
        try:
            pool_job = line.popleft()
        except IndexError:  # another thread took the last one meanwhile
            return
        try:
            pool.scope.copy().run(_run_whole, pool_job, report)
        except BaseException:  # no body raises here: the graph is broken, and nothing more of it begins
            line.clear()
            raise


def _in_thread(
    pool: ThreadPool, pool_job: PoolJob, report: Report, done: Callable[[BaseException | None], None]
) -> None:
    """Run a job in a thread of a pool."""
    pool.submit(_run_whole, pool_job, report).add_done_callback(lambda future: done(future.error))


def _run_whole(pool_job: PoolJob, report: Report) -> None:
    for position in pool_job.job.positions:
        report(_run_live(pool_job, position).pop())


def posttask(graph: Mapping[Any, Any], report: Report) -> tuple[Any, ...]:
    """Return callbacks for Dask's schedulers that start with the first job and report what `_run_live` returned."""

    def after(key: Any, result: list[Arrival], graph: Any, state: Any, worker: Any) -> None:
        report(result.pop())

    return (None, in_given_order(graph), None, after, None)
