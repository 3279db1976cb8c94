"""Processes for ``dask.multiprocessing.get``: all values are sent in envelopes, and a pool that breaks is replaced.

A graph is made as for a cluster (``lower``); Dask and the pool pickle and load no object of the user. What is large and
the same for all branches of a map is written to a file once, and each process reads it once.
"""

from __future__ import annotations

import functools
import os
import pickle
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

import dask.multiprocessing

from prefectish.engine.jobs.bundle import BundleRecords
from prefectish.engine.jobs.envelope import Encoded
from prefectish.engine.jobs.job import ChainSpec, Job, Receipt, Record, StepSpec
from prefectish.engine.jobs.protocol import LossCause, Lost
from prefectish.engine.plan.steps import Plan, Step
from prefectish.engine.state import Success
from prefectish.engine.wire.messages import Batch, StepResult, open_batch
from prefectish.engine.wire.pack import add_task_payloads, pack_chain, pickle_tasks
from prefectish.engine.worker.recall import begun_masks, key_of
from prefectish.errors import EnvironmentMismatch, FlowDefinitionError
from prefectish.executors.dask_api import Key
from prefectish.executors.lower import LoweringOptions, PackedChain, item_inputs, lower, lower_batch, not_ready
from prefectish.executors.own_modules import ComparedTasks, changed_at, reached, stale_here
from prefectish.executors.payload_files import PayloadFiles
from prefectish.executors.pool_jobs import EndedBundle, PoolBundle, PoolJob, Report, ReportBundle
from prefectish.executors.pool_session import CallsAhead, cluster_error, in_given_order
from prefectish.executors.process_pool import PoolBroke, ProcessPool
from prefectish.executors.shared_values import SharedValues
from prefectish.kinds import is_a

#: The bytes of a chain up to this size are sent with every call; larger ones are written to a file.
INLINE_CHAIN = 4096

_dumps = functools.partial(pickle.dumps, protocol=5)


class GraphNode(Protocol):
    """What one key of a graph stands for."""

    @property
    def cancelled(self) -> bool:
        """Whether its jobs were cancelled."""

    def begin(self) -> None:
        """Note that a process is about to run it."""

    def end(self, value: Any, report: Callable[[Any], None]) -> None:
        """Report what it returned; None if it was not run."""


class OneStep:
    """One step of one job; the value of its key is a StepResult."""

    __slots__ = ("pool_job", "position")

    def __init__(self, pool_job: PoolJob, position: int) -> None:
        self.pool_job = pool_job
        self.position = position

    @property
    def cancelled(self) -> bool:
        """Whether its job was cancelled, or it was recalled."""
        return self.pool_job.cancelled or bool(self.pool_job.recalled >> self.position & 1)

    def begin(self) -> None:
        """Note that a process is about to run it."""
        self.pool_job.running |= 1 << self.position

    def end(self, value: StepResult | None, report: Report) -> None:
        """Report its record."""
        pool_job, position = self.pool_job, self.position
        pool_job.running &= ~(1 << position)
        record = None if value is None else value.record
        if record is not None and record.begun:
            pool_job.states[position] = record.state
        report((pool_job, position, record))


class BatchNode:
    """All steps of the jobs of a bundle; the value of its key is a Batch."""

    __slots__ = ("pool_bundle",)

    def __init__(self, pool_bundle: PoolBundle) -> None:
        self.pool_bundle = pool_bundle

    @property
    def cancelled(self) -> bool:
        """Whether all of its jobs were cancelled."""
        return self.pool_bundle.cancelled

    def begin(self) -> None:
        """Note that a process is about to run them."""
        self.pool_bundle.begin()

    def end(self, value: Batch | None, report: ReportBundle) -> None:
        """Report the records of its jobs, with those of jobs that were left out."""
        records = None if value is None else open_batch(value)
        if records is not None:
            records.others.update(self.pool_bundle.refused)
        self.pool_bundle.end(records)
        report(EndedBundle(self.pool_bundle, records))


