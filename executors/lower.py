"""Jobs to Dask graphs, as pure functions.

One step of one branch is one Dask task, but in batches and whole chains. Its key is ``("<slug>-<run id>", index,
submission)``: the slug ends in a number, so Dask's dashboard groups keys by task; keys are never derived from arguments
and never used twice. A key's arguments are bytes and simple values: nothing of the user's is opened by Dask.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from prefectish.engine.capture import Error, capture
from prefectish.engine.jobs.bundle import Bundle
from prefectish.engine.jobs.envelope import EncodedError
from prefectish.engine.jobs.job import CALL, ITEM, ChainSpec, Job, Record
from prefectish.engine.jobs.references import LeftOnWorker
from prefectish.engine.state import State
from prefectish.engine.wire.execute import execute, execute_batch, take_from_batch
from prefectish.engine.wire.messages import Batch, Call, StepResult
from prefectish.engine.wire.pack import Packer, unpicklable_input
from prefectish.engine.worker.attempt import PENDING
from prefectish.executors.dask_api import Key, Task, TaskRef
from prefectish.kinds import is_a

#: Types of items that are sent as they are, whatever their value.
_SMALL = frozenset({type(None), bool, int, float})
#: A batch of automatic size starts no further branch after so many seconds.
_BATCH_PATIENCE = 1.0


_NOTHING: dict[int, State] = {}


class PackedChain(NamedTuple):
    """A chain as the graph sees it.

    Attributes
    ----------
    payload
        Its bytes, or what stands for them in a graph.
    held
        What the references in its shared inputs and constants stand for, in the order of their numbers.
    item_inputs
        For each item of a branch: position of the step that reads it, and which of its inputs it is.
    """

    payload: Any
    held: tuple[Any, ...]
    item_inputs: tuple[tuple[int, int], ...]


class LoweringOptions(NamedTuple):
    """What holds for all jobs of a session.

    Attributes
    ----------
    run_id
        Names the run in every key.
    keep
        Largest result, in bytes, that is sent with a record.
    verify
        Whether results are unpickled once more where they were made.
    reference
        Returns what a graph holds in the place of what a reference stands for.
    share
        The same for the inputs of a call, which other calls may have in common.
    """

    run_id: str
    keep: int
    verify: bool
    reference: Callable[[Any], Any]
    share: Callable[[Any], Any]


class LoweredBatch(NamedTuple):
    """The graph of a batch, empty if none of its branches can run.

    Attributes
    ----------
    refused
        Records of the branches with an input that cannot be pickled, by their number in the batch; they are left out.
    reads
        Whether it reads something that is not sent with the call.
    again
        What makes it again beside its graph; None if that needs what it reads.
    """

    graph: dict[Key, Task]
    refused: dict[int, list[tuple[int, Record]]]
    reads: bool
    again: tuple[Any, bytes] | None


class Lowered(NamedTuple):
    """The graph of a job.

    Attributes
    ----------
    graph
        Dask tasks by key.
    wanted
        Keys whose values the client reads, by position.
    made
        Positions that have a key.
    refused
        Records of steps whose inputs cannot be pickled; these steps and those that follow have no key.
    reads
        Whether it reads something that is not sent with the call.
    """

    graph: dict[Key, Task]
    wanted: dict[int, Key]
    made: frozenset[int]
    refused: list[tuple[int, Record]]
    reads: bool


def item_inputs(chain: ChainSpec) -> tuple[tuple[int, int], ...]:
    """Return for each item of a branch the position of the step that reads it, and which of the step's inputs it is."""
    found = {
        k: (position, which)
        for position, spec in enumerate(chain.steps)
        for which, (kind, k) in enumerate(spec.wiring)
        if kind == ITEM
    }
    return tuple(found[k] for k in range(len(found)))


