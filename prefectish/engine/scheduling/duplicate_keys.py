"""Tells items of one key apart, where names are made of keys: of several children with one key the second is number 2.

The owner counts, and so only items that it has: those of a list that stayed on a worker are not brought here for their
names, and share one if they share a key.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from prefectish.engine.jobs.job import ITEM, Pick, StepSpec
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.item_key import ITEM_NUMBER, item_key
from prefectish.engine.scheduling.run_state import StepChain
from prefectish.engine.state import Deferred, State, Success
from prefectish.engine.worker.run_steps import gather


class DuplicateKeys:
    """Counts the items of each key."""

    def __init__(self) -> None:
        self._seen: dict[int, Counter[str]] = {}

    def items(self, chain: StepChain, items: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the items of a branch that begins, those that are not the first of their key with a number."""
        for position, spec in enumerate(chain.spec.steps):
            if spec.computes_key and spec.named_by_key:
                items = self._of_step(chain, position, spec, items)
        return items

    def _of_step(self, chain: StepChain, position: int, spec: StepSpec, items: tuple[Any, ...]) -> tuple[Any, ...]:
        mine = [k for (kind, k), i in zip(spec.wiring, spec.inputs, strict=True) if kind == ITEM and i.mapped]
        if not mine or not all(_is_here(items[k]) for k in mine):
            return items
        upstream = gather(chain.spec, position, items, {})
        key = item_key(spec, upstream, chain.spec.run)
        if key is None:
            return items
        seen = self._seen.setdefault(spec.number, Counter())
        seen[key] += 1
        if seen[key] == 1:
            return items
        state = upstream[next(n for n, (kind, k) in enumerate(spec.wiring) if kind == ITEM and k == mine[0])]
        told = Success(None, state.result, context={**state.context, ITEM_NUMBER: seen[key]})
        return (*items[: mine[0]], told, *items[mine[0] + 1 :])


def _is_here(item: Any) -> bool:
    """Whether the value of an item is at the owner."""
    state = item.state if isinstance(item, Pick) else item
    if not isinstance(state, State):
        return True
    return state.is_successful() and not isinstance(state._result, Held | Deferred)
