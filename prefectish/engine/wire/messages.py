"""What crosses to a worker and back: a call in, its result out. Knows no Dask; every process executor uses it.

A chain's :class:`~prefectish.engine.jobs.job.ChainSpec` goes as one payload of bytes, the same for all branches, and is
opened once in each process. A branch's own inputs go with its calls: simple values as they are, others in envelopes.
What stayed on a worker (a large result) is a :class:`ResultRef`; the value of another key takes its place where the
body runs.

Each step's value is a :class:`StepResult`: its own record, and the small records of the steps before it in the branch,
so that the owner reads one key to know a whole branch.
"""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping, Sequence
from time import perf_counter
from typing import Any

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.context import current, get_logger
from prefectish.engine.jobs.envelope import SIMPLE, Encoded, EncodedError, dumps, encode, encode_error, encode_state
from prefectish.engine.jobs.job import SHARED, STEP, ChainSpec, Held, Job, Pick, Record, StepSpec
from prefectish.engine.plan.compile import Plan
from prefectish.engine.state import Deferred, Failed, Mapped, State, Success
from prefectish.engine.wire.pickle_path import pickle_path
from prefectish.engine.worker.attempt import PENDING, gather, run_step
from prefectish.engine.worker.decide import SUCCEEDED
from prefectish.engine.worker.logs.capture import TERMS, listen
from prefectish.errors import FlowDefinitionError, PrefectishError, ResultReleased, text_of
from prefectish.tasks.task import Task

#: Opened chains kept by a process; a chain in use is opened again if it was dropped.
OPEN_CHAINS = 64
#: Values above this, in bytes, are sent by themselves, once, and not with the calls that read them.
LARGEST_WITH_CALL = 1 << 18
#: An input that all branches share is warned of if it is larger, in bytes.
HEAVY = 1 << 20
#: What a record weighs beside its result, in bytes, roughly: for the size that the cluster is told.
RECORD_BYTES = 200