def lower(job: Job, chain: PackedChain, options: LoweringOptions) -> Lowered:
    """Make the graph of a job: one task for each of its steps."""
    packer = Packer()
    packer.held.extend(chain.held)
    items, refused = _pack_items(job, chain, packer)
    positions = job.positions if not refused else _unaffected(job, {p for p, _ in refused})
    given = {p: packer.state(s, "a step of the branch") for p, s in job.given.items()}
    starts = {p: packer.state(s, "an earlier attempt") for p, s in job.starts.items()}
    reference = options.share if job.chain.steps[0].precedence == CALL else options.reference
    values = [reference(h) for h in packer.held]
    keys: dict[int, Key] = {}
    graph: dict[Key, Task] = {}
    inner: set[int] = set()
    for position in positions:
        spec = job.chain.steps[position]
        key = (f"{spec.slug}-{options.run_id}", job.index, job.submission)
        sources = tuple(p for p in job.sources(position) if p in keys)
        inner.update(sources)
        own = _items_of(position, items, chain)
        start, keep, verify, number = starts.get(position), options.keep, options.verify, job.submission
        call = Call(
            position, job.index, own, given or None, start, sources, keep, verify, job.probe_only, number, job.expected
        )
        results = [TaskRef(keys[p]) for p in sources]
        graph[key] = Task(key, execute, chain.payload, call, *results, *values)
        keys[position] = key
    every = job.every_step
    wanted = {p: k for p, k in keys.items() if every or p not in inner or p in job.chain.wanted}
    return Lowered(graph, wanted, frozenset(keys), refused, bool(values))


def _pack_items(job: Job, chain: PackedChain, packer: Packer) -> tuple[list[Any], list[tuple[int, Record]]]:
    """Pack the branch's own inputs; one that cannot be pickled fails the step that reads it."""
    items: list[Any] = []
    refused: list[tuple[int, Record]] = []
    for item, (position, which) in zip(job.items, chain.item_inputs, strict=True):
        if type(item) in _SMALL:
            items.append(item)
            continue
        if position not in job.positions:
            items.append(None)
            continue
        spec = job.chain.steps[position]
        i = spec.inputs[which]
        packed = capture(packer.item, item, f"{i.source_label}[{job.index}]")
        if isinstance(packed, Error):
            name = i.key or i.source_label
            refused.append((position, unpicklable_input(spec, job.index, name, item, packed.exception)))
            items.append(None)
        else:
            items.append(packed.value)
    return items, refused


def _items_of(position: int, items: Sequence[Any], chain: PackedChain) -> tuple[Any, ...]:
    """Return the items with those of other steps left out; empty if the step has none."""
    readers = chain.item_inputs
    if len(readers) == 1:  # as in most maps
        return tuple(items) if readers[0][0] == position else ()
    if not any(p == position for p, _ in readers):
        return ()
    return tuple(item if p == position else None for item, (p, _) in zip(items, readers, strict=True))


def _unaffected(job: Job, refused: set[int]) -> tuple[int, ...]:
    """Return the positions that read nothing from the refused ones."""
    gone = set(refused)
    for position in job.positions:
        if gone.intersection(job.sources(position)):
            gone.add(position)
    return tuple(p for p in job.positions if p not in gone)


def not_ready(job: Job, lowered: Lowered) -> list[tuple[int, Record]]:
    """Return records for the steps behind a refused one: they are returned as they were submitted."""
    refused = {p for p, _ in lowered.refused}
    behind = [p for p in job.positions if p not in refused and p not in lowered.made]
    return [(p, Record(job.starts.get(p, PENDING))) for p in behind]


def weigh(value: StepResult | Batch) -> StepResult | Batch:
    """Return a value without its large results: what the client reads of a value that stays on the worker."""
    if is_a(value, Batch):
        return Batch(value.content, {})
    record = value.record
    if is_a(record.state._raw_result, EncodedError):
        return value  # the client always learns why a child failed
    light = record.with_state(record.state.replace(result=LeftOnWorker(value.nbytes)))
    return StepResult(value.position, light, value.small)


