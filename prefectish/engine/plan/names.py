"""What the name of a result is made of, if the user chose it: a template, or a function of fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefectish.engine.capture import Value, capture
from prefectish.engine.plan.steps import Step
from prefectish.results.templates import Template, arguments_of


def chosen_name(step: Step) -> Any:
    """Return what makes the name of a step's result; None if the user did not choose it."""
    task = step.task
    if step.store is None or step.literal is not None or getattr(task, "auto_generated", False):
        return None
    target = getattr(task, "target", None)
    return step.store.location if target is None else target


def fields_of(where: Any) -> frozenset[str] | None:
    """Return the fields that a template or a function reads; None for any."""
    if callable(where):
        found = capture(arguments_of, where)
        return found.value[1] if isinstance(found, Value) else None
    return (where if isinstance(where, Template) else Template(where)).fields


def computes_name(step: Step, steps: Sequence[Step]) -> bool:
    """Whether the name of a step's result may be made of what a step of the same row returns."""
    where = chosen_name(step)
    if where is None:
        return False
    needed = fields_of(where)
    return any(
        i.source >= 0
        and steps[i.source].literal is None
        and steps[i.source].mapped == step.mapped
        and i.key is not None
        and (needed is None or i.key in needed)
        for i in step.inputs
    )
