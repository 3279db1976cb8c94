"""LocalDaskExecutor: a session over threads or processes of this machine, or over this thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import dask
from dask.local import get_sync
from dask.system import CPU_COUNT

from prefectish.engine.driver.executor_options import check_count, check_seconds, check_tag_limits
from prefectish.engine.driver.inline import SerialSession
from prefectish.engine.jobs.job import Job, Record
from prefectish.engine.jobs.protocol import Session
from prefectish.engine.plan.steps import Plan
from prefectish.engine.worker.body_progress import SENDER
from prefectish.engine.worker.yielding import SENDER as YIELD_SENDER
from prefectish.executors.pool_jobs import PoolJob
from prefectish.executors.pool_session import PoolSession, Workers
from prefectish.executors.threads import Threads, live_graph, posttask
from prefectish.validation import unknown_argument

_SCHEDULERS = ("threads", "processes", "synchronous")


def _run_synchronously(job: Job, run_id: str) -> Sequence[tuple[int, Record]]:
    """Run a job by Dask's synchronous scheduler, in this thread, and return its records by position."""
    records: list[tuple[int, Any]] = []
    graph = live_graph([PoolJob(job)], run_id)
    get_sync(graph, list(graph), callbacks=[posttask(graph, lambda arrival: records.append(arrival[1:]))])
    return records


class LocalDaskExecutor:
    """Runs a flow on Dask's local schedulers: threads, processes, or one task after another in this thread.

    Parameters
    ----------
    scheduler
        "threads" (values are shared, nothing is copied), "processes" (bodies, arguments and results are pickled) or
        "synchronous".
    num_workers
        Number of threads or processes; default: Dask's setting ``num_workers``, else one a core.
    tag_limits
        For a tag, how many tasks that carry it run at once, at most.
    stall_warning
        Seconds without a finished task after which a warning says what is open; None for no warning.
    verify_results
        Unpickle each result once more in the process that made it, so that one that cannot be unpickled fails there;
        threads pass results as they are.
    max_branches
        Branches of maps open at once, at most; default: as many as keep the workers busy.

    Notes
    -----
    Processes are kept for the next run with as many, until the program ends. They do not import the main script: what
    is defined there is sent by value, and no ``if __name__ == "__main__":`` is needed.

    Examples
    --------
    >>> LocalDaskExecutor(num_workers=4)
    <LocalDaskExecutor: threads, 4 workers>
    """

    def __init__(
        self,
        scheduler: str = "threads",
        num_workers: int | None = None,
        tag_limits: Mapping[str, int] | None = None,
        stall_warning: float | None = 60,
        verify_results: bool = False,
        max_branches: int | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise unknown_argument(type(self), next(iter(unknown)))
        check_seconds("stall_warning", stall_warning)
        if scheduler not in _SCHEDULERS:
            raise ValueError(f"scheduler must be one of {', '.join(map(repr, _SCHEDULERS))}, got {scheduler!r}")
        self.scheduler = scheduler
        self.num_workers = check_count("num_workers", num_workers)
        self.tag_limits = check_tag_limits(tag_limits)
        self.stall_warning = stall_warning
        self.verify_results = verify_results
        self.max_branches = check_count("max_branches", max_branches, endless=True)

    @contextmanager
    def start(self, plan: Plan, run: Mapping[str, Any]) -> Iterator[Session]:
        """Open a session for one run."""
        run_id = run["flow_run_id"]
        if self.scheduler == "synchronous":
            serial = SerialSession(lambda job: _run_synchronously(job, run_id), self.stall_warning)
            try:
                yield serial
            finally:
                serial.watch.close()
            return
        with ExitStack() as stack:
            if self.scheduler == "processes" and isinstance(run, dict):
                from prefectish.executors.progress_reports import read_from_files

                sender = run[SENDER] = stack.enter_context(read_from_files())
                run[YIELD_SENDER] = sender.items
                look = sender.read_items
            else:
                look = None
            session = PoolSession(self._workers(plan, run_id), run, self.stall_warning, look)
            session.window = self.max_branches or session.window
            try:
                yield session
            finally:
                session.close()

    def _workers(self, plan: Plan, run_id: str) -> Workers:
        if self.scheduler == "threads":
            return Threads(self._slots(), run_id)
        from prefectish.executors.processes import Processes

        return Processes(self._slots(), plan, run_id, self.verify_results)

    def _slots(self) -> int:
        return int(self.num_workers or dask.config.get("num_workers", None) or CPU_COUNT)

    def __repr__(self) -> str:
        if self.scheduler == "synchronous":
            return "<LocalDaskExecutor: synchronous>"
        return f"<LocalDaskExecutor: {self.scheduler}, {self._slots()} workers>"
