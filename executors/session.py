"""A run on a cluster: jobs are submitted and collected in groups.

A large map cannot afford a message, a future and a callback for each child. The client reads the value of a key when
the key is done, and releases its future at once. A large value stays on its worker: the client reads a receipt of it,
and holds the key until its last consumer has run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from distributed import Client, Future

from prefectish.engine.capture import capture
from prefectish.engine.jobs.bundle import Bundle, BundleReceipt, gathered, unpack
from prefectish.engine.jobs.envelope import Encoded
from prefectish.engine.jobs.job import CALL, ChainSpec, Job, Receipt, Record, StepSpec, Upcoming, taken_back
from prefectish.engine.jobs.protocol import LossCause, Lost
from prefectish.engine.jobs.references import Held, LeftOnWorker
from prefectish.engine.plan.placement import Placement, placement_of
from prefectish.engine.plan.steps import Plan, Step
from prefectish.engine.wire.messages import Batch, StepResult
from prefectish.engine.wire.pack import HEAVY, add_task_payloads, pack_chain, pickle_task, pickle_tasks
from prefectish.engine.wire.places import Places
from prefectish.errors import SchedulerLost
from prefectish.executors import first_death, past_queue
from prefectish.executors.chain_bytes import ChainBytes
from prefectish.executors.cluster_recall import PATIENCE, asked_back, forgotten, unbegun_masks
from prefectish.executors.connect import Connection
from prefectish.executors.dask_api import (
    Key,
    TaskRef,
    known_state,
    registered,
    release,
    scattered,
    submit_graph,
)
from prefectish.executors.first_calls import TaskChecks
from prefectish.executors.first_death import FirstDeath
from prefectish.executors.follow import beside, followed_keys, is_blamed, upcoming_key
from prefectish.executors.held_results import BatchPart, HeldFuture, batch_records, held_record
from prefectish.executors.listeners import register_listeners
from prefectish.executors.load_check import BUSY_WAIT, IDLE_WAIT, LARGE, LoadFailure, check_chain, loaded_on
from prefectish.executors.lost_keys import LossWatch, NoAnswer, describe_loss
from prefectish.executors.lower import (
    LoweringOptions,
    PackedChain,
    item_inputs,
    lower,
    lower_batch,
    not_ready,
    payload_graph,
    receipt_graph,
)
from prefectish.executors.open_keys import Graphs, OpenChain, OpenKey, Sending
from prefectish.executors.open_window import OpenWindow
from prefectish.executors.own_modules import ComparedTasks, reached
from prefectish.executors.placing import QUESTION, Placer
from prefectish.executors.reading import QUESTION as READ
from prefectish.executors.reading import read
from prefectish.executors.reading_pace import MAX_CALL_WAIT, MAX_STOP_WAIT, ReadingPace
from prefectish.executors.same_modules import SameModules
from prefectish.executors.shared_values import SharedValues
from prefectish.executors.shipping import Shipment
from prefectish.executors.waker import Waker
from prefectish.executors.whole_chains import CROWD, WHOLE, goes_whole, place_of, whole
from prefectish.kinds import is_a

#: How long the cluster may take to send small values before it is asked again, at first and at most, in seconds.
_PATIENCE, _MAX_PATIENCE = 5.0, 80.0
#: A load check runs before anything of the run, whatever its priorities.
_LOAD_CHECK_PRIORITY = 1e9
#: The slowest connection that is expected, in bytes a second.
_SLOWEST_LINK = 10e6
_PENDING = frozenset({"pending", "lost"})
_ANYWHERE = Sending(Placement((), (), 0.0))
#: Keys that a run may submit before their order outweighs the depth of their steps.
_KEYS_PER_STEP = 1 << 32
#: Bytes of small results that are sent to the client in one run, beyond which they stay on workers; and of large ones
#: that are fetched before a client that the run opened is closed.
_INLINE_TOTAL = _FETCH_TOTAL = 256 << 20
#: Size of a value without its result, in bytes: a value is large if its result is.
_VALUE_OVERHEAD = 4096


class ClusterSession:
    """A run on a cluster.

    Attributes
    ----------
    slots
        Threads of the cluster.
    pace
        How long children take, and how many branches of maps may be open.
    open_keys
        Keys to read, by key.
    chains
        Packed chains, by number.
    """

    live = False
    batches = True
    bundles = True
    in_order = False
    follows = True

    def __init__(
        self,
        connection: Connection,
        plan: Plan,
        run_id: str,
        *,
        max_branches: int | None,
        max_inline_bytes: int,
        no_workers_timeout: float,
        verify_results: bool,
        stall_warning: float | None,
        ship: Any = None,
    ) -> None:
        self.connection = connection
        self.client: Client = connection.client
        self.run_id = run_id
        self.tasks = pickle_tasks(plan)
        self._shared = SharedValues(self._reference)
        self.options = LoweringOptions(
            run_id, max_inline_bytes, verify_results, self._reference, self._shared.reference
        )
        self.open_keys: dict[Key, OpenKey] = {}
        self.waker = Waker(self.client.loop.add_callback)
        self.chains: dict[int, OpenChain] = {}
        self.placer = Placer(self._key, self._reference)
        self.watch = LossWatch(connection, run_id, no_workers_timeout, stall_warning)
        self.modules = SameModules(self.client, self.watch)
        self.shipment = self.modules.shipment = None if ship is None else Shipment(ship)
        self._compared = ComparedTasks()
        self._compare_modules([s for s in plan.steps if s.literal is None])
        self.slots = max(1, connection.maximum_threads())  # the cluster has been compared from here on
        self.pace = OpenWindow(connection, self.slots, max_branches, plan)
        self._told_window = 0
        self._patience = _PATIENCE
        self._done: list[Receipt | BundleReceipt] = []
        self._count = 0
        self._submitted = 0
        self._depth_priorities: dict[str, int] = {}
        self._turns: dict[Key, int] = {}  # of the jobs of keys that are about to be sent
        self._inlined_bytes = 0
        self.reading = ReadingPace(connection, self.waker, self.slots)
        self._weighed: set[Key] = set()  # keys of large values whose receipts are open
        self._has_recalled = False
        self._has_plugin = False
        # Refuses tasks that no worker can run; for a plan that grows, whose tasks are not known before.
        self._grows = plan.grows
        self.listening = register_listeners(connection)
        self.checks: TaskChecks | None = None

    @property
    def window(self) -> int:
        """Return how many branches of maps may be open at once, as the loop reads it."""
        self._told_window = self.pace.rows
        return self._told_window

    # -- submitting ------------------------------------------------------------------------------------------------

    @property
    def dashboard_link(self) -> str | None:
        """Return the address of the cluster's dashboard; None if it serves none."""
        return self.connection.dashboard_link

    def submit(self, jobs: Sequence[Job | Bundle]) -> None:
        """Send the graphs of `jobs` to the scheduler, one message for each placement."""
        graphs: Graphs = {}
        try:
            self._lower_all(jobs, graphs)
        except SchedulerLost as fault:  # no worker accepts what the jobs need
            lost = Lost(LossCause.NO_WORKERS, detail=str(fault), fatal=True)
            self._done.extend(Receipt(job, (), lost) for job in unpack(jobs))
            return
        self._send(graphs)

    def _send(self, graphs: Graphs) -> None:
        """Send graphs, and open their keys."""
        for sending, (graph, open_keys) in graphs.items():
            if graph:
                if sending.first_death and not self._has_plugin:
                    self._has_plugin = True
                    capture(self.watch.wait, registered(self.client, FirstDeath(), first_death.ANNOTATION), PATIENCE)
                self._open_all(self._get(graph, open_keys, sending), open_keys)
        for lookup, key, asked in self.placer.questions(lambda ident: self.chains[ident].packed().payload):
            question = OpenKey(asked, None, None)
            question.asks = question.reads = True
            self._open_all(self._get(lookup, [key], Sending(QUESTION)), {key: question})

    def _open_all(self, futures: Mapping[Key, Future], open_keys: Mapping[Key, OpenKey]) -> None:
        for key, entry in open_keys.items():  # as submitted; Dask returns the futures in any order
            entry.future = futures[key]
            self._open(key, entry)

    def _lower_all(self, jobs: Sequence[Job | Bundle], graphs: Graphs) -> None:
        """Make the graphs of jobs, by placement."""
        self._check_new_maps(jobs)
        single, bundles = gathered(jobs)
        is_crowded = len(single) + len(self.open_keys) >= CROWD * self.slots
        for job in single:
            chain = self._chain(job.chain)
            if is_crowded and goes_whole(job):
                bundles.append(whole(job))
            elif (placement := chain.placement or self._placed(job)) is not None:
                sending = Sending(placement, job.was_in_batch or (chain.watched and not job.solo))
                followed = followed_keys(job, self.run_id)
                sending = beside(followed, sending, graphs)
                if followed and not self._can_follow(followed, sending, graphs):
                    self._done.append(taken_back(job))
                else:
                    packed = chain.packed(not job.chain.steps[job.positions[0]].mapped)
                    self._add(job, packed, graphs, sending, bool(followed))
        for bundle in bundles:
            chain = self._chain(bundle.chain)
            placement = chain.placement or placement_of(bundle.chain.steps[0].task)
            # A probe has no body that could be to blame.
            sending = Sending(placement, first_death=not bundle.probes)
            self._add_batch(bundle, chain.packed(bundle.number == WHOLE), *graphs.setdefault(sending, ({}, {})))

    def _placed(self, job: Job) -> Placement | None:
        """Return where a job runs, as its task says of it; None if it is asked elsewhere, or cannot be asked."""
        found = self.placer.find(job)
        if isinstance(found, Record):
            self._done.append(Receipt(job, [(job.positions[0], found)]))
            return None
        return found

    def _can_follow(self, keys: Sequence[Key], sending: Sending, graphs: Graphs) -> bool:
        """Whether keys that a job reads are open; those of another graph are sent before it."""
        if any(key in graph for other, (graph, _) in graphs.items() if other != sending for key in keys):
            self._send(graphs)
            graphs.clear()
        here = graphs.get(sending, ({}, {}))[0]
        return all(key in self.open_keys or key in here or key in self._weighed for key in keys)

    def _compare_modules(self, steps: Sequence[Step | StepSpec]) -> None:
        """Begin to compare the user's own modules that tasks reach, of those that are new."""
        new = self._compared.add(steps, self.tasks)
        if new and self.shipment is not None:
            bodies = [step.task.run for step in new]
            if self.shipment.take(reached([self.tasks[step.number] for step in new], bodies), bodies):
                self.tasks.update((step.number, pickle_task(step.slug, step.task)) for step in steps)
        if new:
            self.modules.check({step.label: (self.tasks[step.number], step.task.run) for step in new})

    def _check_new_maps(self, jobs: Sequence[Job | Bundle]) -> None:
        """Check that a worker can load what a large map that begins with these jobs needs.

        Raises
        ------
        EnvironmentMismatch
            None of its children could run.
        FlowDefinitionError
            No worker may run a task that came up.
        """
        new = [entry for entry in jobs if entry.chain.ident not in self.chains]
        if not new:
            return
        if self._grows and self.checks is not None:
            steps = (s for chain in {id(entry.chain): entry.chain for entry in new}.values() for s in chain.steps)
            self.checks.check((step.label, step.task, getattr(step.storage, "store", None)) for step in steps)
        # Of a map whose children are not known to be long only so many begin: one that fills this window is large, too.
        large = LARGE if self.open_keys else min(LARGE, self.pace.rows)
        begins: dict[int, list[Job]] = {}
        for job in unpack(new):
            if job.index >= 0:
                begins.setdefault(job.chain.ident, []).append(job)
        for members in begins.values():
            if len(members) >= large:
                chain = members[0].chain
                add_task_payloads(chain, self.tasks)
                run = partial(self._run_load_check, placement_of(chain.steps[0].task))
                check_chain(chain, members, self.tasks, loaded_on(self.client, self.connection.worker_processes()), run)

    def _run_load_check(
        self, placement: Placement, make: Callable[[Key], Mapping[Key, Any]]
    ) -> list[LoadFailure] | None:
        """Run a load check on a worker; None if it did not end in time."""
        key = self._key("prefectish-load-check")
        first = Placement(placement.resources, placement.workers, _LOAD_CHECK_PRIORITY)
        future = self._get(make(key), [key], Sending(first))[key]
        self.connection.wait_any([future], BUSY_WAIT if self.open_keys else IDLE_WAIT)
        if future.status != "finished":
            return None
        return [LoadFailure(*failure) for failure in future.result(timeout=IDLE_WAIT)]

    def _open(self, key: Key, entry: OpenKey) -> None:
        entry.known = known_state(self.client, key)
        self.open_keys[key] = entry

    def _add(self, job: Job, chain: PackedChain, graphs: Graphs, sending: Sending, follows: bool) -> None:
        lowered = lower(job, chain, self.options)
        if not (lowered.reads or job.solo or job.probe_only or sending.first_death):
            sending = sending._replace(ahead=self.pace.ahead(job.chain.ident))
        graph, open_keys = graphs.setdefault(sending, ({}, {}))
        graph.update(lowered.graph)
        self._turns.update(dict.fromkeys(lowered.graph, job.turn))
        reads = lowered.reads or isinstance(chain.payload, Future)
        for position, key in lowered.wanted.items():
            open_keys[key] = OpenKey((job,), position, None)
            open_keys[key].reads = reads
            open_keys[key].follows = follows
        if lowered.refused:
            self._done.append(Receipt(job, [*lowered.refused, *not_ready(job, lowered)]))

    def _add_batch(
        self, bundle: Bundle, chain: PackedChain, graph: dict[Key, Any], open_keys: dict[Key, OpenKey]
    ) -> None:
        submission = 0 if bundle.columns is not None else bundle.jobs[0].submission
        key: Key = (f"{bundle.chain.steps[0].slug}-{self.run_id}", place_of(bundle), submission)
        lowered = lower_batch(bundle, chain, key, self.options)
        graph.update(lowered.graph)
        self._turns[key] = bundle.turn
        if lowered.graph:
            open_keys[key] = OpenKey(bundle, None, None)
            open_keys[key].reads = lowered.reads or isinstance(chain.payload, Future)
            open_keys[key].refused = lowered.refused
            if bundle.number == WHOLE and lowered.again is not None:
                open_keys[key].again = lowered.again
        else:
            self._done.extend(Receipt(bundle.jobs[n], records) for n, records in lowered.refused.items())

    def _get(
        self,
        graph: Mapping[Key, Any],
        keys: Iterable[Key],
        sending: Sending = _ANYWHERE,
    ) -> dict[Key, Future]:
        self.modules.settle()  # here, where something is sent: workers compare while graphs are made
        self._count += 1
        options, placement = dict[str, Any](), sending.placement
        if placement.resources:
            options["resources"] = dict(placement.resources)
        if placement.workers:
            options["workers"] = list(placement.workers)
        if placement.priority:
            options["user_priority"] = placement.priority
        annotations: dict[str, Any] = {first_death.ANNOTATION: True} if sending.first_death else {}
        if sending.ahead is not None:
            annotations[past_queue.ANNOTATION] = [self.run_id, sending.ahead]
        name = f"{self.run_id}-{self._count}"
        return submit_graph(self.client, graph, name, keys, self._priorities(graph), options, annotations)

    def _priorities(self, graph: Mapping[Key, Any]) -> dict[Key, int]:
        """Return the priorities of keys, smallest first: deeper steps, then smaller turns; all after other clients'."""
        priorities = {}
        for key in graph:
            self._submitted += 1
            place = self._turns.pop(key, self._submitted)
            priorities[key] = self._depth_priorities.get(key[0], 0) + place + past_queue.AFTER_OTHERS
        return priorities

    def _key(self, kind: str) -> Key:
        self._count += 1
        return (f"{kind}-{self.run_id}", self._count, 0)

    def _chain(self, spec: ChainSpec) -> OpenChain:
        if (known := self.chains.get(spec.ident)) is None:
            self.watch.labels |= {step.slug: step.label for step in spec.steps}
            for step in spec.steps:
                self._depth_priorities[f"{step.slug}-{self.run_id}"] = -step.precedence * _KEYS_PER_STEP
            if spec.may_stop:
                self.reading.wait_at_most(MAX_STOP_WAIT)
            elif spec.steps[0].precedence == CALL:
                self.reading.wait_at_most(MAX_CALL_WAIT)
            placement = None if spec.steps[0].differs else placement_of(spec.steps[0].task)
            watched = any(step.task.crash_retries for step in spec.steps)
            known = self.chains[spec.ident] = OpenChain(*self._pack(spec), placement, watched)
            self.pace.add(spec, placement, watched)
        return known

    def _pack(self, spec: ChainSpec) -> tuple[PackedChain, ChainBytes]:
        add_task_payloads(spec, self.tasks)
        self._compare_modules(spec.steps)
        self.modules.settle()
        parcel = None if self.shipment is None else self.shipment.parcel
        guards = parcel, self.modules.guard, None if self.checks is None else self.checks.guard
        payload, held = pack_chain(spec, self.tasks, guards)
        packed = PackedChain(payload, tuple(self._reference(h) for h in held), item_inputs(spec))
        return packed, ChainBytes(payload, self._send_payload)

    def _send_payload(self, payload: bytes) -> Future:
        """Return a key that holds the bytes of a chain: a task, so that Dask can make them again.

        A task passes through the scheduler; large bytes are scattered past it.
        """
        if len(payload) > HEAVY:
            return self._send_to_worker(payload, len(payload))
        key = self._key(past_queue.STEPS)
        return self._get(payload_graph(key, payload), [key])[key]

    def _reference(self, held: Any) -> Any:
        """Return what a graph holds for a value that is not sent with the calls: a future."""
        if is_a(held, Held):
            if isinstance(held.handle, BatchPart):
                part = held.handle
                key = self._key("prefectish-large-result")
                held.handle = HeldFuture(self._get(part.graph(key), [key], Sending(QUESTION))[key])
            # The run has the future as long as it needs the value: a chain that is kept here must not keep it, too.
            return None if held.handle is None else TaskRef(held.handle.key)
        if is_a(held, Upcoming):
            return TaskRef(upcoming_key(held, self.run_id))
        if is_a(held, (Encoded, str, bytes)):
            from prefectish.engine.state import Success

            sent = StepResult(0, Record(Success(None, held)))
            return self._send_to_worker(sent, sent.nbytes)
        return held

    def _send_to_worker(self, value: Any, nbytes: int) -> Future:
        """Send a value to a worker.

        distributed tries a worker that has just died for half a minute, so the wait is cut short and another is asked.

        Raises
        ------
        SchedulerLost
            No worker accepted it.
        """
        limit, end = _PATIENCE + nbytes / _SLOWEST_LINK, time.monotonic() + self.watch.no_workers_timeout
        while True:
            try:
                future: Future = self.watch.wait(scattered(self.client, value, limit), limit + 1)
            except (NoAnswer, OSError) as fault:  # dask.utils' TimeoutError is an OSError
                limit *= 2
                if time.monotonic() > end:
                    raise SchedulerLost(f"no worker accepted {nbytes} bytes: {fault}") from fault
            else:
                return future

    # -- collecting ------------------------------------------------------------------------------------------------

    def receipts(self, timeout: float | None) -> Sequence[Receipt | BundleReceipt]:
        """Wait until keys are done and read them in a group."""
        now = time.monotonic()
        end = None if timeout is None else now + timeout
        self.pace.update(self.open_keys, now)
        while not self._done and self.pace.rows <= self._told_window:
            # Dask computes a key anew whose value was "lost" with a worker, so it is pending too.
            ready = [key for key, entry in self.open_keys.items() if entry.known.status not in _PENDING]
            now = time.monotonic()
            if ready:
                if self.reading.is_time(ready, self.open_keys, now):
                    self.watch.progressed(now)
                    self._collect(ready)
                    continue
            else:
                self._find_losses(now)
            if self.waker.take_wakeup() or (end is not None and now >= end):
                break
            self.reading.pause(self.open_keys, end, now)
            if self.pace.is_overdue(now):
                self.pace.update(self.open_keys, now)
        done, self._done = self._done, []
        return done

    def wake(self) -> None:
        """End the wait for receipts, from another thread."""
        self.waker.wake()

    def _find_losses(self, now: float) -> None:
        """Give up open keys that can never end: there is no scheduler, or no worker that may run them."""
        lost = self.watch.look(now, self.open_keys)
        for key, loss in lost.items():
            self._give_up(self.open_keys.pop(key), loss)

    def _give_up(self, entry: OpenKey, loss: Lost, own: bool = False) -> None:
        """Report jobs as lost; one that follows another, or went whole, is taken back, unless the loss is its own."""
        found_none = entry.is_whole and loss.cause is LossCause.NO_WORKERS  # its steps would wait for one once more
        if (entry.follows or entry.is_whole) and not (own or loss.fatal or found_none):
            self._done.extend(taken_back(job) for job in entry.jobs)
        else:
            self._done.extend(Receipt(job, (), loss) for job in entry.jobs)

    def _collect(self, ready: Sequence[Key]) -> None:
        """Read what is done: small values at once, a receipt for each large one. Lost keys become losses."""
        finished = []
        for key in ready:
            if self.open_keys[key].future.status == "finished":
                finished.append(key)
            else:
                self._lose(key)
        if not finished:
            return
        try:
            limits = {key: self._limit(key) for key in finished}
            reading = read(self.client, limits, self.connection.has(READ))
            values, large, unread = self.watch.wait(reading, self._patience)
        except NoAnswer:  # a worker has just died, and Dask tries it for half a minute; its values are computed anew
            self._patience = min(2 * self._patience, _MAX_PATIENCE)
            return
        except (SchedulerLost, OSError):  # the connection broke while it was read
            return  # the watch reports it at its next look
        self._patience = _PATIENCE
        for key, nbytes in large.items():
            self._ask_receipt(key, nbytes)
        read_keys = [key for key in finished if key in values]  # as submitted: what reads another one comes after it
        release(self.client, [future for key in read_keys if (future := self._take(key, values[key]))])
        for key, loss in self.watch.unread(unread, time.monotonic()).items():
            self._give_up(self.open_keys.pop(key), loss)

    def _limit(self, key: Key) -> float:
        """Return the size of a value, in bytes, up to which it is sent to the client."""
        entry = self.open_keys[key]
        if entry.value is not None or entry.asks:
            return math.inf
        limit = self.options.keep if self._inlined_bytes < _INLINE_TOTAL else 0
        return (limit // 8 + 256) * entry.count + _VALUE_OVERHEAD + limit

    def _ask_receipt(self, key: Key, nbytes: int) -> None:
        """Submit a task that makes the receipt of a large value where the value is."""
        entry = self.open_keys.pop(key)
        self._weighed.add(key)
        receipt = self._key("prefectish-receipt")
        sending = Sending(QUESTION) if entry.is_whole else _ANYWHERE  # for what is left of the chain
        future = self._get(receipt_graph(key, receipt), [receipt], sending)[receipt]
        self._open(receipt, entry.receipt(future, nbytes))

    def _take(self, key: Key, value: StepResult | Batch | Places) -> Future | None:
        """Make receipts of a value; return its future if it can be released."""
        entry = self.open_keys.pop(key)
        if is_a(value, Places):
            placed, refused = self.placer.answer(entry.jobs, value)
            self._done.extend(Receipt(job, [(job.positions[0], record)]) for job, record in refused)
            self.submit(placed)
            return entry.future
        source = entry.future if entry.value is None else entry.value[0]
        self._inlined_bytes += value.nbytes if entry.value is None else 0
        self._weighed.discard(source.key)
        if is_a(value, Batch):
            assert entry.bundle is not None
            self._done.append(BundleReceipt(entry.bundle, batch_records(entry, value, source)))
            return None
        record, job = value.record, entry.jobs[0]
        self.pace.note(job.chain.ident, record.seconds + sum(earlier.seconds for _, earlier in value.small))
        is_large = is_a(record.state._raw_result, LeftOnWorker)
        if is_large:
            self.pace.keeps_results(job.chain.ident)
            record = held_record(record, job.chain.steps[value.position].label_of(job.index), HeldFuture(source))
        self._done.append(Receipt(job, [*value.small, (value.position, record)]))
        return None if is_large else entry.future

    # -- losses and ends -------------------------------------------------------------------------------------------

    def _lose(self, key: Key) -> None:
        entry = self.open_keys[key]
        job = entry.jobs[0]
        watched = job.chain.ident in self.chains and self.chains[job.chain.ident].watched
        told = watched and job.batch is None and not (job.solo or entry.asks)
        lost = describe_loss(entry.future, job, self.watch, entry.reads, told)
        if lost is None:
            return
        del self.open_keys[key]
        if lost.cause is LossCause.INPUT_LOST:
            # Its large inputs are sent again, from the client's copy.
            self._shared.forget()
            self.chains.pop(job.chain.ident, None)
        self._give_up(entry, lost, own=entry.follows and is_blamed(entry.future, key))

    def cancel(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Forget jobs; running bodies end by themselves. Only workers know which have begun."""
        gone = {id(job) for job in jobs}
        keys = [key for key, entry in self.open_keys.items() if all(id(job) in gone for job in entry.jobs)]
        futures = [self.open_keys.pop(key).future for key in keys]
        if futures and self.client.status == "running":
            self.client.cancel(futures, force=True)
        return ()

    def recall(self, jobs: Sequence[Job]) -> Sequence[Receipt]:
        """Take back what has not begun: ask all workers which bodies have."""
        opened = {job: key for key, entry in self.open_keys.items() for job in entry.jobs}
        jobs = [job for job in jobs if job in opened]
        if not jobs:
            return ()
        batches = {key for job in jobs if self.open_keys[key := opened[job]].bundle is not None}
        self._has_recalled = True
        try:
            answers = self.watch.wait(asked_back(self.client, jobs, self.run_id, batches), PATIENCE)
        except (NoAnswer, SchedulerLost, OSError):
            return ()  # as far as workers have heard of it, they report what has not begun in its turn
        unbegun, ended = unbegun_masks(jobs, self.run_id, answers.values())
        for job in jobs:
            entry = self.open_keys[opened[job]]
            if entry.bundle is not None and (opened[job] in ended or entry.value is not None):
                unbegun[job] = 0
        self.cancel([job for job in jobs if unbegun[job] == sum(1 << p for p in job.positions)])
        return [taken_back(job, mask) for job, mask in unbegun.items() if mask]

    def settle(self, held: Sequence[Held]) -> None:
        """Fetch large results before a client that the run opened is closed, up to a bound; release the others."""
        if not self.connection.owned:
            return
        total = 0
        for result in held:
            total += result.nbytes
            if total > _FETCH_TOTAL:
                result.release(f"the client that held it was closed, and {_FETCH_TOTAL >> 20} MiB were fetched before")
            else:
                result.fetch()

    def close(self) -> None:
        """Cancel what is still open: nothing of the run starts any more."""
        if self.shipment is not None:
            self.shipment.close()
        self.listening.end()
        futures = [entry.future for entry in self.open_keys.values()]
        self.open_keys.clear()
        self.chains.clear()
        if self._has_recalled and self.client.status == "running":
            capture(self.connection.begin, forgotten(self.client, self.run_id))
        if futures and self.client.status == "running":
            capture(self.client.cancel, futures)
