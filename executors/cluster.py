"""DaskExecutor: a session over a distributed cluster.

Jobs are submitted and collected in groups: a message, a future and a callback for each child are what a big map cannot
afford. A key's value is read when its key reached the client, and its future is dropped at once, unless the value is large:
such a value stays on its worker, the client reads a receipt of it, and holds the key until its last consumer ran.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from distributed import Client, Future
from distributed import wait as wait_for_futures

from prefectish.engine.capture import Error, capture
from prefectish.engine.executor import Held, Job, LaneSpec, Lost, Receipt, Record
from prefectish.engine.plan import Plan
from prefectish.engine.wire import Carry, UnpackableInput, pack_lane, pickle_tasks
from prefectish.executors.connect import Connection, connect
from prefectish.executors.lower import (
    Key,
    PackedLane,
    Stayed,
    blob_graph,
    expression,
    item_inputs,
    lower,
    not_ready,
    receipt_graph,
)

#: A lane's bytes up to this size go with every call; larger ones get a key of their own.
INLINE_LANE = 4096
#: Keys collected at once, if there are as many: the cost of a message is shared by them.
GROUP = 100
#: Longest time that finished children wait for more of their group, in seconds, while many others are open.
GROUP_WAIT = 0.15
#: Time between looks at the open keys, in seconds a key: looking at one costs a hundredth of that.
POLL = 25e-6
LONGEST_POLL = 0.025
#: Open keys below which the session waits for the next one instead of polling.
FEW = 16
#: Bytes of small results that ride to the client in one run; beyond it they stay.
INLINE_TOTAL = 256 << 20


class _Open:
    """One key whose value the session will read."""

    __slots__ = ("future", "job", "position", "receipt_of")

    def __init__(self, job: Job, position: int, future: Future, receipt_of: tuple[Future, int] | None = None) -> None:
        self.job = job
        self.position = position
        self.future = future
        self.receipt_of = receipt_of


class ClusterSession:
    """A run on a cluster.

    Attributes
    ----------
    opens : keys to read, by key.
    lanes : packed lanes, by number.
    window : branches of maps open at once.
    """

    def __init__(self, connection: Connection, plan: Plan, run_id: str, max_inline_bytes: int, window: int) -> None:
        self.connection = connection
        self.client: Client = connection.client
        self.run_id = run_id
        self.window = window
        self.max_inline_bytes = max_inline_bytes
        self.tasks = pickle_tasks(plan)
        self.opens: dict[Any, _Open] = {}
        self.lanes: dict[int, PackedLane | UnpackableInput] = {}
        self.blobs: dict[int, Future] = {}
        self.graph_count = 0
        self.receipt_count = 0
        self.inlined = 0
        self.done: list[Receipt] = []

    # -- submitting ------------------------------------------------------------------------------------------------

    def submit(self, jobs: Sequence[Job]) -> None:
        """Send the graphs of `jobs` to the scheduler, one message for each placement."""
        graph: dict[Key, Any] = {}
        wanted: dict[Key, tuple[Job, int]] = {}
        for job in jobs:
            lane = self._lane(job.lane)
            if isinstance(lane, UnpackableInput):
                self._refuse(job, lane)
                continue
            lowered = lower(job, lane, self.run_id, self.max_inline_bytes)
            graph.update(lowered.graph)
            wanted.update((key, (job, position)) for position, key in lowered.wanted.items())
            if lowered.refused:
                self.done.append(Receipt(job, [*lowered.refused, *not_ready(job, lowered)]))
        if graph:
            for key, future in self._get(graph, wanted).items():
                job, position = wanted[key]
                self.opens[key] = _Open(job, position, future)

    def _get(self, graph: Mapping[Key, Any], keys: Iterable[Key], **placement: Any) -> dict[Key, Future]:
        order = list(keys)
        self.graph_count += 1
        named = expression(graph, f"{self.run_id}-{self.graph_count}")
        futures = self.client.get(named, order, sync=False, **placement)
        return dict(zip(order, futures, strict=True))

    def _lane(self, spec: LaneSpec) -> PackedLane | UnpackableInput:
        packed = self.lanes.get(spec.ident)
        if packed is None:
            packed = self.lanes[spec.ident] = self._pack(spec)
        return packed

    def _pack(self, spec: LaneSpec) -> PackedLane | UnpackableInput:
        outcome = capture(pack_lane, spec, self.tasks)
        if isinstance(outcome, Error):
            if isinstance(outcome.exception, UnpackableInput):
                return outcome.exception
            raise outcome.exception
        blob, held = outcome.value
        reference: Any = blob
        if len(blob) > INLINE_LANE:
            key = (f"lane-{self.run_id}", spec.ident, 0)
            reference = self.blobs[spec.ident] = self._get(blob_graph(key, blob), [key])[key]
        return PackedLane(reference, tuple(h.handle for h in held), item_inputs(spec))

    def _refuse(self, job: Job, fault: UnpackableInput) -> None:
        """Fail the step whose constant cannot be pickled; steps beside it come back as they came."""
        from prefectish.engine.attempt import PENDING

        records = [
            (p, fault.record(job.index) if job.lane.steps[p] is fault.spec else Record(job.starts.get(p, PENDING)))
            for p in job.positions
        ]
        self.done.append(Receipt(job, records))

    # -- collecting ------------------------------------------------------------------------------------------------

    def receipts(self, timeout: float | None) -> Sequence[Receipt]:
        """Wait until keys are done and read them in a group."""
        end = None if timeout is None else time.monotonic() + timeout
        first: float | None = None
        while not self.done:
            ready = [key for key, entry in self.opens.items() if entry.future.status != "pending"]
            now = time.monotonic()
            if ready:
                first = first or now
                if self._enough(ready) or now - first > GROUP_WAIT:
                    self._collect(ready)
                    continue
            if end is not None and now >= end:
                break
            self._pause(end, now)
        done, self.done = self.done, []
        return done

    def _enough(self, ready: Sequence[Any]) -> bool:
        """Whether to read what is done now: a group, or a single task, which the whole flow may wait for."""
        if len(ready) >= min(GROUP, len(self.opens) // 8 + 1):
            return True
        return any(self.opens[key].job.index < 0 for key in ready)

    def _pause(self, end: float | None, now: float) -> None:
        left = 0.5 if end is None else min(0.5, end - now)
        if len(self.opens) > FEW:
            time.sleep(min(left, POLL * len(self.opens), LONGEST_POLL))
            return
        futures = [entry.future for entry in self.opens.values()]
        capture(wait_for_futures, futures, timeout=left, return_when="FIRST_COMPLETED")

    def _collect(self, ready: Sequence[Any]) -> None:
        """Read what is done: small values at once, a receipt for each large one; what was lost is told."""
        finished = []
        for key in ready:
            status = self.opens[key].future.status
            if status == "finished":
                finished.append(key)
            else:
                self._lose(key, status)
        if not finished:
            return
        small, large, values = self.client.sync(self._read, finished)
        for key in large:
            self._ask_receipt(key, large[key])
        for key in small:
            if key in values:
                self._take(key, values[key])

    async def _read(self, keys: list[Any]) -> tuple[list[Any], dict[Any, int], dict[Any, Carry]]:
        """Ask the scheduler how large the values are and read the small ones; a value that was lost stays open."""
        scheduler = self.client.scheduler
        sizes = await self._sizes(keys)
        limit = self.max_inline_bytes + 4096 if self.inlined < INLINE_TOTAL else 4096
        large = {
            k: n for k, n in sizes.items() if n > limit and self.opens[k].receipt_of is None
        }
        small = [k for k in keys if k in sizes and k not in large]
        if not small:
            return [], large, {}
        answer = await scheduler.gather(keys=small)
        while answer["status"] != "OK":
            self._reset(answer["keys"])
            gone = set(answer["keys"])
            small = [k for k in small if k not in gone]
            if not small:
                return [], large, {}
            answer = await scheduler.gather(keys=small)
        return small, large, answer["data"]

    async def _sizes(self, keys: list[Any]) -> dict[Any, int]:
        scheduler = self.client.scheduler
        try:
            sizes = await scheduler.nbytes(keys=keys, summary=False)
        except KeyError:  # one key of the group is gone: find out which
            sizes = {}
            for key in keys:
                try:
                    sizes.update(await scheduler.nbytes(keys=[key], summary=False))
                except KeyError:
                    sizes[key] = -1
        lost = [key for key, size in sizes.items() if size < 0]
        self._reset(lost)
        return {key: size for key, size in sizes.items() if size >= 0}

    def _reset(self, keys: Iterable[Any]) -> None:
        """Mark keys pending again: their values were lost after they were reported, Dask makes them anew."""
        for key in keys:
            self.client._send_to_scheduler({"op": "report-key", "key": key})
            state = self.client.futures.get(key)
            if state is not None:
                state.reset()

    def _ask_receipt(self, key: Any, nbytes: int) -> None:
        """Have the receipt of a large value made beside the value."""
        entry = self.opens.pop(key)
        self.receipt_count += 1
        receipt = (f"receipt-{self.run_id}", self.receipt_count, 0)
        future = self._get(receipt_graph(key, receipt), [receipt])[receipt]
        self.opens[receipt] = _Open(entry.job, entry.position, future, (entry.future, nbytes))

    def _take(self, key: Any, carry: Carry) -> None:
        entry = self.opens.pop(key)
        record = carry.record
        if entry.receipt_of is not None:
            record = self._held(entry, record, *entry.receipt_of)
        else:
            self.inlined += carry.nbytes
        self.done.append(Receipt(entry.job, [*carry.small, (carry.position, record)]))

    def _held(self, entry: _Open, record: Record, future: Future, nbytes: int) -> Record:
        state = record.state
        if not isinstance(state._result, Stayed):
            return record
        label = entry.job.lane.steps[entry.position].label(entry.job.index)
        held = Held(label, nbytes, future, _fetch)
        return Record(state.replace(result=held), record.seconds, record.due_in, record.width)

    # -- losses ----------------------------------------------------------------------------------------------------

    def _lose(self, key: Any, status: str) -> None:
        entry = self.opens.pop(key)
        if status == "error":
            error = capture(entry.future.exception)
            fault = error.exception if isinstance(error, Error) else error.value
        else:
            fault = None
        self.done.append(Receipt(entry.job, (), _describe(status, fault, entry)))

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Forget jobs; running bodies end by themselves."""
        gone = {id(job) for job in jobs}
        keys = [key for key, entry in self.opens.items() if id(entry.job) in gone]
        futures = [self.opens.pop(key).future for key in keys]
        if futures:
            self.client.cancel(futures, force=True)

    def close(self) -> None:
        """Let go of what is still open: nothing of the run starts any more."""
        futures = [entry.future for entry in self.opens.values()]
        self.opens.clear()
        self.lanes.clear()
        self.blobs.clear()
        if futures:
            capture(self.client.cancel, futures)


