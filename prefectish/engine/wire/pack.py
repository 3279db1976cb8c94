"""What runs at the client: the form in which tasks, chains and inputs are sent to workers.

A :class:`~prefectish.engine.jobs.job.ChainSpec` is sent as one payload of bytes, the same for all branches, and opened
once in each process. The inputs of a branch are part of its calls: simple values as they are, others in envelopes. A
large value is sent once, beside the calls; a :class:`~prefectish.engine.jobs.references.ResultRef` stands for it.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.context import get_logger
from prefectish.engine.deferred import Deferred
from prefectish.engine.jobs.envelope import SIMPLE, SMALL, Encoded, dumps, encode, encode_state, weight
from prefectish.engine.jobs.job import SHARED, ChainSpec, Pick, Record, StepSpec, Upcoming
from prefectish.engine.jobs.preparation import Preparation, required
from prefectish.engine.jobs.references import Held, ResultRef, Unpicklable, UpstreamRef
from prefectish.engine.plan.steps import Plan
from prefectish.engine.state import Failed, Mapped, State, Success
from prefectish.engine.state_column import replaced
from prefectish.engine.wire.execute import reopen_chain
from prefectish.engine.wire.pickle_path import pickle_path
from prefectish.errors import FlowDefinitionError, text_of
from prefectish.kinds import is_a
from prefectish.tasks.task import Task

#: Larger values, in bytes, are sent by themselves, once, and not with the calls that read them.
MAX_BYTES_WITH_CALL = 1 << 18
#: A warning names an input that all branches share and that is larger, in bytes.
HEAVY = 1 << 20


def pickle_tasks(plan: Plan) -> dict[int, bytes]:
    """Return the bytes of each task, by step number."""
    return {step.number: pickle_task(step.slug, step.task) for step in plan.steps if step.literal is None}


def pickle_task(slug: str, task: Task) -> bytes:
    """Return the bytes of a task; a FlowDefinitionError if it cannot be pickled."""
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
    """Return why a value cannot be pickled, and which part of it that is."""
    inside = value.run if is_a(value, Task) else None
    path = (pickle_path(inside, name) if inside is not None else None) or pickle_path(value, name)
    return f"{type(error).__name__}: {text_of(error)}{f' (it is {path})' if path else ''}"


class Packer:
    """Makes the forms in which inputs are sent, and numbers what is sent beside them."""

    def __init__(self) -> None:
        # What references stand for, in the order of their numbers: a result that is on a worker, a value that is too
        # large for every call, or what a job makes that is open.
        self.held: list[Held | Encoded | Upcoming | Any] = []

    def _large(self, value: Any) -> Any:
        if weight(value) > MAX_BYTES_WITH_CALL:
            self.held.append(value)
            return ResultRef(len(self.held) - 1)
        return value

    def constant(self, value: Any, label: str) -> Any:
        """Return a constant in the form in which it is sent; raise whatever pickling it raises."""
        return self._large(encode(value, label, keep=False))

    def state(self, state: State, label: str) -> State:
        """Return a state with its result in an envelope, or with a reference if it is on a worker."""
        result = state._raw_result
        if is_a(result, Held):
            self.held.append(result)
            return state.replace(result=ResultRef(len(self.held) - 1))
        if type(state) is Mapped and state.map_states is not None:
            children = replaced(state.map_states, lambda child: self.state(child, label), SMALL)
            return Mapped(state.message, map_states=children, n_map_states=state.n_map_states)
        packed = state if type(result) in SIMPLE or is_a(result, Deferred) else encode_state(state, label)
        large = self._large(packed._raw_result)
        return packed if large is packed._raw_result else packed.replace(result=large)

    def item(self, item: Any, label: str) -> Any:
        """Return one input of a branch in the form in which it is sent; raise whatever pickling it raises."""
        if type(item) in SIMPLE:
            large = self._large(item)
            return item if large is item else Success(None, large)
        if is_a(item, Pick):
            return Pick(self.state(item.state, label), item.path)
        if is_a(item, State):
            return self.state(item, label)
        if is_a(item, Upcoming):
            self.held.append(item)
            return UpstreamRef(len(self.held) - 1)
        return Success(None, self._large(encode(item, label, keep=False)))


def add_task_payloads(chain: ChainSpec, tasks: MutableMapping[int, bytes]) -> None:
    """Add the bytes of tasks that were added to the plan since the run began."""
    for spec in chain.steps:
        if spec.number not in tasks:
            tasks[spec.number] = pickle_task(spec.slug, spec.task)


def pack_chain(chain: ChainSpec, tasks: MutableMapping[int, bytes], guard: Any = None) -> tuple[bytes, list[Any]]:
    """Return the bytes of a chain and what the references in it stand for.

    `guard` is unpickled before the chain is; it raises :class:`prefectish.engine.wire.execute.NotHere` where the chain
    must not run.
    """
    add_task_payloads(chain, tasks)
    packer = Packer()
    steps = []
    for spec in chain.steps:
        constants = {n: _constant(packer, spec, n, value) for n, value in spec.constants.items()}
        steps.append(spec.values(task=tasks[spec.number], constants=constants))
    shared = tuple(_shared(packer, chain, k) for k in range(len(chain.shared)))
    run = {name: value for name, value in chain.run.items() if name != "caches"}  # a memory of this process
    if required():
        guard = Preparation(), guard
    content = chain.values(run=run, steps=steps, shared=shared)
    whole = capture(dumps, _Chain((guard, *content)))
    if isinstance(whole, Value):
        return whole.value, packer.held
    return dumps(_Chain((guard, *chain.values(run=_portable(run), steps=steps, shared=shared)))), packer.held


def _constant(packer: Packer, spec: StepSpec, name: str, value: Any) -> Any:
    outcome = capture(packer.constant, value, f"argument {name!r} of {spec.label}")
    if isinstance(outcome, Error):
        return Unpicklable(name, spec.slug, _why(value, name, outcome.exception))
    _warn_if_heavy(packer, outcome.value, name, spec.label)
    return outcome.value


def _warn_if_heavy(packer: Packer, value: Any, name: str, label: str) -> None:
    nbytes = weight(packer.held[value.number] if is_a(value, ResultRef) else value)
    if nbytes > HEAVY:
        get_logger("engine").warning(
            "argument %r of %s has %.1f MB, which pass through this process; they are sent once, but a task "
            "that makes or reads the value there would not send them at all",
            name, label, nbytes / 1e6,
        )  # fmt: skip


def _shared(packer: Packer, chain: ChainSpec, k: int) -> State:
    """Return an input that all branches share in the form in which it is sent."""
    state = chain.shared[k]
    packed = packer.state(state, "an unmapped input")
    spec, i = next(
        (spec, i) for spec in chain.steps for i, w in zip(spec.inputs, spec.wiring, strict=True) if w == (SHARED, k)
    )
    if state.is_failed() or not packed.is_failed():
        _warn_if_heavy(packer, packed._raw_result, i.key or i.source_label, spec.label)
        return packed
    # It cannot be pickled. Its task succeeded all the same; the children that read it fail.
    return state.replace(result=Unpicklable(i.key or i.source_label, spec.slug, packed.result))


def _portable(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a run that can be pickled; the context of bodies on workers lacks the others."""
    kept = {name: value for name, value in run.items() if isinstance(capture(dumps, value), Value)}
    get_logger("engine").debug(
        "the context of bodies on workers lacks %s, which cannot be pickled",
        ", ".join(sorted(run.keys() - kept.keys())),
    )
    return kept


def unpicklable_input(spec: StepSpec, index: int, name: str, value: Any, error: BaseException) -> Record:
    """Return the record of a step with an input that cannot be pickled here: its child fails, and nothing is sent."""
    text = f"argument {name!r} of {spec.place_of(index)} could not be pickled: {_why(value, name, error)}"
    return Record(Failed(text, error))


class _Chain:
    """Pickles as a guard and the fields of a chain, unpickles as the chain."""

    def __init__(self, content: tuple[Any, ...]) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        return reopen_chain, self.content
