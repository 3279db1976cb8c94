"""A digest of the inputs of a step: constants, parameters, and how it is wired to upstream tasks."""

from __future__ import annotations

from typing import Any

from prefectish.engine.plan.steps import Plan, Step
from prefectish.errors import Unhashable
from prefectish.hashing import stable_hash


def inputs_digest(plan: Plan, step: Step) -> str | None:
    """Return a digest of a step's constants, parameters and wiring; None if one of them has no stable hash.

    Mapped items are left out, since they identify the children.
    """
    values: dict[str, Any] = {} if step.fan_in is None else {"fan_in ": step.fan_in}
    wiring = []
    for i in step.inputs:
        source = plan.steps[i.source] if i.source >= 0 else None
        literal = None if source is None or source.stands_in else source.literal
        if literal is None:
            wiring.append((str(i.key), i.source_slug, i.mapped, i.flattened))
        elif i.mapped:
            wiring.append((str(i.key), "", True, i.flattened))
        else:
            values[str(i.key or i.source_slug)] = literal._raw_result
    try:
        return stable_hash([{**values, **step.constants}, sorted(wiring)])
    except Unhashable:
        return None
