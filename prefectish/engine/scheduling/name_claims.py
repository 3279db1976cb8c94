"""The names of results that the user chose, taken at the client as rows start, in the order of the rows.

So it does not depend on what ends first which of two children with one name fails. Names that are not known here, from
inputs that are not here or were not successful, are looked at where the body runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefectish.engine.capture import Value, capture
from prefectish.engine.jobs.job import ITEM, STEP, ChainSpec, Pick, StepSpec
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.item_key import item_key, name_of
from prefectish.engine.plan.steps import Step
from prefectish.engine.scheduling.changes import Changes
from prefectish.engine.scheduling.run_state import MapRow, StepChain
from prefectish.engine.state import Pending, State, Success
from prefectish.engine.worker.attempt_context import AttemptContext
from prefectish.engine.worker.result_names import TAKEN
from prefectish.engine.worker.storage import ResultStorage, holder_of
from prefectish.engine.worker.template_fields import TemplateFields
from prefectish.results.templates import Template, arguments_of, place

_PENDING = Pending()


class NameClaims:
    """Takes the names of the rows that start."""

    def __init__(self, changes: Changes) -> None:
        self.changes = changes
        self._needed: dict[int, frozenset[str] | None] = {}

    def claim(self, chain: StepChain, map_row: MapRow) -> None:
        """Take the names of a row; a step whose name another child has will fail instead of running."""
        spec = chain.spec
        index = -1 if chain.map_state is None else map_row.row
        for position, step in enumerate(spec.steps):
            storage = step.storage
            if not isinstance(storage, ResultStorage) or storage.chosen is None or not storage.checkpoint:
                continue
            name = capture(self._name, spec, position, index, map_row.items)
            if not isinstance(name, Value) or name.value is None:
                continue
            holder = storage.names.take(storage.store, name.value, holder_of(_context(spec, step, index)))
            if holder is not None:
                self.changes.start_row_from(map_row, position, Pending(context={TAKEN: tuple(holder)}))

    def _name(self, chain: ChainSpec, position: int, index: int, items: Sequence[Any]) -> str | None:
        """Return the name of a result; None if it is not known here."""
        spec = chain.steps[position]
        assert isinstance(spec.storage, ResultStorage)
        where = spec.storage.chosen
        needed = self._needs(spec, where)
        inputs = {name: value for name, value in spec.constants.items() if needed is None or name in needed}
        upstream: list[State] = []
        for (kind, k), i in zip(spec.wiring, spec.inputs, strict=True):
            wanted = needed is None or i.key in needed or (i.mapped and "item_key" in needed)
            if not wanted:
                upstream.append(_PENDING)
                continue
            if kind == STEP or i.inside:
                return None
            state = _state_of(items[k]) if kind == ITEM else chain.shared[k]
            if type(state) is not Success:
                return None
            upstream.append(state)
            if i.key is not None and (needed is None or i.key in needed):
                inputs[i.key] = state.result
        ctx = _context(chain, spec, index)
        if spec.named_by_key and index >= 0:
            key = item_key(spec, upstream, chain.run) if spec.computes_key else None
            ctx.item_key = name_of(spec, upstream, key)
        return place(where, TemplateFields(ctx, inputs))

    def _needs(self, spec: StepSpec, where: Any) -> frozenset[str] | None:
        """Return the fields that a name is made of; None for any."""
        if spec.number not in self._needed:
            self._needed[spec.number] = fields_of(where)
        return self._needed[spec.number]


def fields_of(where: Any) -> frozenset[str] | None:
    """Return the fields that a template or a function reads; None for any."""
    if callable(where):
        found = capture(arguments_of, where)
        return found.value[1] if isinstance(found, Value) else None
    return (where if isinstance(where, Template) else Template(where)).fields


def computes_name(step: Step, steps: Sequence[Step]) -> bool:
    """Whether the name of a step's result may be made of what a step of the same row returns."""
    task = step.task
    where = getattr(task, "target", None)
    if step.store is None or step.literal is not None or getattr(task, "auto_generated", False):
        return False
    where = step.store.location if where is None else where
    if where is None:
        return False
    needed = fields_of(where)
    return any(
        steps[i.source].literal is None
        and steps[i.source].mapped == step.mapped
        and i.key is not None
        and (needed is None or i.key in needed)
        for i in step.inputs
    )


def _context(chain: ChainSpec, spec: StepSpec, index: int) -> AttemptContext:
    return AttemptContext(chain.run, spec, index, _PENDING)


def _state_of(item: Any) -> State:
    """Return the state of an item; a list that stayed on a worker is read once."""
    if isinstance(item, State):
        return item
    if not isinstance(item, Pick):
        return Success(None, item)
    result = item.state._result
    if isinstance(result, Held):
        result.peek()
    return Success(None, item.read())