def _describe(status: str, fault: BaseException | None, entry: _Open) -> Lost:
    """Say in our words what Dask reported."""
    if type(fault).__name__ == "KilledWorker":
        last = getattr(fault, "last_worker", None)
        deaths = int(getattr(fault, "allowed_failures", 0)) + 1
        task = getattr(fault, "task", None)
        return Lost("killed-worker", deaths, _position_of(task, entry), getattr(last, "address", None), str(fault))
    if status in ("cancelled", "lost"):
        return Lost("cancelled-by-cluster", detail=f"Dask reported it as {status}")
    return Lost("cluster-error", detail=f"{type(fault).__name__}: {fault}")


def _position_of(key: Any, entry: _Open) -> int | None:
    """Return the position of the step that Dask blames, which may be one before the key that was read."""
    if isinstance(key, tuple) and len(key) == 3:
        for position in entry.job.positions:
            if str(key[0]).startswith(f"{entry.job.lane.steps[position].slug}-"):
                return position
    return None


def _fetch(held: Held) -> Any:
    """Read a large result from the cluster."""
    carry: Carry = held.handle.result()
    return carry.record.state.result


class DaskExecutor:
    """Runs a flow on a Dask cluster, one Dask task for each child.

    Parameters
    ----------
    address : address of a scheduler; without it, and without `client` and `cluster_class`, a temporary cluster on this
        machine is started for each run, listening on loopback only.
    client : a Client of yours; neither it nor its cluster is closed.
    cluster_class, cluster_kwargs, adapt_kwargs : a cluster class, or its dotted name, its keyword arguments, and those of
        its ``adapt`` method; without a class, `cluster_kwargs` go to the temporary cluster.
    client_kwargs, security : for the Client.
    require_tls : refuse an unencrypted connection.
    debug : show what the temporary cluster logs.
    max_branches : branches of maps open at once, at most; default: as many as keep the cluster busy.
    max_inline_bytes : largest result that travels to the client with its record; larger ones stay on the workers.

    Examples
    --------
    >>> DaskExecutor("tcp://127.0.0.1:8786")
    <DaskExecutor: tcp://127.0.0.1:8786>
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        client: Client | None = None,
        cluster_class: Any = None,
        cluster_kwargs: Mapping[str, Any] | None = None,
        adapt_kwargs: Mapping[str, Any] | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        security: Any = None,
        require_tls: bool = False,
        debug: bool | None = None,
        max_branches: int | None = None,
        max_inline_bytes: int = 4096,
    ) -> None:
        if sum(x is not None for x in (address, client, cluster_class)) > 1:
            raise ValueError("give one of address, client and cluster_class: they name different clusters")
        if max_branches is not None and max_branches < 1:
            raise ValueError(f"max_branches={max_branches!r}: at least 1")
        self.address = address
        self.client = client
        self.cluster_class = cluster_class
        self.cluster_kwargs = cluster_kwargs
        self.adapt_kwargs = adapt_kwargs
        self.client_kwargs = client_kwargs
        self.security = security
        self.require_tls = require_tls
        self.debug = debug
        self.max_branches = max_branches
        self.max_inline_bytes = max_inline_bytes

    @contextmanager
    def start(self, plan: Plan, run: Mapping[str, Any]) -> Iterator[ClusterSession]:
        """Connect, and open a session for one run."""
        with connect(
            self.address,
            client=self.client,
            cluster_class=self.cluster_class,
            cluster_kwargs=self.cluster_kwargs,
            adapt_kwargs=self.adapt_kwargs,
            client_kwargs=self.client_kwargs,
            security=self.security,
            require_tls=self.require_tls,
            debug=self.debug,
        ) as connection:
            window = self.max_branches or max(1000, 64 * connection.maximum_threads())
            session = ClusterSession(connection, plan, run["flow_run_id"], self.max_inline_bytes, window)
            try:
                yield session
            finally:
                session.close()

    def __repr__(self) -> str:
        where = self.address or (self.client and "a client of yours") or self.cluster_class or "temporary cluster"
        return f"<DaskExecutor: {where}>"
