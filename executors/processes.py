"""Processes for ``dask.multiprocessing.get``: everything crosses in envelopes, and a pool that breaks is replaced.

A graph is made as for a cluster (``lower``); nothing of the user's is pickled or loaded by Dask or by the pool. What is
large and the same for all branches of a map is written to a file once, and each process reads it once.
"""

from __future__ import annotations

import functools
import pickle
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

import dask.multiprocessing

from prefectish.engine.jobs.envelope import Encoded
from prefectish.engine.jobs.job import ChainSpec, Job, Record
from prefectish.engine.jobs.protocol import LossCause, Lost, Receipt
from prefectish.engine.plan.steps import Plan
from prefectish.engine.state import Success
from prefectish.engine.wire.messages import Batch, StepResult, open_batch
from prefectish.engine.wire.pack import pack_chain, pickle_tasks
from prefectish.engine.worker.attempt import PENDING
from prefectish.errors import FlowDefinitionError
from prefectish.executors.lower import Key, LoweringOptions, PackedChain, item_inputs, lower, lower_batch, not_ready
from prefectish.executors.payload_files import PayloadFiles
from prefectish.executors.pool_session import PoolJob, Report, cluster_error, in_given_order
from prefectish.executors.process_pool import PoolBroke, ProcessPool

#: A chain's bytes up to this size go with every call; larger ones go into a file.
INLINE_CHAIN = 4096

_dumps = functools.partial(pickle.dumps, protocol=5)


class GraphNode(Protocol):
    """What one key of a graph stands for."""

    @property
    def gone(self) -> bool:
        """Whether nobody wants it any more."""

    def begin(self) -> None:
        """Note that it is handed to a process."""

    def end(self, value: Any, report: Report) -> None:
        """Report what came back; None if it was not handed over."""


class OneStep:
    """One step of one branch; its key's value is a Carry."""

    __slots__ = ("branch", "position")

    def __init__(self, branch: PoolJob, position: int) -> None:
        self.branch = branch
        self.position = position

    @property
    def gone(self) -> bool:
        """Whether its branch was given up."""
        return self.branch.gone

    def begin(self) -> None:
        """Note that it is handed to a process."""
        self.branch.running |= 1 << self.position

    def end(self, value: StepResult | None, report: Report) -> None:
        """Report its record."""
        branch, position = self.branch, self.position
        branch.running &= ~(1 << position)
        record = None if value is None else value.record
        if record is not None:
            branch.states[position] = record.state
        report((branch, position, record))


class BatchNode:
    """All steps of several branches; its key's value is a Batch."""

    __slots__ = ("branches",)

    def __init__(self, branches: Sequence[PoolJob]) -> None:
        self.branches = branches

    @property
    def gone(self) -> bool:
        """Whether all of its branches were given up."""
        return all(branch.gone for branch in self.branches)

    def begin(self) -> None:
        """Note that they are handed to a process."""
        for branch in self.branches:
            branch.running = sum(1 << p for p in branch.job.positions)

    def end(self, value: Batch | None, report: Report) -> None:
        """Report the records of each branch; one that the process did not get to goes back as it came."""
        found = [None] * len(self.branches) if value is None else open_batch(value)
        for branch, records in zip(self.branches, found, strict=True):
            job = branch.job
            branch.running = 0
            for n, position in enumerate(job.positions):
                if value is None:
                    report((branch, position, None))
                elif records is None:
                    report((branch, position, Record(job.starts.get(position, PENDING))))
                else:
                    report((branch, position, records[n][1]))