def lower_batch(bundle: Bundle, chain: PackedChain, key: Key, options: LoweringOptions) -> LoweredBatch:
    """Make the graph of a batch: one task for all steps of all its branches."""
    packer = Packer()
    packer.held.extend(chain.held)
    refused: dict[int, list[tuple[int, Record]]] = {}
    if bundle.columns is None:
        sent: Any = _branches(bundle.jobs, chain, packer, refused)
    else:
        columns = [
            column if set(map(type, column)) <= _SMALL else _packed_column(bundle, k, chain, packer, refused)
            for k, column in enumerate(bundle.columns)
        ]
        sent = bundle.rows, bundle.positions, columns
    graph: dict[Key, Task] = {}
    values = [options.reference(h) for h in packer.held]
    again = None
    if len(refused) < len(bundle):
        patience = _BATCH_PATIENCE if bundle.chain.batch_size == "auto" and not bundle.probes else None
        calls = pickle.dumps((patience, options.keep, options.verify, bundle.probes, sent, [*refused]), protocol=5)
        graph[key] = Task(key, execute_batch, chain.payload, calls, *values)
        again = None if values else (chain.payload, calls)
    return LoweredBatch(graph, refused, bool(values), again)


def _branches(
    jobs: Sequence[Job], chain: PackedChain, packer: Packer, refused: dict[int, list[tuple[int, Record]]]
) -> list[tuple[Any, ...]]:
    """Pack the branches of a batch one by one."""
    branches: list[tuple[Any, ...]] = []
    for number, job in enumerate(jobs):
        items, failures = _pack_items(job, chain, packer)
        if failures:
            gone = {p for p, _ in failures}
            behind = [(p, Record(job.starts.get(p, PENDING))) for p in job.positions if p not in gone]
            refused[number] = [*failures, *behind]
        given = starts = _NOTHING  # one object for all of them is pickled once
        if job.given:
            given = {p: packer.state(s, "a step of the branch") for p, s in job.given.items()}
        if job.starts:
            starts = {p: packer.state(s, "an earlier attempt") for p, s in job.starts.items()}
        branches.append((job.index, job.positions, items, given, starts, job.submission))
    return branches


def _packed_column(
    bundle: Bundle, k: int, chain: PackedChain, packer: Packer, refused: dict[int, list[tuple[int, Record]]]
) -> list[Any]:
    """Pack an input of all branches of a batch."""
    assert bundle.columns is not None
    position, which = chain.item_inputs[k]
    spec = bundle.chain.steps[position]
    i = spec.inputs[which]
    packed: list[Any] = []
    for number, (row, item) in enumerate(zip(bundle.rows, bundle.columns[k], strict=True)):
        if type(item) in _SMALL:
            packed.append(item)
            continue
        outcome = capture(packer.item, item, f"{i.source_label}[{row}]")
        if isinstance(outcome, Error):
            records = dict(refused.get(number, ())) or {p: Record(PENDING) for p in bundle.positions}
            records[position] = unpicklable_input(spec, row, i.key or i.source_label, item, outcome.exception)
            refused[number] = [*records.items()]
        packed.append(None if isinstance(outcome, Error) else outcome.value)
    return packed


def take_graph(batch: Any, number: int, position: int, key: Key, again: tuple[Any, ...] = ()) -> dict[Key, Task]:
    """Return the graph that takes one large result out of a batch, or makes it `again`."""
    return {key: Task(key, take_from_batch, batch, number, position, *again)}


def payload_graph(key: Key, payload: bytes) -> dict[Key, Task]:
    """Return the graph that holds the bytes of a chain: a task, so that Dask can make them again if a worker dies."""
    return {key: Task(key, _same, payload)}


def _same(payload: bytes) -> bytes:
    return payload


def load_check_graph(key: Key, load: Callable[..., Any], bodies: Any, items: Any) -> Mapping[Key, Task]:
    """Return the graph that checks on a worker what can be loaded there."""
    return {key: Task(key, load, bodies, items)}


def receipt_graph(key: Key, receipt: Key) -> Mapping[Key, Task]:
    """Return the graph of the receipt of a large value."""
    return {receipt: Task(receipt, weigh, TaskRef(key))}
