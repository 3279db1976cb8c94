"""The worker's half: open a chain, put values in the place of references, run steps, pack what they made."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.jobs.envelope import EncodedError, encode_error, encode_state
from prefectish.engine.jobs.job import ChainSpec, Pick, Record, StepSpec
from prefectish.engine.jobs.references import Discarded, LeftOnWorker, ResultRef
from prefectish.engine.process_tree import process_name
from prefectish.engine.state import Failed, Mapped, State, Success
from prefectish.engine.wire.messages import Batch, Call, StepResult, is_plain, weight
from prefectish.engine.worker.decide import SUCCEEDED
from prefectish.engine.worker.logs.capture import TERMS, listen
from prefectish.engine.worker.run_steps import run_steps
from prefectish.errors import text_of

#: Opened chains kept by a process; a chain in use is opened again if it was dropped.
OPEN_CHAINS = 64


def execute(blob: bytes, call: Call, *values: StepResult) -> StepResult:
    """Run one step where the body runs. Nothing escapes: whatever happens comes back as a record."""
    chain = capture(open_chain, blob)
    if isinstance(chain, Error):
        return StepResult(call.position, _unopened_record(chain.exception), _small(call, None, values))
    record = _run(chain.value, call, values)
    return StepResult(call.position, record, _small(call, chain.value, values))


def _run(chain: ChainSpec, call: Call, values: Sequence[StepResult]) -> Record:
    spec = chain.steps[call.position]
    carries, fillings = values[: len(call.sources)], values[len(call.sources) :]
    states = {position: carry.record.state for position, carry in zip(call.sources, carries, strict=True)}
    if call.given:
        states.update(call.given)
    items: Sequence[Any] = call.items
    if fillings:
        items = [substitute(item, fillings) for item in items]
        chain = with_values(chain, fillings)
    starts = {} if call.start is None else {call.position: call.start}
    ((_, record),) = run_steps(chain, (call.position,), call.index, items, states, starts, probe_only=call.probe_only)
    return _encoded(record, spec.label(call.index), call.verify)


def _encoded(record: Record, label: str, verify: bool) -> Record:
    state = encode_state(record.state, label, verify)
    if state is not record.state:
        record = record.with_state(state)
    record.worker = process_name()
    return record


def with_values(chain: ChainSpec, fillings: Sequence[StepResult]) -> ChainSpec:
    """Return a chain with the holes in its shared inputs and constants filled."""
    shared = tuple(substitute(state, fillings) for state in chain.shared)
    steps = tuple(_step_with_values(spec, fillings) for spec in chain.steps)
    return chain.replace(steps=steps, shared=shared)


def _step_with_values(spec: StepSpec, fillings: Sequence[StepResult]) -> StepSpec:
    holes = [name for name in spec.late if isinstance(spec.constants[name], ResultRef)]
    if not holes:
        return spec
    constants = dict(spec.constants)
    for name in holes:
        constants[name] = fillings[constants[name].number].record.state._result
    return spec.replace(constants=constants)


def _small(call: Call, chain: ChainSpec | None, values: Sequence[StepResult]) -> tuple[tuple[int, Record], ...]:
    """Collect the records of the steps before this one, without large results."""
    small: dict[int, Record] = {}
    for carry in values[: len(call.sources)]:
        small.update(carry.small)
        if chain is None or carry.position not in chain.wanted:
            small[carry.position] = _light(carry.record, carry.position, call, chain)
    return tuple(small.items())


def _light(record: Record, position: int, call: Call, chain: ChainSpec | None) -> Record:
    nbytes = weight(record.state._result)
    if nbytes <= call.keep or isinstance(record.state._result, EncodedError):
        return record
    label = "an earlier step" if chain is None else chain.steps[position].label(call.index)
    dropped = record.state.replace(result=Discarded(label, nbytes))
    return record.with_state(dropped)


def _unopened_record(error: BaseException) -> Record:
    text = f"the task could not be unpickled on the worker: {type(error).__name__}: {text_of(error)}"
    return Record(Failed(text, encode_error(error, "the task")))


def substitute(item: Any, fillings: Sequence[StepResult]) -> Any:
    """Replace the holes in an input by the values that came beside the call."""
    if isinstance(item, Pick):
        return Pick(substitute(item.state, fillings), item.path)
    if not isinstance(item, State):
        return item
    if isinstance(item._result, ResultRef):
        return item.replace(result=fillings[item._result.number].record.state._result)
    if type(item) is Mapped and item.map_states:
        return item.replace(map_states=[substitute(child, fillings) for child in item.map_states], result=None)
    return item


_open: OrderedDict[bytes, ChainSpec] = OrderedDict()


def open_chain(blob: bytes) -> ChainSpec:
    """Return the chain in `blob`; a process opens it once."""
    chain = _open.get(blob)
    if chain is None:
        chain = pickle.loads(blob)
        listen(chain.run.get(TERMS))
        _open[blob] = chain
        while len(_open) > OPEN_CHAINS:
            _open.popitem(last=False)
    return chain


def reopen_chain(*content: Any) -> ChainSpec:
    """Return a chain from the content of its payload, in which each task is bytes of its own."""
    fields = dict(zip(ChainSpec.fields, content, strict=True))
    fields["steps"] = tuple(StepSpec(number, pickle.loads(task), *rest) for number, task, *rest in fields["steps"])
    return ChainSpec(**fields)


def execute_batch(blob: bytes, calls: bytes, *fillings: StepResult) -> Batch:
    """Run the branches of a batch one after another, all steps of each.

    Parameters
    ----------
    calls
        Pickled ``(patience, keep, verify, branches)``; a branch is ``(index, positions, items, given, starts)``.
        Branches that were not started after `patience` seconds go back to the owner, so that a slow one does not hold
        up the others.
    """
    patience, keep, verify, branches = pickle.loads(calls)
    chain = capture(open_chain, blob)
    spec = chain.value if isinstance(chain, Value) else None
    if spec is not None and fillings:
        spec = with_values(spec, fillings)
    end = None if patience is None else perf_counter() + patience
    entries: list[Any] = []
    large: dict[tuple[int, int], Any] = {}
    for number, branch in enumerate(branches):
        if end is not None and perf_counter() > end:
            entries.extend([None] * (len(branches) - number))
            break
        if spec is None:
            assert isinstance(chain, Error)
            entries.append([(p, _unopened_record(chain.exception)) for p in branch[1]])
        else:
            entries.append(_run_branch(spec, number, branch, fillings, keep, verify, large))
    return Batch(pickle.dumps((process_name(), entries), protocol=5), large)


def _run_branch(
    chain: ChainSpec,
    number: int,
    branch: tuple[Any, ...],
    fillings: Sequence[StepResult],
    keep: int,
    verify: bool,
    large: dict[tuple[int, int], Any],
) -> Any:
    """Run the steps of one branch; a single success comes back as a bare pair, the others as records."""
    index, positions, items, given, starts = branch
    if fillings:
        items = [substitute(item, fillings) for item in items]

    def pack(position: int, record: Record) -> Record:
        record = _encoded(record, chain.steps[position].label(index), verify)
        result = record.state._result
        if weight(result) > keep and not isinstance(result, EncodedError):
            large[number, position] = result
            record = record.with_state(record.state.replace(result=LeftOnWorker(weight(result))))
        return record

    records = run_steps(chain, positions, index, items, dict(given), starts, pack)
    record = records[0][1]
    if len(records) == 1 and is_plain(record):
        return record.state._result, record.seconds, record.item_key
    return records


def take_from_batch(batch: Batch, number: int, position: int) -> StepResult:
    """Return one large result of a batch, in the form of a step's value."""
    return StepResult(position, Record(Success(SUCCEEDED, batch.large[number, position])))
