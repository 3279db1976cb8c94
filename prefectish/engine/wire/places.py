"""Where the children of one task run each, by what they are given: asked here, or on a worker that has the items.

``resources``, ``workers`` and ``priority`` of a task may be functions of the item and the run count. An item that is at
the client is read there. One that is on a worker stays there: the functions are asked near it, for many children at
once, in :func:`places_near_items`.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from prefectish.engine.capture import Error, capture
from prefectish.engine.context import bind, unbind
from prefectish.engine.deferred import Deferred
from prefectish.engine.jobs.envelope import encode_error
from prefectish.engine.jobs.job import ITEM, SHARED, Job, Pick, Record, StepSpec
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.placement import Placement, placement_of, placement_of_child
from prefectish.engine.state import Failed, Mapped, State
from prefectish.engine.wire.execute import open_chain, substitute
from prefectish.engine.wire.messages import StepResult
from prefectish.engine.worker.time_limit import AttemptOverran, before_attempt
from prefectish.errors import describe
from prefectish.kinds import is_a
from prefectish.members import Slot, members_of
from prefectish.tasks.signatures import inputs_of

#: Children that are asked for at once near their items.
PAGE = 100
#: Stands for the item of a child whose input failed, or that has none.
_NO_ITEM = object()


class Places:
    """Where children run, as was asked near their items; for one that could not be asked, the record that says so."""

    __slots__ = ("answers",)

    def __init__(self, answers: Sequence[Placement | Record]) -> None:
        self.answers = answers

    def __reduce__(self) -> tuple[Any, ...]:
        return Places, (self.answers,)


def run_count_of(job: Job) -> int:
    """Return the number of a try, from 1: retries count, and deaths of workers for want of memory."""
    from prefectish.engine.worker.attempt_context import BEFORE_TURN, attempt_number

    start = job.starts.get(job.positions[0]) if job.starts else None
    before = start.context.get(BEFORE_TURN, 0) if start is not None else 0
    return max(1, attempt_number(start) - before) + job.memory_deaths


def first_item(job: Job) -> Any:
    """Return the item of a job as it is known here: a value, a state, or a reference; `_NO_ITEM` if it has none.

    It is the first mapped input; of a single task, and of a call, the first argument.
    """
    spec = job.chain.steps[job.positions[0]]
    for i, (kind, k) in zip(spec.inputs, spec.wiring, strict=True):
        if i.mapped and kind == ITEM:
            return job.items[k]
    given = {i.key: (kind, k) for i, (kind, k) in zip(spec.inputs, spec.wiring, strict=True) if i.key is not None}
    for name in inputs_of(spec.task.run, spec.name).signature.parameters:
        if name in given:
            kind, k = given[name]
            return job.chain.shared[k] if kind == SHARED else job.items[k] if kind == ITEM else _NO_ITEM
        if name in spec.constants:
            return _filled(spec, job, name)
    return _NO_ITEM


def _filled(spec: StepSpec, job: Job, name: str) -> Any:
    """Return a constant; with a state in the place of each of its slots, the constant as it is given."""
    value = spec.constants[name]
    return _NO_ITEM if spec.fills and _has_slots(value) else value


def _has_slots(value: Any) -> bool:
    members = members_of(value)
    return type(value) is Slot or (members is not None and any(map(_has_slots, members)))


def is_elsewhere(item: Any) -> bool:
    """Whether an item, or what it is taken from, is on a worker."""
    state = item.state if isinstance(item, Pick) else item
    if not isinstance(state, State):
        return False
    if type(state) is Mapped:
        return any(child is not None and is_elsewhere(child) for child in state.map_states or ())
    return is_a(state._raw_result, Held) and not state._raw_result.is_here


def place(spec: StepSpec, index: int, item: Any, run_count: int, run: Any) -> Placement | Record:
    """Return where a child runs this time, or the record of one whose functions could not be asked."""
    asked = spec, item, run_count
    token = bind(run)
    try:
        found = capture(before_attempt, spec, run, index, "the functions that say where it runs", _asked, *asked)
    finally:
        unbind(token)
    if isinstance(found, Error):
        error = found.exception
        if isinstance(error, AttemptOverran):
            return Record(error.state)
        text = f"where {spec.label_of(index)} runs could not be asked: {describe(error)}"
        return Record(Failed(text, encode_error(error, spec.label_of(index))))
    placement: Placement = found.value
    return placement


def _asked(spec: StepSpec, item: Any, run_count: int) -> Placement:
    value = capture(_value, item)
    if isinstance(value, Error) or value.value is _NO_ITEM:
        return placement_of(spec.task)  # it does not run, or reading its input raises what is wrong with it
    return placement_of_child(spec.task, value.value, run_count)


def _value(item: Any) -> Any:
    state = item.state if isinstance(item, Pick) else item
    if isinstance(state, State):
        if not state.is_successful() or (type(state) is Mapped and any(c is None for c in state.map_states or ())):
            return _NO_ITEM
        return item.read() if isinstance(item, Pick) else state.result
    return state.get() if isinstance(state, Deferred) else state


def places_near_items(payload: bytes, asked: bytes, *values: StepResult) -> Places:
    """Return where children run, in the order of `asked`, pickled triples of index, item and run count.

    It raises only if the chain cannot be opened, as each of its children would.
    """
    chain = open_chain(payload)
    spec = chain.steps[0]
    rows = pickle.loads(asked)
    return Places([place(spec, index, substitute(item, values), count, chain.run) for index, item, count in rows])
