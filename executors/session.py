"""A run on a cluster: jobs submitted and collected in groups.

A message, a future and a callback for each child are what a big map cannot afford. A key's value is read when its key
reached the client, and its future is dropped at once, unless the value is large: such a value stays on its worker, the
client reads a receipt of it, and holds the key until its last consumer ran.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from distributed import Client, Future

from prefectish.engine.capture import capture
from prefectish.engine.jobs.envelope import Encoded
from prefectish.engine.jobs.job import ChainSpec, Job, Record
from prefectish.engine.jobs.protocol import LossCause, Lost, Receipt
from prefectish.engine.jobs.references import Held, LeftOnWorker
from prefectish.engine.plan.placement import Placement, placement_of
from prefectish.engine.plan.steps import Plan
from prefectish.engine.wire.messages import Batch, StepResult, open_batch
from prefectish.engine.wire.pack import HEAVY, add_task_payloads, pack_chain, pickle_tasks
from prefectish.engine.worker.attempt import PENDING
from prefectish.errors import SchedulerLost
from prefectish.executors.connect import Connection
from prefectish.executors.futures import release, submit_graph
from prefectish.executors.load_check import BUSY_WAIT, IDLE_WAIT, LARGE, LoadFailure, try_chain
from prefectish.executors.lost_keys import LossWatch, NoAnswer, describe_loss
from prefectish.executors.lower import (
    Key,
    LoweringOptions,
    PackedChain,
    blob_graph,
    expression,
    item_inputs,
    lower,
    lower_batch,
    not_ready,
    receipt_graph,
    take_graph,
)
from prefectish.executors.waker import Waker

#: A chain's bytes up to this size go with every call; larger ones get a key of their own.
INLINE_CHAIN = 4096
#: Keys collected at once, if there are as many: what reading costs (about 3 ms, over all processes) is shared by them.
GROUP = 250
#: Longest time that finished children wait for more of their group, in seconds for each open key, and at most.
GROUP_WAIT = 1e-3
LONGEST_GROUP_WAIT = 1.0
#: Time between looks at the open keys, in seconds a key: looking at one costs a hundredth of that.
POLL = 25e-6
LONGEST_POLL = 0.025
#: How long the cluster may take to hand over small values before it is asked again, at first and at most, in seconds.
PATIENCE = 5.0
LONGEST_PATIENCE = 80.0
#: A trial is asked for before anything of the run, whatever its priorities.
TRIAL_PRIORITY = 1e9
#: What a connection carries at least, in bytes a second.
SLOWEST_LINK = 10e6
_PENDING = frozenset({"pending", "lost"})
#: Open keys below which the session waits for the next one instead of polling.
FEW = 16
#: Keys that a run may submit before their order hides which step is the deeper one.
HEIGHT = 1 << 32
#: Bytes of small results that ride to the client in one run; beyond it they stay.
INLINE_TOTAL = 256 << 20
#: What a value weighs beside its result, in bytes: a value is large if its result is.
OVERHEAD = 4096
#: Bytes of large results that are fetched before a client of ours is closed.
FETCH_TOTAL = 256 << 20


class OpenKey:
    """One key whose value the session will read.

    Attributes
    ----------
    jobs
        The job it belongs to, or the jobs of a batch in order.
    position
        The step, None for a batch.
    value
        For a receipt: the key it is a receipt of, and its size in bytes.
    known
        What the client knows of the key; the session looks at it far more often than it does anything else.
    reads
        Whether it reads a value that was sent by itself.
    """

    __slots__ = ("future", "jobs", "known", "position", "reads", "value")

    def __init__(
        self, jobs: Sequence[Job], position: int | None, future: Future, value: tuple[Future, int] | None = None
    ) -> None:
        self.jobs = jobs
        self.position = position
        self.future = future
        self.value = value
        self.known: Any = None
        self.reads = False


class BatchPart:
    """Where a large result of a batch is."""

    __slots__ = ("batch", "number", "position")

    def __init__(self, batch: Future, number: int, position: int) -> None:
        self.batch = batch
        self.number = number
        self.position = position


class ClusterSession:
    """A run on a cluster.

    Attributes
    ----------
    window
        Branches of maps open at once.
    slots
        Threads of the cluster.
    opens
        Keys to read, by key.
    chains
        Packed chains, by number.
    """

    live = False

    def __init__(
        self,
        connection: Connection,
        plan: Plan,
        run_id: str,
        *,
        window: int,
        slots: int,
        max_inline_bytes: int,
        no_workers_timeout: float,
        verify_results: bool,
        stall_warning: float | None,
    ) -> None:
        self.connection = connection
        self.client: Client = connection.client
        self.run_id = run_id
        self.window = window
        self.slots = slots
        self.tasks = pickle_tasks(plan)
        self.terms = LoweringOptions(run_id, max_inline_bytes, verify_results, self._reference)
        self.opens: dict[Key, OpenKey] = {}
        self.bell = Waker(self.client.loop.add_callback)
        self.chains: dict[int, tuple[PackedChain, Placement]] = {}
        self.watch = LossWatch(connection, run_id, no_workers_timeout, stall_warning)
        self._patience = PATIENCE
        self._done: list[Receipt] = []
        self._first: float | None = None  # since when something is done that was not read
        self._count = 0
        self._ranked = 0
        self._heights: dict[str, int] = {}
        self._inlined = 0

    # -- submitting ------------------------------------------------------------------------------------------------

    def submit(self, jobs: Sequence[Job]) -> None:
        """Send the graphs of `jobs` to the scheduler, one message for each placement."""
        graphs: dict[Placement, tuple[dict[Key, Any], dict[Key, OpenKey]]] = {}
        try:
            self._lower_all(jobs, graphs)
        except SchedulerLost as fault:  # nobody takes what the jobs need
            lost = Lost(LossCause.NO_WORKERS, detail=str(fault), fatal=True)
            self._done.extend(Receipt(job, (), lost) for job in jobs)
            return
        for placement, (graph, opens) in graphs.items():
            if graph:
                for key, future in self._get(graph, opens, placement).items():
                    opens[key].future = future
                    self._open(key, opens[key])

    def _lower_all(
        self, jobs: Sequence[Job], graphs: dict[Placement, tuple[dict[Key, Any], dict[Key, OpenKey]]]
    ) -> None:
        """Make the graphs of jobs, by where they may run."""
        self._try_new_maps(jobs)
        batches: dict[int, list[Job]] = {}
        for job in jobs:
            packed, placement = self._chain(job.chain)
            if job.batch is not None:
                batches.setdefault(job.batch, []).append(job)
            else:
                self._add(job, packed, *graphs.setdefault(placement, ({}, {})))
        for number, members in batches.items():
            packed, placement = self._chain(members[0].chain)
            self._add_batch(number, members, packed, *graphs.setdefault(placement, ({}, {})))

    def _try_new_maps(self, jobs: Sequence[Job]) -> None:
        """See whether a worker can load what a large map that begins with these jobs needs.

        Raises
        ------
        EnvironmentMismatch
            None of its children could run.
        """
        if len(jobs) < LARGE:
            return
        begins: dict[int, list[Job]] = {}
        for job in jobs:
            if job.index >= 0 and job.chain.ident not in self.chains:
                begins.setdefault(job.chain.ident, []).append(job)
        for members in begins.values():
            if len(members) >= LARGE:
                chain = members[0].chain
                add_task_payloads(chain, self.tasks)
                try_chain(chain, members, self.tasks, partial(self._try, placement_of(chain.steps[0].task)))

    def _try(self, placement: Placement, make: Callable[[Key], Mapping[Key, Any]]) -> list[LoadFailure] | None:
        """Run a trial on a worker; None if nothing came of it in time."""
        key = self._key("trial")
        future = self._get(make(key), [key], Placement(placement.resources, placement.workers, TRIAL_PRIORITY))[key]
        self.connection.wait_any([future], BUSY_WAIT if self.opens else IDLE_WAIT)
        if future.status != "finished":
            return None
        return [LoadFailure(*fault) for fault in future.result(timeout=IDLE_WAIT)]

    def _open(self, key: Key, entry: OpenKey) -> None:
        entry.known = self.client.futures[key]
        self.opens[key] = entry

    def _add(self, job: Job, chain: PackedChain, graph: dict[Key, Any], opens: dict[Key, OpenKey]) -> None:
        lowered = lower(job, chain, self.terms)
        graph.update(lowered.graph)
        reads = lowered.reads or isinstance(chain.blob, Future)
        for position, key in lowered.wanted.items():
            opens[key] = OpenKey((job,), position, None)
            opens[key].reads = reads
        if lowered.refused:
            self._done.append(Receipt(job, [*lowered.refused, *not_ready(job, lowered)]))

    def _add_batch(
        self, number: int, jobs: Sequence[Job], chain: PackedChain, graph: dict[Key, Any], opens: dict[Key, OpenKey]
    ) -> None:
        key: Key = (f"{jobs[0].chain.steps[0].slug}-{self.run_id}", f"batch-{number}", jobs[0].submission)
        lowered = lower_batch(jobs, chain, key, self.terms)
        graph.update(lowered.graph)
        if lowered.graph:
            opens[key] = OpenKey(lowered.taken, None, None)
            opens[key].reads = lowered.reads or isinstance(chain.blob, Future)
        self._done.extend(Receipt(job, records) for job, records in lowered.refused)

    def _get(
        self, graph: Mapping[Key, Any], keys: Iterable[Key], placement: Placement | None = None
    ) -> dict[Key, Future]:
        self._count += 1
        options: dict[str, Any] = {}
        if placement is not None:
            if placement.resources:
                options["resources"] = dict(placement.resources)
            if placement.workers:
                options["workers"] = list(placement.workers)
            if placement.priority:
                options["user_priority"] = placement.priority
        named = expression(graph, f"{self.run_id}-{self._count}")
        return submit_graph(self.client, named, keys, self._ranks(graph), options)

    def _ranks(self, graph: Mapping[Key, Any]) -> dict[Key, int]:
        """Return the order in which a worker takes what waits there, smallest first: deep steps, then as submitted."""
        ranks = {}
        for key in graph:
            self._ranked += 1
            ranks[key] = self._heights.get(key[0], 0) + self._ranked
        return ranks

    def _key(self, kind: str) -> Key:
        self._count += 1
        return (f"{kind}-{self.run_id}", self._count, 0)

    def _chain(self, spec: ChainSpec) -> tuple[PackedChain, Placement]:
        known = self.chains.get(spec.ident)
        if known is None:
            for step in spec.steps:
                self._heights[f"{step.slug}-{self.run_id}"] = -step.number * HEIGHT
            known = self.chains[spec.ident] = (self._pack(spec), placement_of(spec.steps[0].task))
        return known

    def _pack(self, spec: ChainSpec) -> PackedChain:
        blob, held = pack_chain(spec, self.tasks)
        reference: Any = blob
        if len(blob) > INLINE_CHAIN:
            reference = self._send_blob(blob)
        return PackedChain(reference, tuple(self._reference(h) for h in held), item_inputs(spec))

    def _send_blob(self, blob: bytes) -> Future:
        """Give a chain's bytes a key: of a task, which Dask can run again; what is large goes past the scheduler."""
        if len(blob) > HEAVY:
            return self._scatter(blob, len(blob))
        key = self._key("chain")
        return self._get(blob_graph(key, blob), [key])[key]

    def _reference(self, held: Any) -> Any:
        """Return a graph's reference to a value that does not go with the call."""
        if isinstance(held, Held):
            if isinstance(held.handle, BatchPart):
                part = held.handle
                key = self._key("part")
                held.handle = self._get(take_graph(part.batch, part.number, part.position, key), [key])[key]
            return held.handle
        if isinstance(held, Encoded | str | bytes):
            from prefectish.engine.state import Success

            carry = StepResult(0, Record(Success(None, held)))
            return self._scatter(carry, carry.nbytes)
        return held

    def _scatter(self, value: Any, nbytes: int) -> Future:
        """Send a value to a worker; one that died a moment ago is tried for half a minute, so another is asked sooner.

        Raises
        ------
        SchedulerLost
            No worker took it.
        """
        limit, end = PATIENCE + nbytes / SLOWEST_LINK, time.monotonic() + self.watch.no_workers_timeout
        while True:
            try:
                scattered: Future = self.watch.wait(self.client._scatter(value, hash=False, timeout=limit), limit + 1)
            except (NoAnswer, OSError) as fault:  # dask.utils' TimeoutError is an OSError
                limit *= 2
                if time.monotonic() > end:
                    raise SchedulerLost(f"no worker took {nbytes} bytes: {fault}") from fault
            else:
                return scattered

    # -- collecting ------------------------------------------------------------------------------------------------

    def receipts(self, timeout: float | None) -> Sequence[Receipt]:
        """Wait until keys are done and read them in a group."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._done:
            # a key whose value was "lost" with a worker is made anew, so it is pending too
            ready = [key for key, entry in self.opens.items() if entry.known.status not in _PENDING]
            now = time.monotonic()
            if ready:
                self._first = self._first or now
                patience = min(LONGEST_GROUP_WAIT, GROUP_WAIT * len(self.opens))
                if self._enough(ready) or now - self._first > patience:
                    self._first = None
                    self.watch.progressed(now)
                    self._collect(ready)
                    continue
            else:
                self._look_around(now)
            if self.bell.heard() or (end is not None and now >= end):
                break
            self._pause(end, now)
        done, self._done = self._done, []
        return done

    def _enough(self, ready: Sequence[Key]) -> bool:
        """Whether to read what is done now: a group, or what a flow may wait for, a single task or a batch."""
        if len(ready) >= min(GROUP, len(self.opens) // 4 + 1):
            return True
        return any(entry.position is None or entry.jobs[0].index < 0 for entry in map(self.opens.__getitem__, ready))

    def _pause(self, end: float | None, now: float) -> None:
        left = 0.5 if end is None else min(0.5, end - now)
        if len(self.opens) > FEW:
            self.bell.sleep(min(left, POLL * len(self.opens), LONGEST_POLL))
        elif self.opens:
            self.connection.wait_any([entry.future for entry in self.opens.values()], left, self.bell)
        else:
            self.bell.sleep(left)

    def wake(self) -> None:
        """End the wait for receipts, from another thread."""
        self.bell.ring()

    def _look_around(self, now: float) -> None:
        """See whether what is open can still end: whether there is a scheduler, and workers that may run it."""
        lost = self.watch.look(now, self.opens)
        for key, loss in lost.items():
            entry = self.opens.pop(key)
            self._done.extend(Receipt(job, (), loss) for job in entry.jobs)

    def _collect(self, ready: Sequence[Key]) -> None:
        """Read what is done: small values at once, a receipt for each large one; what was lost is told."""
        finished = []
        for key in ready:
            if self.opens[key].future.status == "finished":
                finished.append(key)
            else:
                self._lose(key)
        if not finished:
            return
        try:
            values, large = self.watch.wait(self._read(finished), self._patience)
        except NoAnswer:  # a worker died a moment ago, and Dask tries it for half a minute; what it had is made anew
            self._patience = min(2 * self._patience, LONGEST_PATIENCE)
            return
        except SchedulerLost:
            return  # the next look tells
        self._patience = PATIENCE
        for key, nbytes in large.items():
            self._ask_receipt(key, nbytes)
        release(self.client, [future for key, value in values.items() if (future := self._take(key, value))])

    async def _read(self, keys: list[Key]) -> tuple[dict[Key, Any], dict[Key, int]]:
        """Ask the scheduler how large the values are and read the small ones; a value that was lost stays open."""
        sizes = await self._sizes(keys)
        large = {key: size for key, size in sizes.items() if self._is_large(key, size)}
        small = [key for key in sizes if key not in large]
        values: dict[Key, Any] = {}
        while small:
            answer = await self.client.scheduler.gather(keys=small)
            if answer["status"] == "OK":
                values = answer["data"]
                break
            gone = set(answer["keys"])
            self._reset(gone)
            small = [key for key in small if key not in gone]
        return values, large

    def _is_large(self, key: Key, size: int) -> bool:
        entry = self.opens[key]
        if entry.value is not None:
            return False
        limit = self.terms.keep if self._inlined < INLINE_TOTAL else 0
        return size > (limit // 8 + 256) * len(entry.jobs) + OVERHEAD + limit

    async def _sizes(self, keys: list[Key]) -> dict[Key, int]:
        scheduler = self.client.scheduler
        try:
            sizes: dict[Key, int] = await scheduler.nbytes(keys=keys, summary=False)
        except KeyError:  # one key of the group is gone: find out which
            sizes = {}
            for key in keys:
                try:
                    sizes.update(await scheduler.nbytes(keys=[key], summary=False))
                except KeyError:
                    sizes[key] = -1
        self._reset(key for key, size in sizes.items() if size < 0)
        return {key: size for key, size in sizes.items() if size >= 0}

    def _reset(self, keys: Iterable[Key]) -> None:
        """Mark keys pending again: their values were lost after they were reported, Dask makes them anew."""
        for key in keys:
            self.client._send_to_scheduler({"op": "report-key", "key": key})
            state = self.client.futures.get(key)
            if state is not None:
                state.reset()

    def _ask_receipt(self, key: Key, nbytes: int) -> None:
        """Have the receipt of a large value made beside the value."""
        entry = self.opens.pop(key)
        receipt = self._key("receipt")
        future = self._get(receipt_graph(key, receipt), [receipt])[receipt]
        self._open(receipt, OpenKey(entry.jobs, entry.position, future, (entry.future, nbytes)))

    def _take(self, key: Key, value: StepResult | Batch) -> Future | None:
        """Make receipts of a value; return its future if nobody needs it any more."""
        entry = self.opens.pop(key)
        if entry.value is None:
            self._inlined += value.nbytes
        source = entry.future if entry.value is None else entry.value[0]
        if isinstance(value, Batch):
            for number, (job, records) in enumerate(zip(entry.jobs, open_batch(value), strict=True)):
                self._done.append(Receipt(job, self._unpack_batch(job, number, records, value, source)))
            return None
        record, job = value.record, entry.jobs[0]
        stays = isinstance(record.state._result, LeftOnWorker)
        if stays:
            record = _held(record, job.chain.steps[value.position].label(job.index), source)
        self._done.append(Receipt(job, [*value.small, (value.position, record)]))
        return None if stays else entry.future

    def _unpack_batch(
        self, job: Job, number: int, records: list[tuple[int, Record]] | None, batch: Batch, source: Future
    ) -> list[tuple[int, Record]]:
        """Return the records of one branch of a batch; one that was not started goes back as it came."""
        if records is None:
            return [(p, Record(job.starts.get(p, PENDING))) for p in job.positions]
        if len(records) != len(job.positions) or records[0][0] != job.positions[0]:
            records = [(p, record) for p, (_, record) in zip(job.positions, records, strict=True)]
        return [
            (p, self._unstayed(job, number, p, record, batch, source))
            if isinstance(record.state._result, LeftOnWorker)
            else (p, record)
            for p, record in records
        ]

    def _unstayed(self, job: Job, number: int, p: int, record: Record, batch: Batch, source: Future) -> Record:
        here = batch.large.get((number, p))
        if here is not None:
            return record.with_state(record.state.replace(result=here))
        return _held(record, job.chain.steps[p].label(job.index), BatchPart(source, number, p))

    # -- losses and ends -------------------------------------------------------------------------------------------

    def _lose(self, key: Key) -> None:
        entry = self.opens[key]
        lost = describe_loss(entry.future, entry.jobs[0], self.watch, entry.reads)
        if lost is None:
            return
        del self.opens[key]
        if lost.cause is LossCause.INPUT_LOST:
            self.chains.pop(entry.jobs[0].chain.ident, None)  # its large inputs are sent again, from the client's copy
        self._done.extend(Receipt(job, (), lost) for job in entry.jobs)

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Forget jobs; running bodies end by themselves."""
        gone = {id(job) for job in jobs}
        keys = [key for key, entry in self.opens.items() if all(id(job) in gone for job in entry.jobs)]
        futures = [self.opens.pop(key).future for key in keys]
        if futures and self.client.status == "running":
            self.client.cancel(futures, force=True)

    def settle(self, held: Sequence[Held]) -> None:
        """Fetch large results before a client of ours is closed, up to a bound; the others are released."""
        if not self.connection.owned:
            return
        total = 0
        for result in held:
            total += result.nbytes
            if total > FETCH_TOTAL:
                result.release(f"the client that held it was closed, and {FETCH_TOTAL >> 20} MiB were fetched before")
            else:
                result.fetch()

    def close(self) -> None:
        """Let go of what is still open: nothing of the run starts any more."""
        futures = [entry.future for entry in self.opens.values()]
        self.opens.clear()
        self.chains.clear()
        if futures and self.client.status == "running":
            capture(self.client.cancel, futures)


def _held(record: Record, label: str, handle: Any) -> Record:
    stayed = record.state._result
    state = record.state.replace(result=Held(label, stayed.nbytes, handle, _fetch))
    return record.with_state(state)


def _fetch(handle: Any) -> Any:
    """Read a large result from the cluster."""
    if isinstance(handle, BatchPart):
        part = handle
        key: Key = (f"part-{part.batch.key[0]}", f"{part.batch.key[1]}-{part.number}-{part.position}", 0)
        named = expression(take_graph(part.batch, part.number, part.position, key), str(key))
        handle = submit_graph(part.batch.client, named, [key], {key: 0}, {})[key]
    carry: StepResult = handle.result()
    return carry.record.state._result