class ResultRef(Deferred):
    """The place of a value that arrives beside the call."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def get(self) -> Any:
        """Refuse: a hole is filled before anything reads it."""
        raise AssertionError(f"hole {self.number} was not filled")

    def __reduce__(self) -> tuple[Any, ...]:
        return ResultRef, (self.number,)


class Discarded(Deferred):
    """A large result that nobody outside its branch needs; it was not sent."""

    __slots__ = ("label", "nbytes")

    def __init__(self, label: str, nbytes: int) -> None:
        self.label = label
        self.nbytes = nbytes

    def get(self) -> Any:
        """Refuse.

        Raises
        ------
        ResultReleased
            Always; it names the option that keeps the result.
        """
        raise ResultReleased(
            f"result of {self.label} ({self.nbytes} bytes) was not kept: no task outside its branch reads it; "
            f"pass keep_results=True (or a list of tasks) to flow.run to keep it"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Discarded, (self.label, self.nbytes)


class StepResult:
    """The value of one step's key.

    Attributes
    ----------
    position, record
        The step's own.
    small
        Records of steps before it in the branch, by position; large results are left out of them.
    """

    __slots__ = ("position", "record", "small")

    def __init__(self, position: int, record: Record, small: tuple[tuple[int, Record], ...] = ()) -> None:
        self.position = position
        self.record = record
        self.small = small

    @property
    def nbytes(self) -> int:
        """Size of what it holds, in bytes."""
        return weight(self.record.state._result) + RECORD_BYTES * (1 + len(self.small))

    def __sizeof__(self) -> int:
        return self.nbytes

    def __reduce__(self) -> tuple[Any, ...]:
        record = self.record
        state = record.state
        if _is_plain(record) and not self.small:
            return _carry, (self.position, state._result, record.seconds, record.worker, record.item_key)
        return StepResult, (self.position, record, self.small)


def _carry(position: int, result: Any, seconds: float, worker: str | None, item_key: str | None) -> StepResult:
    return StepResult(position, Record(Success(SUCCEEDED, result), seconds, None, None, worker, item_key))


def weight(result: Any) -> int:
    """Return the size in bytes, or nearly, of a result as it travels."""
    if isinstance(result, Encoded):
        return result.nbytes
    return len(result) if isinstance(result, str | bytes) else 8


class Call:
    """The part of a call that belongs to one branch.

    Attributes
    ----------
    sources
        Positions whose carries come first among the arguments; after them come the values for holes.
    keep
        Largest result of an earlier step that rides along, in bytes.
    verify
        Whether a result is loaded once more where it was made.
    """

    __slots__ = ("given", "index", "items", "keep", "position", "sources", "start", "verify")

    def __init__(
        self,
        position: int,
        index: int,
        items: tuple[Any, ...],
        given: Mapping[int, State] | None,
        start: State | None,
        sources: tuple[int, ...],
        keep: int,
        verify: bool = False,
    ) -> None:
        self.verify = verify
        self.position = position
        self.index = index
        self.items = items
        self.given = given
        self.start = start
        self.sources = sources
        self.keep = keep

    def __reduce__(self) -> tuple[Any, ...]:
        return Call, (
            self.position,
            self.index,
            self.items,
            self.given,
            self.start,
            self.sources,
            self.keep,
            self.verify,
        )


# -- on the worker ---------------------------------------------------------------------------------------------------


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
    upstream = gather(chain, call.position, items, states)
    record = run_step(chain, call.position, call.index, upstream, call.start or PENDING)
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
    steps = tuple(_filled_step(spec, fillings) for spec in chain.steps)
    return ChainSpec(chain.ident, chain.run, steps, shared, chain.wanted, chain.batch)


def _filled_step(spec: StepSpec, fillings: Sequence[StepResult]) -> StepSpec:
    holes = [name for name in spec.late if isinstance(spec.constants[name], ResultRef)]
    if not holes:
        return spec
    constants = dict(spec.constants)
    for name in holes:
        constants[name] = fillings[constants[name].number].record.state._result
    return StepSpec(
        spec.number,
        spec.task,
        spec.slug,
        spec.inputs,
        constants,
        spec.mapped,
        spec.measure,
        spec.wiring,
        spec.keyed,
        spec.keeping,
        spec.caching,
    )


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


_named: tuple[int, str] | None = None


def process_name() -> str:
    """Return the name of this process for records, ``host:pid``."""
    global _named
    pid = os.getpid()
    if _named is None or _named[0] != pid:
        _named = (pid, f"{os.uname().nodename if hasattr(os, 'uname') else os.environ.get('COMPUTERNAME', '')}:{pid}")
    return _named[1]


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


# -- bundles: many branches in one call --------------------------------------------------------------------------------


class Batch:
    """The value of a bundle's key: the records of its branches as bytes, and the large results beside them.

    Attributes
    ----------
    content
        Pickled name of the process and list with an entry a branch: its records by position, or None if it was not
        started.
    Large
        Large results by (number of the branch in the bundle, position).
    """

    __slots__ = ("content", "large")

    def __init__(self, content: bytes, large: Mapping[tuple[int, int], Any]) -> None:
        self.content = content
        self.large = large

    @property
    def nbytes(self) -> int:
        """Size of what it holds, in bytes."""
        return len(self.content) + sum(weight(value) for value in self.large.values())

    def __sizeof__(self) -> int:
        return self.nbytes

    def __reduce__(self) -> tuple[Any, ...]:
        return Batch, (self.content, self.large)


class LeftOnWorker:
    """Stands for a result that stayed where it was made."""

    __slots__ = ("nbytes",)

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes

    def __reduce__(self) -> tuple[Any, ...]:
        return LeftOnWorker, (self.nbytes,)


def execute_bundle(blob: bytes, calls: bytes, *fillings: StepResult) -> Batch:
    """Run the branches of a bundle one after another, all steps of each.

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
    states = dict(given)
    records: list[tuple[int, Record]] = []
    for position in positions:
        upstream = gather(chain, position, items, states)
        record = run_step(chain, position, index, upstream, starts.get(position, PENDING))
        states[position] = record.state
        record = _encoded(record, chain.steps[position].label(index), verify)
        result = record.state._result
        if weight(result) > keep and not isinstance(result, EncodedError):
            large[number, position] = result
            state = record.state.replace(result=LeftOnWorker(weight(result)))
            record = record.with_state(state)
        records.append((position, record))
    record = records[0][1]
    if len(records) == 1 and _is_plain(record):
        return record.state._result, record.seconds, record.item_key
    return records


def _is_plain(record: Record) -> bool:
    """Whether a record is that of a success with nothing of its own beside the result: no message, tags or width."""
    state = record.state
    if type(state) is not Success or state.message is not SUCCEEDED or record.width is not None or record.lines:
        return False
    return state._context is None and state._cached_inputs is None


def open_bundle(bundle: Batch) -> list[list[tuple[int, Record]] | None]:
    """Return the records of each branch of a bundle, None for those that were not started."""
    worker, entries = pickle.loads(bundle.content)
    return [_open_entry(entry, worker) for entry in entries]


