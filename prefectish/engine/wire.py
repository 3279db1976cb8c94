"""What crosses to a worker and back: a call in, a carry out. Knows no Dask; every process executor uses it.

A lane's :class:`~prefectish.engine.executor.LaneSpec` goes as one blob of bytes, the same for all branches, and is opened once
in each process. A branch's own inputs go with its calls: simple values as they are, others in envelopes. What stayed on a
worker (a large result) is a :class:`Hole` that the value of another key fills where the body runs.

Each step's value is a :class:`Carry`: its own record, and the small records of the steps before it in the branch, so that the
owner reads one key to know a whole branch.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from prefectish.engine.attempt import PENDING, gather, run_step
from prefectish.engine.capture import Error, capture
from prefectish.engine.decide import SUCCEEDED
from prefectish.engine.envelope import SIMPLE, Encoded, dumps, encode, encode_error, encode_state
from prefectish.engine.executor import STEP, Held, Job, LaneSpec, Pick, Record, StepSpec
from prefectish.engine.plan import Plan
from prefectish.engine.state import Deferred, Failed, Mapped, State, Success
from prefectish.errors import FlowDefinitionError, ResultReleased, text_of

#: Opened lanes kept by a process; a lane in use is opened again if it was dropped.
OPEN_LANES = 64
#: What a record weighs beside its result, in bytes, roughly: for the size that the cluster is told.
RECORD_BYTES = 200


class Hole(Deferred):
    """The place of a value that arrives beside the call."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def get(self) -> Any:
        """Refuse: a hole is filled before anything reads it."""
        raise AssertionError(f"hole {self.number} was not filled")

    def __reduce__(self) -> tuple[Any, ...]:
        return Hole, (self.number,)