class Processes:
    """Runs branches by ``dask.multiprocessing.get``.

    Parameters
    ----------
    slots
        Number of processes.
    run_id
        Names the run in every key.
    verify
        Whether results are loaded once more where they were made.

    Raises
    ------
    FlowDefinitionError
        A task cannot be pickled.
    """

    batches = True
    live = False

    def __init__(self, slots: int, plan: Plan, run_id: str, verify: bool = False) -> None:
        self.slots = slots
        self.tasks = pickle_tasks(plan)
        self.terms = LoweringOptions(run_id, sys.maxsize, verify, _reference)
        self.deaths: Counter[tuple[int, int, int]] = Counter()
        self._chains: dict[int, PackedChain] = {}
        self._parcels = PayloadFiles()
        self._lock = threading.Lock()
        self._shared = ProcessPool(slots)
        self._alone = ProcessPool(1)

    # -- running ---------------------------------------------------------------------------------------------------

    def run(self, branches: Sequence[PoolJob], report: Report, ahead: int) -> None:
        """Run branches in the pool; one that has to run alone comes by itself, and gets a pool to itself."""
        graph: dict[Key, Any] = {}
        errands: dict[Key, GraphNode] = {}
        if branches[0].job.batch is not None:
            self._lower_batch(branches, graph, errands, report)
        else:
            for branch in branches:
                self._lower(branch, graph, errands, report)
        if graph:
            self._get(graph, errands, report, ahead, self._alone if branches[0].job.solo else self._shared)

    def _get(
        self, graph: dict[Key, Any], errands: Mapping[Key, GraphNode], report: Report, ahead: int, pool: ProcessPool
    ) -> None:
        view = pool.view(self.slots + ahead)
        inner = {key for node in graph.values() for key in node.dependencies}
        try:
            with view.generation.watched():
                dask.multiprocessing.get(
                    graph,
                    [key for key in graph if key not in inner],  # Dask keeps the values of those to the end
                    pool=view,
                    optimize_graph=False,
                    chunksize=1,
                    func_dumps=_dumps,
                    func_loads=pickle.loads,
                    callbacks=[_callbacks(errands, report)],
                )
        except BrokenProcessPool as error:
            raise pool.drop(view) from error

    def _lower(self, branch: PoolJob, graph: dict[Key, Any], errands: dict[Key, GraphNode], report: Report) -> None:
        job = _remainder(branch)
        lowered = lower(job, self._chain(job.chain), self.terms)
        graph.update(lowered.graph)
        made = (OneStep(branch, position) for position in job.positions if position in lowered.made)
        errands.update(zip(lowered.graph, made, strict=True))
        if lowered.refused:
            for position, record in (*lowered.refused, *not_ready(job, lowered)):
                report((branch, position, record))

    def _lower_batch(
        self, branches: Sequence[PoolJob], graph: dict[Key, Any], errands: dict[Key, GraphNode], report: Report
    ) -> None:
        jobs = [branch.job for branch in branches]
        first = jobs[0]
        key: Key = (f"{first.chain.steps[0].slug}-{self.terms.run_id}", f"batch-{first.batch}", first.submission)
        lowered = lower_batch(jobs, self._chain(first.chain), key, self.terms)
        branch_of = dict(zip(jobs, branches, strict=True))
        graph.update(lowered.graph)
        errands[key] = BatchNode([branch_of[job] for job in lowered.taken])
        for job, records in lowered.refused:
            for position, record in records:
                report((branch_of[job], position, record))

    def _chain(self, spec: ChainSpec) -> PackedChain:
        with self._lock:
            packed = self._chains.get(spec.ident)
            if packed is None:
                packed = self._chains[spec.ident] = self._pack(spec)
            return packed

    def _pack(self, spec: ChainSpec) -> PackedChain:
        # The record of each step is read by itself here, so none has to ride along with later ones.
        every = spec.replace(wanted=frozenset(range(len(spec.steps))))
        blob, held = pack_chain(every, self.tasks)
        reference = self._parcels.add(blob) if len(blob) > INLINE_CHAIN else blob
        return PackedChain(reference, tuple(self._parcels.add(_reference(h)) for h in held), item_inputs(spec))

    # -- losses ----------------------------------------------------------------------------------------------------

    def lost(self, branches: Sequence[PoolJob], error: BaseException) -> tuple[list[Receipt], list[PoolJob]]:
        """Return what became of branches whose slice broke; those that no process had seen run again.

        Raises
        ------
        FlowDefinitionError
            The processes ended before they were ready.
        """
        if not isinstance(error, PoolBroke):
            return [cluster_error(branch, error) for branch in branches], []
        if not error.was_ready:
            raise FlowDefinitionError(
                "the worker processes ended before they were ready; what they said is on the error output. "
                'Does `python -c "import prefectish.executors.processes"` work here? scheduler="threads" needs none'
            ) from error
        receipts = [Receipt(b.job, (), self._death(b, error)) for b in branches if b.running]
        return receipts, [branch for branch in branches if not branch.running]

    def _death(self, branch: PoolJob, broke: PoolBroke) -> Lost:
        job = branch.job
        position = next(p for p in job.positions if branch.running >> p & 1)
        step = job.chain.steps[position].number
        self.deaths[step, job.index, position] += 1
        deaths = self.deaths[step, job.index, position]
        return Lost(LossCause.KILLED_WORKER, deaths, position, detail=broke.last_words, evidence=broke.evidence)

    def stop(self) -> None:
        """End the processes with whatever they do."""
        self._alone.close(keep=False)
        self._shared.close(keep=False)
        self._parcels.close()

    def close(self) -> None:
        """Keep the processes for the next run."""
        self._alone.close(keep=False)
        self._shared.close(keep=True)
        self._parcels.close()


def _reference(held: Any) -> Any:
    """Return what a call brings for a hole: the value of a key, as the key's reader would get it."""
    return StepResult(0, Record(Success(None, held))) if isinstance(held, Encoded | str | bytes) else held


def _remainder(branch: PoolJob) -> Job:
    """Return what is left to do of a branch."""
    job = branch.job
    left = tuple(p for p in job.positions if p not in branch.states)
    if left == job.positions:
        return job
    starts = {p: state for p, state in job.starts.items() if p in left}
    return job.replace(positions=left, given=branch.states, starts=starts)


def _callbacks(errands: Mapping[Key, GraphNode], report: Report) -> tuple[Any, ...]:
    """Return callbacks of Dask's scheduler that note what is handed to the processes, and report what comes back."""

    def before(key: Key, graph: Any, state: Any) -> None:
        if errands[key].gone:
            graph[key] = skip
        else:
            errands[key].begin()

    def after(key: Key, value: Any, graph: Any, state: Any, worker: Any) -> None:
        if not state["waiting_data"].get(key):
            state["cache"][key] = None  # nothing in the slice reads it any more, and the slice may take long to end
        errands[key].end(value, report)

    return (None, in_given_order(errands), before, after, None)


def skip(values: Any) -> None:
    """Stand in for a step that was given up before it started."""