def _open_entry(entry: Any, worker: str) -> list[tuple[int, Record]] | None:
    if type(entry) is tuple:
        result, seconds, item_key = entry
        return [(0, Record(Success(SUCCEEDED, result), seconds, None, None, worker, item_key))]
    records: list[tuple[int, Record]] | None = entry
    return records


def take(bundle: Batch, number: int, position: int) -> StepResult:
    """Return one large result of a bundle, in the form of a step's value."""
    return StepResult(position, Record(Success(SUCCEEDED, bundle.large[number, position])))


# -- on the client ---------------------------------------------------------------------------------------------------


def pickle_tasks(plan: Plan) -> dict[int, bytes]:
    """Return the bytes of each task, by step number.

    Raises
    ------
    FlowDefinitionError
        A task cannot be pickled.
    """
    return {step.number: pickle_task(step.slug, step.task) for step in plan.steps if step.literal is None}


def pickle_task(slug: str, task: Task) -> bytes:
    """Return the bytes of a task.

    Raises
    ------
    FlowDefinitionError
        It cannot be pickled.
    """
    outcome = capture(dumps, task)
    if isinstance(outcome, Error):
        error = outcome.exception
        raise FlowDefinitionError(
            f"task {slug} cannot be pickled: {_why(task, task.name, error)}; what its body closes "
            f"over (a socket, a lock, a connection) has to be made inside the body, or run on threads"
        ) from error
    packed: bytes = outcome.value
    return packed


def _why(value: Any, name: str, error: BaseException) -> str:
    """Say why a value cannot be pickled, and which part of it that is."""
    inside = value.run if isinstance(value, Task) else None
    path = (pickle_path(inside, name) if inside is not None else None) or pickle_path(value, name)
    return f"{type(error).__name__}: {text_of(error)}{f' (it is {path})' if path else ''}"


class Packer:
    """Makes wire forms of what a job carries; notes what does not go with it as holes.

    Attributes
    ----------
    held
        What the holes stand for, in order of their numbers: a result that stayed on a worker, or a value too large to
        go with every call, which is to be sent by itself.
    """

    def __init__(self) -> None:
        self.held: list[Held | Encoded | Any] = []

    def _large(self, value: Any) -> Any:
        if weight(value) > LARGEST_WITH_CALL:
            self.held.append(value)
            return ResultRef(len(self.held) - 1)
        return value

    def constant(self, value: Any, label: str) -> Any:
        """Return a constant in its wire form.

        Raises
        ------
        Exception
            Whatever pickling the value raised.
        """
        return self._large(encode(value, label, keep=False))

    def state(self, state: State, label: str) -> State:
        """Return a state with its result in an envelope, or a hole if it stayed on a worker."""
        result = state._result
        if isinstance(result, Held):
            self.held.append(result)
            return state.replace(result=ResultRef(len(self.held) - 1))
        if type(state) is Mapped and state.map_states is not None:
            children = [self.state(c, label) if c is not None else None for c in state.map_states]
            return Mapped(state.message, map_states=children, n_map_states=state.n_map_states)
        packed = state if type(result) in SIMPLE or isinstance(result, Deferred) else encode_state(state, label)
        large = self._large(packed._result)
        return packed if large is packed._result else packed.replace(result=large)

    def item(self, item: Any, label: str) -> Any:
        """Return one input of a branch in its wire form.

        Raises
        ------
        Exception
            Whatever pickling the value raised.
        """
        if type(item) in SIMPLE:
            large = self._large(item)
            return item if large is item else Success(None, large)
        if isinstance(item, Pick):
            return Pick(self.state(item.state, label), item.path)
        if isinstance(item, State):
            return self.state(item, label)
        return Success(None, self._large(encode(item, label, keep=False)))


def learn_tasks(chain: ChainSpec, tasks: MutableMapping[int, bytes]) -> None:
    """Add the bytes of tasks that came after the run had begun."""
    for spec in chain.steps:
        if spec.number not in tasks:
            tasks[spec.number] = pickle_task(spec.slug, spec.task)


def pack_chain(chain: ChainSpec, tasks: MutableMapping[int, bytes]) -> tuple[bytes, list[Any]]:
    """Return the blob of a chain and what its holes stand for."""
    learn_tasks(chain, tasks)
    packer = Packer()
    steps = []
    for spec in chain.steps:
        constants = {n: _constant(packer, spec, n, value) for n, value in spec.constants.items()}
        steps.append((spec, tasks[spec.number], constants))
    shared = tuple(_shared(packer, chain, k) for k in range(len(chain.shared)))
    run = {name: value for name, value in chain.run.items() if name != "caches"}  # a memory of this process
    content = (chain.ident, run, [_flat(*step) for step in steps], shared, chain.wanted, chain.batch)
    whole = capture(dumps, _Opened(content))
    if isinstance(whole, Value):
        return whole.value, packer.held
    return dumps(_Opened((chain.ident, _portable(run), *content[2:]))), packer.held


