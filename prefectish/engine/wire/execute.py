"""What runs on a worker: open a chain, put values in the place of references, run steps, pack their records."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from time import perf_counter
from typing import Any

from prefectish.engine.capture import Error, capture
from prefectish.engine.jobs.envelope import SIMPLE, EncodedError, encode_error, encode_state, weight
from prefectish.engine.jobs.job import STEP, ChainSpec, Pick, Record, StepSpec
from prefectish.engine.jobs.references import Discarded, LeftOnWorker, ResultRef, UpstreamRef
from prefectish.engine.state import Failed, Mapped, Pending, State, Success
from prefectish.engine.state_column import SUCCEEDED, replaced
from prefectish.engine.wire.bare_rows import BareRows
from prefectish.engine.wire.messages import Batch, Call, Gathered, StepResult
from prefectish.engine.worker import lifetime, recall, running
from prefectish.engine.worker.attempt import Called
from prefectish.engine.worker.attempt_context import AttemptContext
from prefectish.engine.worker.logs.capture import SETTINGS, listen
from prefectish.engine.worker.recall import may_begin
from prefectish.engine.worker.run_steps import run_steps
from prefectish.engine.worker.shared_loop import side_by_side
from prefectish.engine.worker.time_limit import AttemptOverran, bounded
from prefectish.errors import text_of
from prefectish.kinds import is_a
from prefectish.process_tree import process_name

_NO_START = Pending()
_NOTHING: Mapping[int, State] = {}
#: Opened chains that a process keeps; one that was dropped is opened again.
MAX_OPEN_CHAINS = 64
#: Seconds after which no further step of a whole chain of single tasks begins in its Dask task.
WHOLE_SECONDS = 0.25


class NotHere(Exception):
    """Raised while a chain is opened in a process that must not run it; the executor runs it in another one."""


def execute(payload: bytes, call: Call, *values: StepResult) -> StepResult:
    """Run one step of one branch. It raises nothing but `NotHere`: whatever happens is in the record.

    `payload` is the chain, as :func:`prefectish.engine.wire.pack.pack_chain` made it; `values` are the results of
    ``call.sources``, then the values that references stand for, in the order of their numbers.
    """
    slot = None if payload in _open else running.begin(running.UNKNOWN, call.index, call.submission)
    chain = capture(open_chain, payload)
    if isinstance(chain, Error):
        running.end(slot)
        _check_place(chain.exception)
        return StepResult(call.position, _unopened_record(chain.exception), _earlier_records(call, None, values))
    spec = chain.value.steps[call.position]
    slot = running.begin(running.number_of(spec.slug), call.index, call.submission, slot)
    try:
        return _execute(chain.value, spec, call, values)
    finally:
        running.end(slot)


def _execute(chain: ChainSpec, spec: StepSpec, call: Call, values: Sequence[StepResult]) -> StepResult:
    """Run a step of a chain that is open."""
    named = (chain.key, call.position)
    if not call.probe_only:
        lifetime.check(named, (named, call.index, call.submission), spec.expected or call.expected)
    record = _run(chain, call, values)
    lifetime.note(named, record.seconds)
    # What did not end, as after a RETRY or a pause, reads its inputs again: they go along.
    light = record.state.is_finished()
    return StepResult(call.position, record, _earlier_records(call, chain, values, light))


def _check_place(error: BaseException) -> None:
    """Raise what keeps a chain from running in this process only."""
    if isinstance(error, NotHere):
        raise error


def _run(chain: ChainSpec, call: Call, values: Sequence[StepResult]) -> Record:
    results, values = values[: len(call.sources)], values[len(call.sources) :]
    states = {position: result.record.state for position, result in zip(call.sources, results, strict=True)}
    if call.given:
        states.update(_substituted(call.given, values))
    items: Sequence[Any] = call.items
    starts = {} if call.start is None else {call.position: call.start}
    if values:
        items = [substitute(item, values) for item in items]
        starts = _substituted(starts, values)
        chain = _with_values(chain, values)
    options = None, call.probe_only, partial(may_begin, chain, call.index, call.submission)
    ((_, record),) = run_steps(chain, (call.position,), call.index, items, states, starts, *options)
    return _encoded(record, chain, call.position, call.index, call.verify)


def _encoded(record: Record, chain: ChainSpec, position: int, index: int, verify: bool) -> Record:
    """Return a record as it leaves this process; pickling runs code of the user, and has the limit of the attempt."""
    record.worker = process_name()
    if _is_sent_as_it_is(record.state):
        return record
    spec = chain.steps[position]
    label = spec.place_of(index)
    if spec.limit is None or type(record.state._raw_result) in SIMPLE:
        state = encode_state(record.state, label, verify)
    else:
        ctx = AttemptContext(chain.run, spec, index, _NO_START)
        try:
            state = bounded(ctx, "the pickling of its result", encode_state, record.state, label, verify)
        except AttemptOverran as overran:
            state = encode_state(overran.state, label)
    return record if state is record.state else record.with_state(state)


def _is_sent_as_it_is(state: State) -> bool:
    """Whether there is nothing to pickle in a state: a plain success with a number, a text or None, as most are."""
    if type(state) is not Success or type(state._raw_result) not in SIMPLE or state.message is not SUCCEEDED:
        return False
    return state._context is None and state._cached_inputs is None


def _with_values(chain: ChainSpec, values: Sequence[StepResult]) -> ChainSpec:
    """Return a chain with values in the place of the references in its shared inputs and constants."""
    shared = tuple(substitute(state, values) for state in chain.shared)
    steps = tuple(_step_with_values(spec, values) for spec in chain.steps)
    return chain.replace(steps=steps, shared=shared)


def _step_with_values(spec: StepSpec, values: Sequence[StepResult]) -> StepSpec:
    references = [name for name in spec.late if isinstance(spec.constants[name], ResultRef)]
    if not references:
        return spec
    constants = dict(spec.constants)
    for name in references:
        constants[name] = values[constants[name].number].record.state._raw_result
    return spec.replace(constants=constants)


def _earlier_records(
    call: Call, chain: ChainSpec | None, values: Sequence[StepResult], light: bool = True
) -> tuple[tuple[int, Record], ...]:
    """Return the records of the steps before this one, if `light` without large results."""
    small: dict[int, Record] = {}
    for result in values[: len(call.sources)]:
        small.update(result.small)
        if chain is None or result.position not in chain.wanted:
            record = result.record
            small[result.position] = _light(record, result.position, call, chain) if light else record
    return tuple(small.items())


def _light(record: Record, position: int, call: Call, chain: ChainSpec | None) -> Record:
    nbytes = weight(record.state._raw_result)
    if nbytes <= call.keep or is_a(record.state._raw_result, EncodedError):
        return record
    label = "an earlier step" if chain is None else chain.steps[position].label_of(call.index)
    return record.with_state(record.state.replace(result=Discarded(label, nbytes)))


def _unopened_record(error: BaseException) -> Record:
    text = f"the task could not be unpickled on the worker: {type(error).__name__}: {text_of(error)}"
    return Record(Failed(text, encode_error(error, "the task")))


def substitute(item: Any, values: Sequence[StepResult]) -> Any:
    """Return an input with values in the place of references."""
    if is_a(item, UpstreamRef):
        return values[item.number].record.state
    if is_a(item, Pick):
        return Pick(substitute(item.state, values), item.path)
    if not is_a(item, State):
        return item
    if is_a(item._raw_result, ResultRef):
        return item.replace(result=values[item._raw_result.number].record.state._raw_result)
    if type(item) is Mapped and item.map_states:
        children = replaced(item.map_states, lambda child: substitute(child, values), SIMPLE)
        return item.replace(map_states=children, result=None)
    return item


def _substituted(states: Mapping[int, Any], values: Sequence[StepResult]) -> dict[int, Any]:
    return {position: substitute(state, values) for position, state in states.items()}


_open: OrderedDict[bytes, ChainSpec] = OrderedDict()


def open_chain(payload: bytes) -> ChainSpec:
    """Return the chain in `payload`; a process opens it once."""
    chain = _open.get(payload)
    if chain is None:
        chain = pickle.loads(payload)
        listen(chain.run.get(SETTINGS))
        _open[payload] = chain
        while len(_open) > MAX_OPEN_CHAINS:
            _open.popitem(last=False)
    return chain


def reopen_chain(*content: Any) -> ChainSpec:
    """Return a chain from the content of its payload, in which each task is bytes of its own.

    The guard comes first: an object that raises `NotHere` where it is unpickled and the chain must not run.
    """
    fields = dict(zip(ChainSpec.fields, content[1:], strict=True))
    fields["steps"] = tuple(StepSpec(number, pickle.loads(task), *rest) for number, task, *rest in fields["steps"])
    return ChainSpec(**fields)


def execute_batch(payload: bytes, calls: bytes, *values: StepResult) -> Batch:
    """Run the branches of a batch one after another, all steps of each. It raises nothing but `NotHere`.

    `calls` is a pickled ``(patience, keep, verify, probe_only, branches, omitted)``, see :func:`branches_of`. Branches
    that have not started after `patience` seconds return to the client as they are, so that a slow one does not hold up
    the others; those whose numbers are omitted do not start. A branch of index -1 is a whole chain of single tasks.
    """
    patience, keep, verify, probe_only, sent, omitted = pickle.loads(calls)
    opened = capture(open_chain, payload)
    branches = branches_of(sent)
    if isinstance(opened, Error):
        _check_place(opened.exception)
        gathered = Gathered(0)
        for number, branch in enumerate(branches):
            gathered.add(number, [(p, _unopened_record(opened.exception)) for p in branch[1]])
        return Batch(gathered.packed(process_name()), {})
    chain = _with_values(opened.value, values) if values else opened.value
    gathered, large = Gathered(len(chain.steps)), dict[tuple[int, int], Any]()
    options = keep, verify, probe_only
    most = None if chain.batch_size is None else chain.steps[0].task.async_concurrency  # a whole chain has one branch
    if most is not None:
        runnable = {number: branch for number, branch in enumerate(branches) if number not in omitted}
        ended = _run_side_by_side(chain, runnable, values, options, large, most)
        for number in range(len(runnable) + len(omitted)):
            gathered.add(number, ended.get(number))
        return Batch(gathered.packed(process_name()), large)
    end = None if patience is None else perf_counter() + patience
    bare = None if probe_only or chain.batch_size is None else BareRows.of(chain)
    for number, branch in enumerate(branches):
        if (end is not None and perf_counter() > end) or (omitted and number in omitted):
            gathered.add(number, None)
            continue
        index, positions, items, given, starts, submission = branch
        called = None if bare is None or given or starts else bare.call(index, positions, items, submission)
        if called is None or not gathered.add_called(called, keep):
            gathered.add(number, _run_branch(chain, number, branch, values, options, large, called or ()))
    return Batch(gathered.packed(process_name()), large)


def branches_of(sent: Any) -> Iterable[tuple[Any, ...]]:
    """Return the branches of a batch: ``(index, positions, items, given, starts, submission)``.

    They are sent as a list, or as ``(rows, positions, columns)`` if only rows and items tell them apart.
    """
    if type(sent) is list:
        return sent
    rows, positions, columns = sent
    items = zip(*columns, strict=True) if columns else repeat(())
    return ((row, positions, of_row, _NOTHING, _NOTHING, 0) for row, of_row in zip(rows, items, strict=False))


def _run_side_by_side(
    chain: ChainSpec,
    branches: Mapping[int, tuple[Any, ...]],
    values: Sequence[StepResult],
    options: tuple[int, bool, bool],
    large: dict[tuple[int, int], Any],
    most: int,
) -> dict[int, list[tuple[int, Record]]]:
    """Run branches that share a slot, so many at a time, and return what each gave, by its number."""
    ended: dict[int, list[tuple[int, Record]]] = {}

    def call(number: int, branch: tuple[Any, ...]) -> None:
        ended[number] = _run_branch(chain, number, branch, values, options, large)

    side_by_side([partial(call, number, branch) for number, branch in branches.items()], most)
    return ended


def _run_branch(
    chain: ChainSpec,
    number: int,
    branch: tuple[Any, ...],
    values: Sequence[StepResult],
    options: tuple[int, bool, bool],
    large: dict[tuple[int, int], Any],
    called: Sequence[Called] = (),
) -> list[tuple[int, Record]]:
    """Run the steps of one branch and return their records; the bodies of the first may have been called."""
    index, positions, items, given, starts, submission = branch
    keep, verify, probe_only = options
    if values:
        items = [substitute(item, values) for item in items]
        given, starts = _substituted(given, values), _substituted(starts, values)

    def pack(position: int, record: Record) -> Record:
        record = _encoded(record, chain, position, index, verify)
        result = record.state._raw_result
        if weight(result) > keep and not is_a(result, EncodedError):
            large[number, position] = result
            record = record.with_state(record.state.replace(result=LeftOnWorker(weight(result))))
        return record

    may = partial(may_begin, chain, index, submission)
    if index >= 0 or probe_only:
        return run_steps(chain, positions, index, items, dict(given), starts, pack, probe_only, may, called)
    whole = index, positions, items, given, starts, submission
    return _run_whole(chain, number, whole, pack, large, may_drop=not values)


def _run_whole(
    chain: ChainSpec,
    number: int,
    branch: tuple[Any, ...],
    pack: Callable[[int, Record], Record],
    large: dict[tuple[int, int], Any],
    may_drop: bool,
) -> list[tuple[int, Record]]:
    """Run the steps of a whole chain of single tasks; to who asks what runs here it is its first step.

    `may_drop` says whether large results that nothing reads any more are dropped: what is lost can be made again.
    """
    index, positions, items, given, starts, submission = branch
    first, named = chain.steps[positions[0]], (chain.key, positions[0])
    lifetime.check(named, (named, index, submission), first.expected)
    states, used = dict(given), dict[int, int]()

    def pack_and_drop(position: int, record: Record) -> Record:
        packed = pack(position, record)
        if may_drop and record.state.is_finished():
            used.update((p, weight(large.pop((number, p)))) for p in _used_up(chain, position, large))
            for p in used:
                states.pop(p, None)
        return packed

    may = partial(may_begin, chain, index, submission)
    may = partial(_goes_on, may, large, perf_counter() + WHOLE_SECONDS)
    slot = running.begin(running.number_of(first.slug), index, submission)
    try:
        records = run_steps(chain, positions, index, items, states, starts, pack_and_drop, False, may)
    finally:
        running.end(slot)
    return [(p, _discarded(record, chain, p, used[p]) if p in used else record) for p, record in records]


def _goes_on(may_begin: Callable[[int], bool], large: Mapping[Any, Any], end: float, position: int) -> bool:
    """Whether a step of a whole chain begins here: none does where the process will end, nor after a long body.

    But where a large result waits for it, it begins however long that took. Else the result would be left for it, and
    were it lost and made again by quicker bodies, the step would run here a second time, and use the result up.
    """
    if position and (lifetime.seconds_left() is not None or (perf_counter() > end and not large)):
        return False
    if position and recall.is_dropped is not None and recall.is_dropped():
        return False  # its run was cancelled, or has ended: Dask ends no task that runs
    return may_begin(position)


def _used_up(chain: ChainSpec, last: int, large: Mapping[tuple[int, int], Any]) -> list[int]:
    """Return the steps whose large results nothing reads that comes after step `last`."""
    later = {k for spec in chain.steps[last + 1 :] for kind, k in spec.wiring if kind is STEP}
    return [p for _, p in large if p < last and p not in later and p not in chain.wanted]


def _discarded(record: Record, chain: ChainSpec, position: int, nbytes: int) -> Record:
    """Return a record without a large result that was read where it was made."""
    return record.with_state(record.state.replace(result=Discarded(chain.steps[position].label, nbytes)))


def take_from_batch(
    batch: Batch, number: int, position: int, payload: bytes | None = None, calls: bytes | None = None
) -> StepResult:
    """Return one large result of a batch as the result of its step.

    Parameters
    ----------
    payload, calls
        Of a whole chain, what makes it again. The chain left the result for a step that was to begin elsewhere; where
        Dask had to run it a second time, because the worker that held the result died, that step may have begun, and
        used the result up.
    """
    if payload is not None and calls is not None and (number, position) not in batch.large:
        batch = execute_batch(payload, _ending_with(position, calls))
    return StepResult(position, Record(Success(SUCCEEDED, batch.large[number, position])))


def _ending_with(last: int, calls: bytes) -> bytes:
    """Return the calls of a whole chain without those of the steps behind one."""
    *options, sent, omitted = pickle.loads(calls)
    kept = [(index, tuple(p for p in positions if p <= last), *rest) for index, positions, *rest in branches_of(sent)]
    return pickle.dumps((*options, kept, omitted), protocol=5)