class Processes:
    """Runs jobs by ``dask.multiprocessing.get``.

    Parameters
    ----------
    slots
        Number of processes.
    run_id
        Names the run in every key.
    verify
        Whether results are unpickled once more where they were made.

    Raises
    ------
    FlowDefinitionError
        A task cannot be pickled.
    """

    live = False

    def __init__(self, slots: int, plan: Plan, run_id: str, verify: bool = False) -> None:
        self.slots = slots
        self.tasks = pickle_tasks(plan)
        self._payload_files = PayloadFiles()
        shared = SharedValues(lambda held: self._payload_files.add(_reference(held)), first=_reference)
        self.options = LoweringOptions(run_id, sys.maxsize, verify, _reference, shared.reference)
        self.deaths: Counter[tuple[int, int, int]] = Counter()
        self._chains: dict[int, PackedChain] = {}
        self._lock = threading.Lock()
        self._shared_pool = ProcessPool(slots)
        self._solo_pool = ProcessPool(1)
        self._compared = ComparedTasks()
        self._compare_modules([s for s in plan.steps if s.literal is None])

    # -- running ---------------------------------------------------------------------------------------------------

    def run(self, pool_jobs: Sequence[PoolJob], report: Report, ahead: int, first: CallsAhead | None) -> None:
        """Run jobs in the pool; a job that has to run alone is the only one, and has a pool of its own."""
        graph: dict[Key, Any] = {}
        nodes: dict[Key, GraphNode] = {}
        for pool_job in pool_jobs:
            self._lower(pool_job, graph, nodes, report)
        if graph:
            pool = self._solo_pool if pool_jobs[0].job.solo else self._shared_pool
            self._get(graph, nodes, report, pool, self.slots + ahead, first)

    def run_bundle(self, pool_bundle: PoolBundle, report: ReportBundle, ahead: int) -> None:
        """Run a bundle in the pool, as one task."""
        bundle = pool_bundle.bundle
        submission = 0 if bundle.columns is not None else bundle.jobs[0].submission
        key: Key = (f"{bundle.chain.steps[0].slug}-{self.options.run_id}", f"batch-{bundle.number}", submission)
        lowered = lower_batch(bundle, self._chain(bundle.chain), key, self.options)
        pool_bundle.refused = lowered.refused
        if lowered.graph:
            nodes: dict[Key, GraphNode] = {key: BatchNode(pool_bundle)}
            self._get(lowered.graph, nodes, report, self._shared_pool, self.slots + ahead, None)
        else:
            steps, others = len(bundle.chain.steps), dict[int, Any](lowered.refused)
            records = BundleRecords(None, [[]] * steps, [()] * steps, [None] * steps, others)
            report(EndedBundle(pool_bundle, records))

    def _get(
        self,
        graph: dict[Key, Any],
        nodes: Mapping[Key, GraphNode],
        report: Callable[[Any], None],
        pool: ProcessPool,
        room: int,
        first: CallsAhead | None,
    ) -> None:
        view = pool.view(room, first)
        inner = {key for node in graph.values() for key in node.dependencies}
        try:
            with view.group.watched():
                dask.multiprocessing.get(
                    graph,
                    [key for key in graph if key not in inner],  # Dask keeps the values of these to the end
                    pool=view,
                    optimize_graph=False,
                    chunksize=1,
                    func_dumps=_dumps,
                    func_loads=pickle.loads,
                    callbacks=[_callbacks(nodes, report)],
                )
        except BrokenProcessPool as error:
            raise pool.drop(view) from error

    def _lower(self, pool_job: PoolJob, graph: dict[Key, Any], nodes: dict[Key, GraphNode], report: Report) -> None:
        job = _remainder(pool_job)
        lowered = lower(job, self._chain(job.chain), self.options)
        graph.update(lowered.graph)
        made = (OneStep(pool_job, position) for position in job.positions if position in lowered.made)
        nodes.update(zip(lowered.graph, made, strict=True))
        if lowered.refused:
            for position, record in (*lowered.refused, *not_ready(job, lowered)):
                report((pool_job, position, record))

    def _chain(self, spec: ChainSpec) -> PackedChain:
        with self._lock:
            packed = self._chains.get(spec.ident)
            if packed is None:
                packed = self._chains[spec.ident] = self._pack(spec)
            return packed

    def _compare_modules(self, steps: Iterable[Step | StepSpec]) -> None:
        """Let no process run another version of the user's own modules than this one, of tasks that are new.

        Raises
        ------
        EnvironmentMismatch
            This process runs an older version than the one that others would import.
        """
        new = self._compared.add(steps, self.tasks)
        wanted = reached([self.tasks[step.number] for step in new], [step.task.run for step in new]) if new else {}
        text = stale_here(wanted)
        if text is not None:
            raise EnvironmentMismatch(text)
        newest = max((changed_at(c.file) for c in wanted.values() if os.path.exists(c.file)), default=0.0)
        for pool in (self._shared_pool, self._solo_pool):
            pool.renew(newest)

    def _pack(self, spec: ChainSpec) -> PackedChain:
        # The record of each step is read by itself here, so no result needs those of earlier steps.
        every = spec.replace(wanted=frozenset(range(len(spec.steps))))
        add_task_payloads(spec, self.tasks)
        self._compare_modules(spec.steps)
        payload, held = pack_chain(every, self.tasks)
        reference = self._payload_files.add(payload) if len(payload) > INLINE_CHAIN else payload
        return PackedChain(reference, tuple(self._payload_files.add(_reference(h)) for h in held), item_inputs(spec))

    # -- losses ----------------------------------------------------------------------------------------------------

    def lost(self, pool_jobs: Sequence[PoolJob], error: BaseException) -> tuple[list[Receipt], list[PoolJob]]:
        """Return what became of jobs whose graph broke; those that no process had begun run again.

        Raises
        ------
        FlowDefinitionError
            The processes ended before they were ready.
        EnvironmentMismatch
            They would run other versions of modules than this process.
        """
        if isinstance(error, EnvironmentMismatch):
            raise error
        if not isinstance(error, PoolBroke):
            return [cluster_error(pool_job, error) for pool_job in pool_jobs], []
        if not error.was_ready:
            raise FlowDefinitionError(
                "the worker processes ended before they were ready; their error output says why. "
                'Does `python -c "import prefectish.executors.processes"` work here? scheduler="threads" needs none'
            ) from error
        receipts = [Receipt(b.job, (), self._death(b, error)) for b in pool_jobs if b.running]
        return receipts, [pool_job for pool_job in pool_jobs if not pool_job.running]

    def _death(self, pool_job: PoolJob, broke: PoolBroke) -> Lost:
        job = pool_job.job
        position = next(p for p in job.positions if pool_job.running >> p & 1)
        step = job.chain.steps[position].number
        self.deaths[step, job.index, position] += 1
        deaths = self.deaths[step, job.index, position]
        return Lost(LossCause.KILLED_WORKER, deaths, position, detail=broke.text, evidence=broke.evidence)

    def recall(self, pool_jobs: Sequence[PoolJob]) -> Mapping[Job, int] | None:
        """Let no further step of these jobs begin; return masks of those that have, None if not all answered."""
        jobs = [pool_job.job for pool_job in pool_jobs]
        bodies = self._shared_pool.recall([key_of(job) for job in jobs])
        return None if bodies is None else begun_masks(jobs, bodies)

    def stop(self) -> None:
        """End the processes with whatever they do."""
        self._solo_pool.close(keep=False)
        self._shared_pool.close(keep=False)
        self._payload_files.close()

    def close(self) -> None:
        """Keep the processes for the next run."""
        self._solo_pool.close(keep=False)
        self._shared_pool.close(keep=True)
        self._payload_files.close()