def _constant(packer: Packer, spec: StepSpec, name: str, value: Any) -> Any:
    outcome = capture(packer.constant, value, f"argument {name!r} of {spec.slug}")
    if isinstance(outcome, Error):
        return Unpicklable(name, spec.slug, _why(value, name, outcome.exception))
    _warn_if_heavy(packer, outcome.value, name, spec.slug)
    return outcome.value


def _warn_if_heavy(packer: Packer, value: Any, name: str, slug: str) -> None:
    nbytes = weight(packer.held[value.number] if isinstance(value, ResultRef) else value)
    if nbytes > HEAVY:
        get_logger("engine").warning(
            "argument %r of %s has %.1f MB, which pass through this process; they are sent once, but a task "
            "that makes or reads the value there would not send them at all",
            name, slug, nbytes / 1e6,
        )  # fmt: skip


def _shared(packer: Packer, chain: ChainSpec, k: int) -> State:
    """Return the wire form of an input that all branches share."""
    state = chain.shared[k]
    packed = packer.state(state, "an unmapped input")
    spec, i = next(
        (spec, i) for spec in chain.steps for i, w in zip(spec.inputs, spec.wiring, strict=True) if w == (SHARED, k)
    )
    if state.is_failed() or not packed.is_failed():
        _warn_if_heavy(packer, packed._result, i.key or i.source_slug, spec.slug)
        return packed
    # It could not be pickled. That is no fault of its task's: who reads it fails.
    return state.replace(result=Unpicklable(i.key or i.source_slug, spec.slug, packed.result))


class Unpicklable(Deferred):
    """The place of an input that could not be pickled: the child that reads it fails, and says why."""

    __slots__ = ("name", "reason", "slug")

    def __init__(self, name: str, slug: str, reason: BaseException | str) -> None:
        self.name = name
        self.slug = slug
        self.reason = f"{type(reason).__name__}: {text_of(reason)}" if isinstance(reason, BaseException) else reason

    def get(self) -> Any:
        """Refuse.

        Raises
        ------
        PrefectishError
            always.
        """
        index = current().get("map_index")
        label = self.slug if index is None else f"{self.slug}[{index}]"
        raise PrefectishError(f"argument {self.name!r} of {label} could not be pickled: {self.reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Unpicklable, (self.name, self.slug, self.reason)


def _portable(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a run that can be pickled; a body elsewhere does not find the others in its context."""
    kept = {name: value for name, value in run.items() if isinstance(capture(dumps, value), Value)}
    get_logger("engine").debug("context of bodies elsewhere lacks %s", ", ".join(sorted(run.keys() - kept.keys())))
    return kept


class UnpackableInput(Exception):
    """An input that cannot be pickled at the client: the step's own children fail with it, nothing is submitted."""

    def __init__(self, spec: StepSpec, name: str, value: Any, error: BaseException) -> None:
        super().__init__(spec, name, value, error)
        self.spec = spec
        self.value = value
        self.name = name
        self.error = error

    def record(self, index: int) -> Record:
        """Return the record of the step whose input it is."""
        error = self.error
        why = _why(self.value, self.name, error)
        return Record(Failed(f"argument {self.name!r} of {self.spec.label(index)} could not be pickled: {why}", error))


def _flat(spec: StepSpec, task: bytes, constants: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        spec.number,
        task,
        spec.slug,
        spec.inputs,
        constants,
        spec.mapped,
        spec.measure,
        spec.wiring,
        spec.keyed,
        spec.keeping,
        spec.caching,
    )


class _Opened:
    """Pickles as the content of a chain, unpickles as the chain."""

    def __init__(self, content: tuple[Any, ...]) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, self.content


def _reopen(
    ident: int,
    run: Mapping[str, Any],
    steps: Sequence[tuple[Any, ...]],
    shared: tuple[State, ...],
    wanted: frozenset[int],
    batch: int | str | None,
) -> ChainSpec:
    specs = tuple(StepSpec(number, pickle.loads(task), *rest) for number, task, *rest in steps)
    return ChainSpec(ident, run, specs, shared, wanted, batch)


def sources_of(job: Job, position: int) -> tuple[int, ...]:
    """Return the positions in the same job whose carries a step reads."""
    inside = job.positions
    found = (k for kind, k in job.chain.steps[position].wiring if kind == STEP and k in inside)
    return tuple(dict.fromkeys(found))
