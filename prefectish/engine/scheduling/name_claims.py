"""The names of results that the user chose, taken at the client as rows start, in the order of the rows.

So it does not depend on what ends first which of two children with one name fails. A step whose name is made of what a
step of the same row returns starts a chain of its own, and its rows start in their order, each once those before it
are known (:attr:`StepChain.next_in_order`). A name that is not known here, of inputs that were not successful, is taken
where the body runs. A large input is fetched if its name is made of it: if the template names it, or a function of any
fields looks at it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefectish.engine.capture import Value, capture
from prefectish.engine.jobs.job import ITEM, SHARED, STEP, ChainSpec, Pick, StepSpec
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.item_key import ItemId, name_of
from prefectish.engine.plan.names import fields_of
from prefectish.engine.scheduling.away import Away
from prefectish.engine.scheduling.changes import Changes
from prefectish.engine.scheduling.resume_rules import ResumeRules
from prefectish.engine.scheduling.run_state import MapRow, StepChain
from prefectish.engine.state import Pending, State, Success
from prefectish.engine.worker.attempt_context import AttemptContext
from prefectish.engine.worker.result_names import TAKEN, UNCLAIMED, Holder
from prefectish.engine.worker.storage import ResultStorage, holder_of
from prefectish.engine.worker.stored_result import Stored
from prefectish.engine.worker.template_fields import TemplateFields
from prefectish.engine.worker.time_limit import bounded, key_in_time
from prefectish.kinds import is_a
from prefectish.results.templates import place

_PENDING = Pending()


class NameClaims:
    """Takes the names of the rows that start."""

    def __init__(self, changes: Changes) -> None:
        self.changes = changes
        self._needed: dict[int, frozenset[str] | None] = {}

    def claim(self, chain: StepChain, map_row: MapRow, resume_rules: ResumeRules | None = None) -> None:
        """Take the names of a row; a step whose name another child has will fail instead of running.

        Parameters
        ----------
        resume_rules
            Of a run that is resumed: what is kept of it has its names already.
        """
        if resume_rules is not None and not chain.started:
            self._reserve(chain, resume_rules)
        if chain.order is not None and not chain.started:  # rows do not start in their order
            for row in sorted(chain.order):
                self._claim_row(chain.spec, row, chain.items_of(row))
        index = -1 if chain.map_state is None else map_row.row
        identity = None if resume_rules is None else resume_rules.identity(chain, map_row)
        for position, facts in self._claim_row(chain.spec, index, map_row.items, identity):
            self.changes.add_to_start(map_row, position, facts)

    def claim_call(self, chain: ChainSpec, row: int, items: Sequence[Any]) -> None:
        """Take the name of a call as it is made, in the thread that makes it."""
        self._claim_row(chain, row, items)

    def _reserve(self, chain: StepChain, resume_rules: ResumeRules) -> None:
        """Note the names of the results that are kept, which no other child may replace."""
        for step in chain.spec.steps:
            if isinstance(step.storage, ResultStorage) and step.storage.names_result:
                for identity, found in resume_rules.kept_results(step.slug):
                    if isinstance(result := found.state._raw_result, Stored):
                        row = -1 if found.row is None or chain.map_state is None else found.row
                        holder = Holder(step.number, row, step.slug, f"the former {step.label}")
                        step.storage.names.reserve(step.storage.store, result.location, identity, holder)

    def _claim_row(
        self, chain: ChainSpec, index: int, items: Sequence[Any], identity: ItemId | None = None
    ) -> list[tuple[int, dict[str, Any]]]:
        """Take the names of a row; return the positions that fail, or look again, with what they have to know."""
        found: list[tuple[int, dict[str, Any]]] = []
        for position, step in enumerate(chain.steps):
            storage = step.storage
            if not isinstance(storage, ResultStorage) or not storage.names_result:
                continue
            name = capture(self._name, chain, position, index, items)
            if not isinstance(name, Value) or name.value is None:
                found.append((position, {UNCLAIMED: True}))
                continue
            reserved = None if identity is None else storage.names.reserved(storage.store, name.value, identity)
            child = holder_of(_context(chain, step, index))
            holder = reserved or storage.names.take(storage.store, name.value, child)
            if holder is not None:
                found.append((position, {TAKEN: tuple(holder)}))
        return found

    def _name(self, chain: ChainSpec, position: int, index: int, items: Sequence[Any]) -> str | None:
        """Return the name of a result; None if it is not known here."""
        spec = chain.steps[position]
        assert isinstance(spec.storage, ResultStorage)
        where = spec.storage.chosen
        needed = self._needs(spec, where)
        inputs = {name: value for name, value in spec.constants.items() if needed is None or name in needed}
        away: dict[str, State] = {}
        looked: list[bool] = []
        upstream: list[State] = []
        for (kind, k), i in zip(spec.wiring, spec.inputs, strict=True):
            is_passed = needed is None or i.key in needed
            if not is_passed and not (i.mapped and "item_key" in (needed or ())):
                upstream.append(_PENDING)
                continue
            state = None if kind == STEP or i.inside else _state_of(items[k]) if kind == ITEM else chain.shared[k]
            if state is None or not state.is_successful() or state.is_skipped():
                return None
            upstream.append(state)
            if needed is None and i.key is not None and not spec.computes_key and _is_away(state):
                away[i.key], inputs[i.key] = state, Away(looked)
                continue
            if kind == SHARED and is_a(state._raw_result, Held):
                state._raw_result.peek()
            if i.key is not None and is_passed:
                inputs[i.key] = state.result
        ctx = _context(chain, spec, index)
        if spec.named_by_key and index >= 0:
            key = key_in_time(spec, upstream, chain.run, index) if spec.computes_key else None
            ctx.item_key = name_of(spec, upstream, key)
        named = capture(_placed, ctx, where, inputs)
        if looked:  # what the function looks at has to be here
            return _placed(ctx, where, inputs | {key: state._raw_result.peek() for key, state in away.items()})
        return named.value if isinstance(named, Value) else None

    def _needs(self, spec: StepSpec, where: Any) -> frozenset[str] | None:
        """Return the fields that a name is made of; None for any."""
        if spec.number not in self._needed:
            self._needed[spec.number] = fields_of(where)
        return self._needed[spec.number]


def _context(chain: ChainSpec, spec: StepSpec, index: int) -> AttemptContext:
    return AttemptContext(chain.run, spec, index, _PENDING)


def _placed(ctx: AttemptContext, where: Any, inputs: Mapping[str, Any]) -> str:
    name: str = bounded(ctx, "the name of its result", place, where, TemplateFields(ctx, inputs))
    return name


def _state_of(item: Any) -> State:
    """Return the state of an item; a list that stayed on a worker is read once."""
    if is_a(item, State):
        return item
    if not is_a(item, Pick):
        return Success(None, item)
    result = item.state._raw_result
    if is_a(result, Held):
        result.peek()
    return Success(None, item.read())


def _is_away(state: State) -> bool:
    """Whether a result is on a worker, and too large to be fetched only because a function may look at it."""
    return is_a(state._raw_result, Held) and not state._raw_result.is_here
