"""Arguments with results inside: a list, tuple, set or dict whose slots are filled where the body runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from prefectish.engine.jobs.struct import Struct

if TYPE_CHECKING:
    from prefectish.engine.plan.steps import Input

#: Collections whose members may be results; anything else is one value.
CONTAINERS = (list, tuple, set, frozenset, dict)


class Slot(Struct):
    """Stands for a result inside of an argument."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key


def rebuilt(value: Any, change: Callable[[Any], Any], around: tuple[int, ...] = ()) -> Any:
    """Return a value with all members that are not collections changed, at any depth, but not the keys of dicts.

    Raises TypeError for a collection that holds itself; `around` are those it is in.

    Examples
    --------
    >>> rebuilt({"a": [1, (2, 3)]}, lambda x: -x)
    {'a': [-1, (-2, -3)]}
    """
    if not isinstance(value, CONTAINERS):
        return change(value)
    if id(value) in around:
        raise TypeError(
            f"a {type(value).__name__} that holds itself, and a future, cannot be passed; pass the future alone"
        )
    around = (*around, id(value))
    if isinstance(value, dict):
        changed = {key: rebuilt(member, change, around) for key, member in value.items()}
        if type(value) is dict:
            return changed
        copy = value.copy()  # of the same class
        copy.update(changed)
        return copy
    members = [rebuilt(member, change, around) for member in value]
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(members)
    return members if type(value) is list else type(value)(members)


def fill_slots(inputs: dict[str, Any], slots: Sequence[Input]) -> None:
    """Move results from the inputs to the slots inside of the arguments."""
    values = {i.key: inputs.pop(i.key) for i in slots if i.key is not None}
    for name in {i.inside for i in slots if i.inside is not None}:
        inputs[name] = rebuilt(inputs[name], lambda member: values[member.key] if type(member) is Slot else member)
