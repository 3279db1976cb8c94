"""Processes for ``dask.multiprocessing.get``: everything crosses in envelopes, and a pool that breaks is replaced.

A graph is made as for a cluster (``lower``); nothing of the user's is pickled or loaded by Dask or by the pool. What is
large and the same for all branches of a map is written to a file once, and each process reads it once.
"""

from __future__ import annotations

import functools
import pickle
import shutil
import tempfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import dask.multiprocessing

from prefectish.engine.envelope import Encoded
from prefectish.engine.executor import Job, LaneSpec, Lost, Receipt, Record
from prefectish.engine.plan import Plan
from prefectish.engine.state import Success
from prefectish.engine.wire import Carry, pack_lane, pickle_tasks
from prefectish.errors import FlowDefinitionError
from prefectish.executors.lower import Key, PackedLane, Terms, item_inputs, lower, not_ready
from prefectish.executors.process_pool import PoolBroke, ProcessPool
from prefectish.executors.slices import Branch, Report, cluster_error, in_given_order

#: A lane's bytes up to this size go with every call; larger ones go into a file.
INLINE_LANE = 4096
#: Files that a process keeps in memory.
OPEN_PARCELS = 16

dumps = functools.partial(pickle.dumps, protocol=5)


class Parcel:
    """A value in a file; what unpickles in a process is the value."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open_parcel, (self.path,)


_parcels: OrderedDict[str, Any] = OrderedDict()


def open_parcel(path: str) -> Any:
    """Return the value in a file; a process reads it once."""
    if path not in _parcels:
        with open(path, "rb") as file:
            _parcels[path] = pickle.load(file)
        while len(_parcels) > OPEN_PARCELS:
            _parcels.popitem(last=False)
    return _parcels[path]


class Parcels:
    """The files of a run, in a folder that only this user can read: whoever writes there runs code in the processes."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._count = 0

    def add(self, value: Any) -> Parcel:
        """Write a value."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="prefectish-"))
        self._count += 1
        path = self._folder / f"{self._count}.pickle"
        with open(path, "wb") as file:
            pickle.dump(value, file, protocol=5)
        return Parcel(str(path))

    def close(self) -> None:
        """Delete the files."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class Processes:
    """Runs branches by ``dask.multiprocessing.get``.

    Parameters
    ----------
    slots : number of processes.
    run_id : names the run in every key.

    Raises
    ------
    FlowDefinitionError : a task cannot be pickled.
    """

    def __init__(self, slots: int, plan: Plan, run_id: str) -> None:
        self.slots = slots
        self.tasks = pickle_tasks(plan)
        self.terms = Terms(run_id, 0, False, _reference)
        self.deaths: Counter[tuple[int, int, int]] = Counter()
        self._lanes: dict[int, PackedLane] = {}
        self._parcels = Parcels()
        self._lock = threading.Lock()
        self._shared = ProcessPool(slots)
        self._alone = ProcessPool(1)

    # -- running ---------------------------------------------------------------------------------------------------

    def run(self, branches: Sequence[Branch], report: Report, ahead: int) -> None:
        """Run branches in the pool; one that has to run alone is by itself, and gets a pool to itself."""
        graph: dict[Key, Any] = {}
        where: dict[Key, tuple[Branch, int]] = {}
        wanted: list[Key] = []
        for branch in branches:
            self._lower(branch, graph, where, wanted, report)
        if not graph:
            return
        pool = self._alone if branches[0].job.solo else self._shared
        view = pool.view(self.slots + ahead)
        try:
            dask.multiprocessing.get(
                graph,
                wanted,
                pool=view,
                optimize_graph=False,
                chunksize=1,
                func_dumps=dumps,
                func_loads=pickle.loads,
                callbacks=[_callbacks(where, report)],
            )
        except BrokenProcessPool as error:
            raise pool.drop(view) from error

    def _lower(
        self,
        branch: Branch,
        graph: dict[Key, Any],
        where: dict[Key, tuple[Branch, int]],
        wanted: list[Key],
        report: Report,
    ) -> None:
        job = _remainder(branch)
        lane = self._lane(job.lane)
        lowered = lower(job, lane, self.terms)
        refused = [*lowered.refused, *not_ready(job, lowered)] if lowered.refused else []
        graph.update(lowered.graph)
        wanted.extend(lowered.wanted.values())
        where.update(zip(lowered.graph, [(branch, p) for p in job.positions if p in lowered.made], strict=True))
        for position, record in refused:
            report((branch, position, record))

    def _lane(self, spec: LaneSpec) -> PackedLane:
        with self._lock:
            packed = self._lanes.get(spec.ident)
            if packed is None:
                packed = self._lanes[spec.ident] = self._pack(spec)
            return packed

    def _pack(self, spec: LaneSpec) -> PackedLane:
        blob, held = pack_lane(spec, self.tasks)
        reference = self._parcels.add(blob) if len(blob) > INLINE_LANE else blob
        return PackedLane(reference, tuple(self._parcels.add(_reference(h)) for h in held), item_inputs(spec))

    # -- losses ----------------------------------------------------------------------------------------------------

    def lost(self, branches: Sequence[Branch], error: BaseException) -> tuple[list[Receipt], list[Branch]]:
        """Return what became of branches whose slice broke; those that no process had seen run again.

        Raises
        ------
        FlowDefinitionError : the processes ended before they were ready.
        """
        if not isinstance(error, PoolBroke):
            return [cluster_error(branch, error) for branch in branches], []
        if not error.was_ready:
            raise FlowDefinitionError(
                "the worker processes ended before they were ready; what they said is on the error output. "
                'Does `python -c "import prefectish.executors.processes"` work here? scheduler="threads" needs none'
            ) from error
        receipts = [Receipt(b.job, (), self._death(b, error.last_words)) for b in branches if b.running]
        return receipts, [branch for branch in branches if not branch.running]

    def _death(self, branch: Branch, last_words: str) -> Lost:
        job = branch.job
        position = next(p for p in job.positions if branch.running >> p & 1)
        step = job.lane.steps[position].number
        self.deaths[step, job.index, position] += 1
        return Lost("killed-worker", self.deaths[step, job.index, position], position, detail=last_words)

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
    return Carry(0, Record(Success(None, held))) if isinstance(held, Encoded) else held


def _remainder(branch: Branch) -> Job:
    """Return what is left to do of a branch."""
    job = branch.job
    left = tuple(p for p in job.positions if p not in branch.states)
    if left == job.positions:
        return job
    starts = {p: state for p, state in job.starts.items() if p in left}
    return Job(job.lane, job.index, job.submission, left, job.items, branch.states, starts, job.solo, job.every_step)


def _callbacks(where: Mapping[Key, tuple[Branch, int]], report: Report) -> tuple[Any, ...]:
    """Return callbacks of Dask's scheduler that note what is handed to the processes, and report what comes back."""

    def before(key: Key, graph: Any, state: Any) -> None:
        branch, position = where[key]
        if branch.gone:
            graph[key] = skip
        else:
            branch.running |= 1 << position

    def after(key: Key, carry: Carry | None, graph: Any, state: Any, worker: Any) -> None:
        branch, position = where[key]
        branch.running &= ~(1 << position)
        record = None if carry is None else carry.record
        if record is not None:
            branch.states[position] = record.state
        if key in state["cache"] and not state["waiting_data"].get(key):
            state["cache"][key] = None  # nothing in the slice reads it any more, and the slice may take long to end
        report((branch, position, record))

    return (None, in_given_order, before, after, None)


def skip(values: Any) -> None:
    """Stand in for a step that was given up before it started."""
