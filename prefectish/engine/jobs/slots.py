"""Arguments with results inside: collections and records whose slots are filled where the body runs."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from prefectish.engine.jobs.struct import Struct
from prefectish.kinds import is_a

if TYPE_CHECKING:
    from prefectish.engine.plan.steps import Input

#: Collections whose members may be results.
CONTAINERS = (list, tuple, set, frozenset, dict, deque)


#: Where a pydantic model has its extra fields and its private attributes; a copy of a model has dicts of its own there.
_MODEL_PARTS = ("__pydantic_extra__", "__pydantic_private__")


class Slot(Struct):
    """Stands for a result inside of an argument."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key


def members_of(value: Any) -> Iterable[Any] | None:
    """Return the members of a value that may be results: those of a collection, keys of dicts too, the items of an
    array of objects, the fields of a dataclass, an attrs class or a pydantic model; None if it is one value.
    """  # noqa: D205
    if is_a(value, CONTAINERS):
        return [*value, *value.values()] if is_a(value, dict) else value
    kind = _kind_of(type(value))  # type: ignore[arg-type]  # classes are hashable
    if kind is None:
        return None
    if kind == "array":
        return value.flat if value.dtype.hasobject and value.dtype.names is None else None
    return _fields(value, kind).values()


@lru_cache(maxsize=1024)
def _kind_of(cls: type) -> str | None:
    """Return what a class is whose instances have members, None for any other class."""
    if is_dataclass(cls):
        return "dataclass"
    if "__attrs_attrs__" in vars(cls) or any("__attrs_attrs__" in vars(base) for base in cls.__mro__):
        return "attrs"
    for base in cls.__mro__:
        if base.__name__ == "BaseModel" and base.__module__.partition(".")[0] == "pydantic":
            return "model"
        if base.__name__ == "ndarray" and base.__module__ == "numpy":
            return "array"
    return None


def _fields(value: Any, kind: str) -> dict[Any, Any]:
    if kind == "model":
        parts = ((place, getattr(value, place, None) or {}) for place in _MODEL_PARTS)
        return {**vars(value), **{(place, name): part[name] for place, part in parts for name in part}}
    names = [f.name for f in (fields(value) if kind == "dataclass" else type(value).__attrs_attrs__)]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def rebuilt(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a value with all members that have no members themselves changed, at any depth.

    A record, or an array of objects, of which nothing changes is returned itself.

    Examples
    --------
    >>> rebuilt({"a": [1, (2, 3)]}, lambda x: -x if is_a(x, int) else x)
    {'a': [-1, (-2, -3)]}
    """
    if is_a(value, CONTAINERS):
        return _rebuilt_collection(value, change)
    kind = _kind_of(type(value))  # type: ignore[arg-type]  # classes are hashable
    if kind is None or (kind == "array" and members_of(value) is None):
        return change(value)
    if kind == "array":
        return _rebuilt_array(value, change)
    before = _fields(value, kind)
    after = {name: rebuilt(member, change) for name, member in before.items()}
    if all(after[name] is member for name, member in before.items()):
        return value
    made = copy.copy(value)
    for name, member in after.items():
        if isinstance(name, tuple):
            getattr(made, name[0])[name[1]] = member
        elif kind == "model":
            vars(made)[name] = member
        else:
            object.__setattr__(made, name, member)
    return made


def _rebuilt_collection(value: Any, change: Callable[[Any], Any]) -> Any:
    if is_a(value, dict):
        changed = {
            key if isinstance(key, str) else rebuilt(key, change): rebuilt(member, change)
            for key, member in value.items()
        }
        if len(changed) < len(value):
            raise ValueError(f"{len(value)} keys of a dict must differ, got {len(changed)} different results")
        return changed if type(value) is dict else _like(value, changed)
    members = [rebuilt(member, change) for member in value]
    if is_a(value, deque):
        return _like(value, members)
    if is_a(value, tuple) and hasattr(value, "_make"):
        return value._make(members)
    return members if type(value) is list else type(value)(members)


def _rebuilt_array(value: Any, change: Callable[[Any], Any]) -> Any:
    made = None
    for place, member in zip(range(value.size), value.flat, strict=True):
        new = rebuilt(member, change)
        if new is not member:
            made = value.flatten() if made is None else made
            made[place] = new
    return value if made is None else made.reshape(value.shape)


def _like(value: Any, changed: Any) -> Any:
    """Return a copy of a dict or deque of another class, with other members."""
    made = copy.copy(value)
    made.clear()
    (made.update if is_a(value, dict) else made.extend)(changed)
    return made


def fill_slots(inputs: dict[str, Any], slots: Sequence[Input]) -> None:
    """Move results from the inputs to the slots inside of the arguments."""
    values = {i.key: inputs.pop(i.key) for i in slots if i.key is not None}
    for name in {i.inside for i in slots if i.inside is not None}:
        inputs[name] = rebuilt(inputs[name], lambda member: values[member.key] if type(member) is Slot else member)
