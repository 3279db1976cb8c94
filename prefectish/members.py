"""Collections and records whose members may be results: tasks or futures, which are looked for at any depth."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import chain
from typing import Any

from prefectish.kinds import is_a

#: Collections whose members may be results.
CONTAINERS = (list, tuple, set, frozenset, dict, deque)
_ITERATED = frozenset((list, tuple, set, frozenset))

#: Where a pydantic model has its extra fields and its private attributes; a copy of a model has dicts of its own there.
_MODEL_PARTS = ("__pydantic_extra__", "__pydantic_private__")
#: Other classes whose instances have members, by library and name: nothing is imported.
_KINDS = {
    ("pydantic", "BaseModel"): "model",
    ("numpy", "ndarray"): "array",
    ("collections", "UserList"): "attributes",
    ("collections", "UserDict"): "attributes",
    ("collections", "ChainMap"): "attributes",
    ("types", "SimpleNamespace"): "attributes",
    ("argparse", "Namespace"): "attributes",
}


class Slot:
    """Stands for a result inside of an argument."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key


def members_of(value: Any) -> Iterable[Any] | None:
    """Return the members of a value that may be results: those of a collection, keys of dicts too, the items of an
    array of objects, the attributes of a dataclass, an attrs class, a pydantic model or a namespace; None if it is one
    value.
    """  # noqa: D205
    if is_a(value, CONTAINERS):
        return [*value, *value.values()] if is_a(value, dict) else value
    kind = _kind_of(type(value))  # type: ignore[arg-type]  # classes are hashable
    if kind is None:
        return None
    if kind == "array":
        return value.flat if value.dtype.hasobject and value.dtype.names is None else None
    return _fields(value, kind).values()


def holds(value: Any, kinds: tuple[type, ...]) -> bool:
    """Whether a value has a member of some classes, at any depth.

    Level by level, in C where it can be: what is mapped over may be a list of a million tuples.
    """
    seen: set[int] = set()
    level = [value] if has_members(type(value)) else []
    while level:
        seen.update(map(id, level))
        found = set(map(type, _members(level)))
        if any(issubclass(kind, kinds) for kind in found):
            return True
        inner = {kind for kind in found if has_members(kind)}
        if not inner:
            return False
        fresh = {id(m): m for m in _members(level) if type(m) in inner and id(m) not in seen}
        level = list(fresh.values())
    return False


def _members(level: list[Any]) -> Iterable[Any]:
    if _ITERATED.issuperset(map(type, level)):
        return chain.from_iterable(level)
    found = map(members_of, level)
    return chain.from_iterable(members for members in found if members is not None)


def has_members(cls: type) -> bool:
    """Whether values of a class may have members."""
    return issubclass(cls, CONTAINERS) or _kind_of(cls) is not None  # type: ignore[arg-type]


@lru_cache(maxsize=1024)
def _kind_of(cls: type) -> str | None:
    """Return what a class is whose instances have members, None for any other class."""
    for base in cls.__mro__:
        if "__dataclass_fields__" in vars(base):
            return "dataclass"
        if "__attrs_attrs__" in vars(base):
            return "attrs"
        module = base.__module__
        library = module.partition(".")[0] if isinstance(module, str) else ""
        if (library, base.__name__) in _KINDS:
            return _KINDS[library, base.__name__]
    return None


def _fields(value: Any, kind: str) -> dict[Any, Any]:
    if kind == "model":
        parts = ((place, getattr(value, place, None) or {}) for place in _MODEL_PARTS)
        return {**vars(value), **{(place, name): part[name] for place, part in parts for name in part}}
    own = getattr(value, "__dict__", None) or {}
    if kind == "attributes":
        return dict(own)
    cls = type(value)
    declared = cls.__dataclass_fields__ if kind == "dataclass" else [field.name for field in cls.__attrs_attrs__]
    in_slots = {name: getattr(value, name) for name in declared if name not in own and hasattr(value, name)}
    return {**in_slots, **own}


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
        elif kind == "model" or name in getattr(made, "__dict__", ()):
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
