"""Rows of a batch to whose steps nothing is attached: their bodies are called in a row, and nothing else is done.

What does not plainly succeed continues from there as the attempt of any other step does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefectish.engine.jobs.envelope import SIMPLE
from prefectish.engine.jobs.job import ITEM, SHARED, STEP, ChainSpec
from prefectish.engine.state import State, Success, plain_success
from prefectish.engine.worker.attempt import Called, call_bare, is_bare
from prefectish.engine.worker.recall import may_begin
from prefectish.engine.worker.run_steps import gather


class BareRows:
    """Calls the bodies of the steps of a chain, row by row."""

    __slots__ = ("_chain", "_steps")

    def __init__(self, chain: ChainSpec) -> None:
        self._chain = chain
        # Of each step: its body's inputs that all rows share, and for the others whether they are items, and which.
        self._steps = [
            (
                spec,
                {**spec.constants, **{i.key: chain.shared[k]._raw_result for i, (kind, k) in wired if kind == SHARED}},
                [(i.key, kind == ITEM, k) for i, (kind, k) in wired if kind in (ITEM, STEP)],
            )
            for spec in chain.steps
            for wired in [list(zip(spec.inputs, spec.wiring, strict=True))]
        ]

    @classmethod
    def of(cls, chain: ChainSpec) -> BareRows | None:
        """Return what calls the bodies of a chain; None if something is attached to one of its steps."""
        shares = all(type(state) is Success and type(state._raw_result) in SIMPLE for state in chain.shared)
        return cls(chain) if shares and all(is_bare(spec, chain.run) for spec in chain.steps) else None

    def call(self, index: int, positions: Sequence[int], items: Sequence[Any], submission: int) -> list[Called] | None:
        """Call the bodies of a row, while they plainly succeed; None, with none called, if an input needs a look."""
        if len(positions) < len(self._steps):
            return None
        for item in items:
            if type(item) not in SIMPLE:
                return None
        chain, called = self._chain, list[Called]()
        for position, (spec, shared, own) in enumerate(self._steps):
            if not may_begin(chain, index, submission, position):
                break
            inputs = dict(shared)
            for name, is_item, k in own:
                inputs[name] = items[k] if is_item else called[k].outcome.value  # type: ignore[union-attr]
            upstream: Sequence[State] = ()
            if spec.computes_key:
                states = {p: plain_success(one.outcome.value) for p, one in enumerate(called)}  # type: ignore[union-attr]
                upstream = gather(chain, position, items, states)
            called.append(call_bare(chain.run, spec, index, inputs, upstream))
            if not called[-1].is_plain:
                break
        return called
