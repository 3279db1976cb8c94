"""Jobs of async bodies that share slots: so many at a time, whatever they wait for.

A body to which nothing else is attached needs no thread: the thread of its graph begins it in the loop of the process,
and takes what came of it. Others have a thread each, which waits, since what is attached to them may take any time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from time import perf_counter

from prefectish.engine.capture import Error, Value
from prefectish.engine.jobs.job import Record
from prefectish.engine.worker.attempt import PENDING, Called, bare_inputs, call_bare, is_bare, run_step
from prefectish.engine.worker.run_steps import gather
from prefectish.engine.worker.shared_loop import begin_in_loop, is_coroutine
from prefectish.executors.pool_jobs import PoolJob, Report

#: What a graph waits for: the end of one of its jobs, or None to look whether another can begin.
_Ends = SimpleQueue[Callable[[], None] | None]


class LoopRunner:
    """Runs jobs that share slots.

    Parameters
    ----------
    most
        Jobs that run at once.
    in_thread
        Runs a job in a thread, and calls back with the error of the executor, or None.
    scoped
        Calls a function in the context in which bodies run.
    """

    def __init__(
        self,
        most: int,
        in_thread: Callable[[PoolJob, Report, Callable[[BaseException | None], None]], None],
        scoped: Callable[[Callable[[], None]], None],
    ) -> None:
        self._free = most
        self._in_thread = in_thread
        self._scoped = scoped
        self._line: deque[tuple[PoolJob, _Ends]] = deque()
        self._lock = threading.Lock()

    def run(self, pool_jobs: Sequence[PoolJob], report: Report) -> None:
        """Run jobs to their end, while this thread waits."""
        ends: _Ends = SimpleQueue()
        with self._lock:
            self._line.extend((pool_job, ends) for pool_job in pool_jobs)
        ends.put(None)
        left = len(pool_jobs)
        while left:
            end = ends.get()
            if end is not None:
                left -= 1
                self._leave()
                self._scoped(end)
            while (pool_job := self._next(ends)) is not None:
                self._scoped(partial(self._begin, pool_job, ends, report))

    def _next(self, ends: _Ends) -> PoolJob | None:
        """Return the next job, if one can begin, and it is of this graph; else have its graph look."""
        with self._lock:
            if not self._line or not self._free:
                return None
            if self._line[0][1] is not ends:
                self._line[0][1].put(None)
                return None
            self._free -= 1
            return self._line.popleft()[0]

    def _leave(self) -> None:
        with self._lock:
            self._free += 1

    def _begin(self, pool_job: PoolJob, ends: _Ends, report: Report) -> None:
        """Begin a job, in the loop if that can be; its end is put among the others."""
        job, position = pool_job.job, pool_job.job.positions[0]
        spec = job.chain.steps[position]
        inputs, upstream = None, gather(job.chain, position, job.items, pool_job.states)
        if not (pool_job.cancelled or len(job.positions) > 1 or job.probe_only or job.starts):
            inputs = bare_inputs(spec, upstream) if is_bare(spec, job.chain.run, waits=True) else None
        if inputs is None:
            self._in_thread(pool_job, report, lambda error: ends.put(partial(_raise, error)))
            return
        if not pool_job.may_begin(position):
            ends.put(partial(report, (pool_job, position, Record(PENDING, begun=False))))
            return

        def end(called: Called) -> None:
            record = run_step(job.chain, position, job.index, upstream, PENDING, called=called)
            report((pool_job, position, record))

        def over(outcome: Value | Error) -> None:
            ends.put(partial(end, called._replace(outcome=outcome, seconds=perf_counter() - began)))

        began = perf_counter()
        called = call_bare(job.chain.run, spec, job.index, inputs, upstream)
        if type(called.outcome) is not Value or not is_coroutine(called.outcome.value):
            ends.put(partial(end, called))
            return
        begin_in_loop(called.ctx, called.outcome.value, over)


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error
