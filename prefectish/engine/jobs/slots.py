"""Arguments with results inside: collections and records whose slots are filled where the body runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefectish.members import Slot, rebuilt

if TYPE_CHECKING:
    from prefectish.engine.plan.steps import Input


def fill_slots(inputs: dict[str, Any], slots: Sequence[Input]) -> None:
    """Move results from the inputs to the slots inside of the arguments."""
    values = {i.key: inputs.pop(i.key) for i in slots if i.key is not None}
    for name in {i.inside for i in slots if i.inside is not None}:
        inputs[name] = rebuilt(inputs[name], lambda member: values[member.key] if type(member) is Slot else member)