def _reference(held: Any) -> Any:
    """Return what a graph holds in the place of a reference: a value in the form of a step's result."""
    return StepResult(0, Record(Success(None, held))) if is_a(held, (Encoded, str, bytes)) else held


def _remainder(pool_job: PoolJob) -> Job:
    """Return a job for the steps that have not ended."""
    job = pool_job.job
    left = tuple(p for p in job.positions if p not in pool_job.states)
    if left == job.positions:
        return job
    starts = {p: state for p, state in job.starts.items() if p in left}
    return job.replace(positions=left, given=pool_job.states, starts=starts)


def _callbacks(nodes: Mapping[Key, GraphNode], report: Callable[[Any], None]) -> tuple[Any, ...]:
    """Return callbacks for Dask's scheduler that note what the processes run, and report what they return."""

    def before(key: Key, graph: Any, state: Any) -> None:
        if nodes[key].cancelled:
            graph[key] = skip
        else:
            nodes[key].begin()

    def after(key: Key, value: Any, graph: Any, state: Any, worker: Any) -> None:
        if not state["waiting_data"].get(key):
            state["cache"][key] = None  # no task of the graph reads it any more, and the graph may take long to end
        nodes[key].end(value, report)

    return (None, in_given_order(nodes), before, after, None)


def skip(values: Any) -> None:
    """Stand in for a step that was cancelled before it started."""
