"""Collections and records whose members may be results: tasks or futures, which are looked for at any depth."""

from __future__ import annotations

import copy
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

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


class TakenApart(NamedTuple):
    """How the values of a class are taken apart.

    Attributes
    ----------
    members
        Returns the members of a value that may be results, in an order.
    remade
        Returns a value like another one, with other members in the same order.
    """

    members: Callable[[Any], Iterable[Any]]
    remade: Callable[[Any, Sequence[Any]], Any]


def _partial_members(value: Any) -> Iterable[Any]:
    return [*value.args, *value.keywords.values()]


def _partial_remade(value: Any, members: Sequence[Any]) -> Any:
    count = len(value.args)
    keywords = dict(zip(value.keywords, members[count:], strict=True))
    made = type(value)(value.func, *members[:count], **keywords)
    vars(made).update(vars(value))
    return made


def _series_members(value: Any) -> Iterable[Any]:
    """Return the items of a Series or an Index of Python objects; of any other nothing."""
    return list(value.to_numpy()) if getattr(value.dtype, "hasobject", False) and not hasattr(value, "levels") else ()


def _series_remade(value: Any, members: Sequence[Any]) -> Any:
    pandas = sys.modules["pandas"]
    array = pandas.array([None] * len(members), dtype=object)
    for place, member in enumerate(members):  # one by one: a member may be a list
        array.to_numpy()[place] = member
    if not isinstance(value, pandas.Series):
        return pandas.Index(array, dtype=object, name=value.name)
    made = pandas.Series(array, index=value.index, name=value.name, dtype=object)
    made.attrs.update(value.attrs)
    return made


def _frame_columns(value: Any) -> list[tuple[int, Any]]:
    kinds = enumerate(value.dtypes)
    return [(place, value.iloc[:, place]) for place, kind in kinds if getattr(kind, "hasobject", False)]


def _frame_members(value: Any) -> Iterable[Any]:
    return chain.from_iterable(column.to_numpy() for _, column in _frame_columns(value))


def _frame_remade(value: Any, members: Sequence[Any]) -> Any:
    made, rows = value.copy(), len(value)
    for number, (place, column) in enumerate(_frame_columns(value)):
        made.isetitem(place, _series_remade(column, members[number * rows : (number + 1) * rows]))
    return made


_SERIES = TakenApart(_series_members, _series_remade)

#: By library and name of the class.
_TAKEN_APART: dict[tuple[str, str], TakenApart] = {
    ("functools", "partial"): TakenApart(_partial_members, _partial_remade),
    ("builtins", "slice"): TakenApart(lambda s: (s.start, s.stop, s.step), lambda _, members: slice(*members)),
    ("builtins", "mappingproxy"): TakenApart(
        lambda proxy: [part for pair in proxy.items() for part in pair],
        lambda _, parts: MappingProxyType(dict(zip(parts[::2], parts[1::2], strict=True))),
    ),
    ("builtins", "dict_keys"): TakenApart(iter, lambda _, members: dict.fromkeys(members).keys()),
    ("builtins", "dict_values"): TakenApart(iter, lambda _, members: dict(enumerate(members)).values()),
    ("builtins", "dict_items"): TakenApart(iter, lambda _, members: dict(members).items()),
    ("pandas", "Series"): _SERIES,
    ("pandas", "Index"): _SERIES,
    ("pandas", "DataFrame"): TakenApart(_frame_members, _frame_remade),
}


def _remade(value: Any, kind: TakenApart, change: Callable[[Any], Any]) -> Any:
    """Return a value with its members changed; the value itself if none does."""
    before = list(kind.members(value))
    after = [change(member) for member in before]
    if all(new is member for new, member in zip(after, before, strict=True)):
        return value
    return kind.remade(value, after)


class Slot:
    """Stands for a result inside of an argument."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key


def members_of(value: Any) -> Iterable[Any] | None:
    """Return the members of a value that may be results: those of a collection, keys of dicts too, the items of an
    array or a Series of objects, the arguments of a partial function, the attributes of a dataclass, an attrs class, a
    pydantic model or a namespace; None if it is one value.
    """  # noqa: D205
    if is_a(value, CONTAINERS):
        return [*value, *value.values()] if is_a(value, dict) else value
    kind = _kind_of(type(value))  # type: ignore[arg-type]  # classes are hashable
    if kind is None:
        return None
    if isinstance(kind, TakenApart):
        return kind.members(value)
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
def _kind_of(cls: type) -> str | TakenApart | None:
    """Return what a class is whose instances have members, None for any other class."""
    for base in cls.__mro__:
        if "__dataclass_fields__" in vars(base):
            return "dataclass"
        if "__attrs_attrs__" in vars(base):
            return "attrs"
        module = base.__module__
        library = module.partition(".")[0] if isinstance(module, str) else ""
        named = (library, base.__name__)
        if named in _KINDS or named in _TAKEN_APART:
            return _KINDS.get(named) or _TAKEN_APART[named]
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
    if isinstance(kind, TakenApart):
        return _remade(value, kind, lambda member: rebuilt(member, change))
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