class Dropped(Deferred):
    """A large result that nobody outside its branch needs; it was not sent."""

    __slots__ = ("label", "nbytes")

    def __init__(self, label: str, nbytes: int) -> None:
        self.label = label
        self.nbytes = nbytes

    def get(self) -> Any:
        """Refuse.

        Raises
        ------
        ResultReleased : always; it names the option that keeps the result.
        """
        raise ResultReleased(
            f"result of {self.label} ({self.nbytes} bytes) was not kept: no task outside its branch reads it; "
            f"pass keep_results=True (or a list of tasks) to flow.run to keep it"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Dropped, (self.label, self.nbytes)


class Carry:
    """The value of one step's key.

    Attributes
    ----------
    position, record : the step's own.
    small : records of steps before it in the branch, by position; large results are left out of them.
    """

    __slots__ = ("position", "record", "small")

    def __init__(self, position: int, record: Record, small: tuple[tuple[int, Record], ...] = ()) -> None:
        self.position = position
        self.record = record
        self.small = small

    @property
    def nbytes(self) -> int:
        """Size of what it holds, in bytes."""
        result = self.record.state._result
        own = result.nbytes if isinstance(result, Encoded) else len(result) if isinstance(result, str | bytes) else 8
        return int(own) + RECORD_BYTES * (1 + len(self.small))

    def __reduce__(self) -> tuple[Any, ...]:
        record = self.record
        state = record.state
        if type(state) is Success and state.message is SUCCEEDED and record.width is None and not self.small:
            return _carry, (self.position, state._result, record.seconds)
        return Carry, (self.position, record, self.small)


def _carry(position: int, result: Any, seconds: float) -> Carry:
    return Carry(position, Record(Success(SUCCEEDED, result), seconds))


class Call:
    """The part of a call that belongs to one branch.

    Attributes
    ----------
    sources : positions whose carries come first among the arguments; after them come the values for holes.
    keep : largest result of an earlier step that rides along, in bytes.
    """

    __slots__ = ("given", "index", "items", "keep", "position", "sources", "start")

    def __init__(
        self,
        position: int,
        index: int,
        items: tuple[Any, ...],
        given: Mapping[int, State] | None,
        start: State | None,
        sources: tuple[int, ...],
        keep: int,
    ) -> None:
        self.position = position
        self.index = index
        self.items = items
        self.given = given
        self.start = start
        self.sources = sources
        self.keep = keep

    def __reduce__(self) -> tuple[Any, ...]:
        return Call, (self.position, self.index, self.items, self.given, self.start, self.sources, self.keep)


# -- on the worker ---------------------------------------------------------------------------------------------------


def execute(blob: bytes, call: Call, *values: Carry) -> Carry:
    """Run one step where the body runs. Nothing escapes: whatever happens comes back as a record."""
    lane = capture(open_lane, blob)
    if isinstance(lane, Error):
        return Carry(call.position, _unopened(call, lane.exception), _small(call, None, values))
    record = _run(lane.value, call, values)
    return Carry(call.position, record, _small(call, lane.value, values))


def _run(lane: LaneSpec, call: Call, values: Sequence[Carry]) -> Record:
    spec = lane.steps[call.position]
    label = spec.label(call.index)
    carries, fillings = values[: len(call.sources)], values[len(call.sources) :]
    states = {position: carry.record.state for position, carry in zip(call.sources, carries, strict=True)}
    if call.given:
        states.update(call.given)
    items: Sequence[Any] = call.items
    if fillings:
        items = [fill(item, fillings) for item in items]
        lane = LaneSpec(
            lane.ident, lane.run, lane.steps, tuple(fill(s, fillings) for s in lane.shared), lane.wanted, lane.batch
        )
    upstream = gather(lane, call.position, items, states)
    record = run_step(lane, call.position, call.index, upstream, call.start or PENDING)
    state = encode_state(record.state, label)
    if state is not record.state:
        record = Record(state, record.seconds, record.due_in, record.width)
    return record


def _small(call: Call, lane: LaneSpec | None, values: Sequence[Carry]) -> tuple[tuple[int, Record], ...]:
    """Collect the records of the steps before this one, without large results."""
    small: dict[int, Record] = {}
    for carry in values[: len(call.sources)]:
        small.update(carry.small)
        if lane is None or carry.position not in lane.wanted:
            small[carry.position] = _light(carry.record, call, lane)
    return tuple(small.items())


def _light(record: Record, call: Call, lane: LaneSpec | None) -> Record:
    result = record.state._result
    if not isinstance(result, Encoded) or result.nbytes <= call.keep:
        return record
    dropped = record.state.replace(result=Dropped(result.label, result.nbytes))
    return Record(dropped, record.seconds, record.due_in, record.width)


def _unopened(call: Call, error: BaseException) -> Record:
    text = f"the task could not be unpickled on the worker: {type(error).__name__}: {text_of(error)}"
    return Record(Failed(text, encode_error(error, "the task")))


def fill(item: Any, fillings: Sequence[Carry]) -> Any:
    """Replace the holes in an input by the values that came beside the call."""
    if isinstance(item, Pick):
        return Pick(fill(item.state, fillings), item.path)
    if not isinstance(item, State):
        return item
    if isinstance(item._result, Hole):
        return item.replace(result=fillings[item._result.number].record.state._result)
    if type(item) is Mapped and item.map_states:
        return item.replace(map_states=[fill(child, fillings) for child in item.map_states], result=None)
    return item


_open: OrderedDict[bytes, LaneSpec] = OrderedDict()


def open_lane(blob: bytes) -> LaneSpec:
    """Return the lane in `blob`; a process opens it once."""
    lane = _open.get(blob)
    if lane is None:
        lane = pickle.loads(blob)
        _open[blob] = lane
        while len(_open) > OPEN_LANES:
            _open.popitem(last=False)
    return lane


# -- on the client ---------------------------------------------------------------------------------------------------


def pickle_tasks(plan: Plan) -> dict[int, bytes]:
    """Return the bytes of each task, by step number.

    Raises
    ------
    FlowDefinitionError : a task cannot be pickled.
    """
    packed: dict[int, bytes] = {}
    for step in plan.steps:
        if step.literal is not None:
            continue
        outcome = capture(dumps, step.task)
        if isinstance(outcome, Error):
            error = outcome.exception
            raise FlowDefinitionError(
                f"task {step.slug} cannot be pickled: {type(error).__name__}: {text_of(error)}; what its body closes over "
                f"(a socket, a lock, a connection) has to be made inside the body, or run on threads"
            ) from error
        packed[step.number] = outcome.value
    return packed


class Packer:
    """Makes wire forms of what a job carries; notes what stays behind as holes.

    Attributes
    ----------
    held : what the holes stand for, in order of their numbers.
    """

    def __init__(self) -> None:
        self.held: list[Held] = []

    def state(self, state: State, label: str) -> State:
        """Return a state with its result in an envelope, or a hole if it stayed on a worker."""
        result = state._result
        if isinstance(result, Held):
            self.held.append(result)
            return state.replace(result=Hole(len(self.held) - 1))
        if type(state) is Mapped and state.map_states is not None:
            children = [self.state(c, label) if c is not None else None for c in state.map_states]
            return Mapped(state.message, map_states=children, n_map_states=state.n_map_states)
        if type(result) in SIMPLE or isinstance(result, Deferred):
            return state
        return encode_state(state, label)

    def item(self, item: Any, label: str) -> Any:
        """Return one input of a branch in its wire form.

        Raises
        ------
        Exception : whatever pickling the value raised.
        """
        if type(item) in SIMPLE:
            return item
        if isinstance(item, Pick):
            return Pick(self.state(item.state, label), item.path)
        if isinstance(item, State):
            return self.state(item, label)
        return Success(None, encode(item, label, keep=False))


def pack_lane(lane: LaneSpec, tasks: Mapping[int, bytes]) -> tuple[bytes, list[Held]]:
    """Return the blob of a lane and what its holes stand for.

    Raises
    ------
    UnpackableInput : a constant of a step cannot be pickled.
    """
    packer = Packer()
    steps = []
    for spec in lane.steps:
        constants = {}
        for name, value in spec.constants.items():
            outcome = capture(encode, value, f"argument {name!r} of {spec.slug}", False)
            if isinstance(outcome, Error):
                raise UnpackableInput(spec, name, outcome.exception)
            constants[name] = outcome.value
        steps.append((spec, tasks[spec.number], constants))
    shared = tuple(packer.state(state, "an unmapped input") for state in lane.shared)
    content = (lane.ident, lane.run, [_flat(*step) for step in steps], shared, lane.wanted, lane.batch)
    return dumps(_Opened(content)), packer.held


class UnpackableInput(Exception):
    """An input that cannot be pickled at the client: the step's own children fail with it, nothing is submitted."""

    def __init__(self, spec: StepSpec, name: str, error: BaseException) -> None:
        super().__init__(spec, name, error)
        self.spec = spec
        self.name = name
        self.error = error

    def record(self, index: int) -> Record:
        """Return the record of the step whose input it is."""
        error = self.error
        text = f"argument {self.name!r} of {self.spec.label(index)} could not be pickled: {type(error).__name__}: "
        return Record(Failed(text + text_of(error), error))


def _flat(spec: StepSpec, task: bytes, constants: Mapping[str, Any]) -> tuple[Any, ...]:
    return (spec.number, task, spec.slug, spec.inputs, constants, spec.mapped, spec.measure, spec.wiring)


class _Opened:
    """Pickles as the content of a lane, unpickles as the lane."""

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
) -> LaneSpec:
    specs = tuple(StepSpec(number, pickle.loads(task), *rest) for number, task, *rest in steps)
    return LaneSpec(ident, run, specs, shared, wanted, batch)


def sources_of(job: Job, position: int) -> tuple[int, ...]:
    """Return the positions in the same job whose carries a step reads."""
    inside = job.positions
    found = (k for kind, k in job.lane.steps[position].wiring if kind == STEP and k in inside)
    return tuple(dict.fromkeys(found))
