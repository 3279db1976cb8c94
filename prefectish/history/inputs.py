"""A digest of what a step is given from outside the flow: its constants and the parameters it reads."""

from __future__ import annotations

from prefectish.engine.plan import Plan, Step
from prefectish.errors import Unhashable
from prefectish.hashing import stable_hash


def inputs_digest(plan: Plan, step: Step) -> str | None:
    """Return a digest of a step's constants and parameters; None if one of them has no stable hash.

    What is mapped over is left out: children are told apart by their items.
    """
    given = [(i, plan.steps[i.source].literal) for i in step.inputs if not i.mapped]
    values = {str(i.key or i.source_slug): state._result for i, state in given if state is not None}
    try:
        return stable_hash({**values, **step.constants})
    except Unhashable:
        return None
