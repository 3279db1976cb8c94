"""The client's half: the form in which tasks, chains and inputs go to a worker.

A chain's :class:`~prefectish.engine.jobs.job.ChainSpec` goes as one payload of bytes, the same for all branches, and is
opened once in each process. A branch's own inputs go with its calls: simple values as they are, others in envelopes.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.context import get_logger
from prefectish.engine.jobs.envelope import SIMPLE, Encoded, dumps, encode, encode_state
from prefectish.engine.jobs.job import SHARED, STEP, ChainSpec, Job, Pick, Record, StepSpec
from prefectish.engine.jobs.references import Held, ResultRef, Unpicklable
from prefectish.engine.plan.steps import Plan
from prefectish.engine.state import Deferred, Failed, Mapped, State, Success
from prefectish.engine.wire.execute import reopen_chain
from prefectish.engine.wire.messages import weight
from prefectish.engine.wire.pickle_path import pickle_path
from prefectish.errors import FlowDefinitionError, text_of
from prefectish.tasks.task import Task

#: Values above this, in bytes, are sent by themselves, once, and not with the calls that read them.
LARGEST_WITH_CALL = 1 << 18
#: An input that all branches share is warned of if it is larger, in bytes.
HEAVY = 1 << 20


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


def add_task_payloads(chain: ChainSpec, tasks: MutableMapping[int, bytes]) -> None:
    """Add the bytes of tasks that came after the run had begun."""
    for spec in chain.steps:
        if spec.number not in tasks:
            tasks[spec.number] = pickle_task(spec.slug, spec.task)


def pack_chain(chain: ChainSpec, tasks: MutableMapping[int, bytes]) -> tuple[bytes, list[Any]]:
    """Return the blob of a chain and what its holes stand for."""
    add_task_payloads(chain, tasks)
    packer = Packer()
    steps = []
    for spec in chain.steps:
        constants = {n: _constant(packer, spec, n, value) for n, value in spec.constants.items()}
        steps.append(spec.values(task=tasks[spec.number], constants=constants))
    shared = tuple(_shared(packer, chain, k) for k in range(len(chain.shared)))
    run = {name: value for name, value in chain.run.items() if name != "caches"}  # a memory of this process
    content = chain.values(run=run, steps=steps, shared=shared)
    whole = capture(dumps, _Opened(content))
    if isinstance(whole, Value):
        return whole.value, packer.held
    return dumps(_Opened(chain.values(run=_portable(run), steps=steps, shared=shared))), packer.held


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


class _Opened:
    """Pickles as the content of a chain, unpickles as the chain."""

    def __init__(self, content: tuple[Any, ...]) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        return reopen_chain, self.content


def sources_of(job: Job, position: int) -> tuple[int, ...]:
    """Return the positions in the same job whose carries a step reads."""
    inside = job.positions
    found = (k for kind, k in job.chain.steps[position].wiring if kind == STEP and k in inside)
    return tuple(dict.fromkeys(found))
