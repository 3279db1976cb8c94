"""`prefect.utilities.collections`: dicts with attributes, and nested dicts as flat ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, TypeVar

D = TypeVar("D", bound=MutableMapping[Any, Any])


class DotDict(MutableMapping[str, Any]):
    """A dict whose items are attributes, too.

    Examples
    --------
    >>> settings = DotDict({"a": 1}, b=2)
    >>> settings.c = settings.a + settings["b"]
    >>> settings.to_dict()
    {'a': 1, 'b': 2, 'c': 3}
    """

    def __init__(self, init_dict: Any = None, **kwargs: Any) -> None:
        if init_dict:
            self.update(init_dict)
        self.update(kwargs)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or a default."""
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        return self.__dict__[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(key, str) and key in _METHODS:
            raise ValueError(f'Invalid key: "{key}", which is the name of a method of a dict')
        self.__dict__[key] = value

    def __setattr__(self, attr: str, value: Any) -> None:
        self[attr] = value

    def __delitem__(self, key: str) -> None:
        del self.__dict__[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __len__(self) -> int:
        return len(self.__dict__)

    def __repr__(self) -> str:
        keys = ", ".join(sorted(map(repr, self)))
        return f"<{type(self).__name__}: {keys}>" if keys else f"<{type(self).__name__}>"

    def copy(self) -> DotDict:
        """Return a shallow copy."""
        return type(self)(self.__dict__.copy())

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, with plain dicts in it."""
        plain: dict[str, Any] = as_nested_dict(self, dict)
        return plain


_METHODS = frozenset({*dir(MutableMapping), "copy", "to_dict"})


def merge_dicts(d1: D, d2: Mapping[Any, Any]) -> D:
    """Return `d1` updated from `d2`; a dict in both is updated in depth."""
    merged: Any = d1.copy()  # type: ignore[attr-defined]  # every dict has it
    for key, value in d2.items():
        below = merged.get(key)
        both = isinstance(below, MutableMapping) and isinstance(value, MutableMapping)
        merged[key] = merge_dicts(below, value) if both else value
    return merged  # type: ignore[no-any-return]


def as_nested_dict(obj: Any, dct_class: Callable[..., Any] = DotDict) -> Any:
    """Return a dict, and the dicts in it at any depth, also in lists, as `dct_class`."""
    if isinstance(obj, list | tuple | set):
        return type(obj)(as_nested_dict(item, dct_class) for item in obj)
    if isinstance(obj, Mapping):
        return dct_class({key: as_nested_dict(value, dct_class) for key, value in obj.items()})
    return obj


class CompoundKey(tuple[Any, ...]):
    """The keys that lead to a value of a nested dict."""


def dict_to_flatdict(dct: Mapping[Any, Any], parent: CompoundKey | None = None) -> dict[CompoundKey, Any]:
    """Return a nested dict as a flat one, by compound keys.

    Examples
    --------
    >>> dict_to_flatdict({"a": {"b": 1}, "c": 2})
    {('a', 'b'): 1, ('c',): 2}
    """
    flat: dict[CompoundKey, Any] = {}
    for key, value in dct.items():
        keys = CompoundKey((*(parent or ()), key))
        if isinstance(value, Mapping):
            flat.update(dict_to_flatdict(value, keys))
        else:
            flat[keys] = value
    return flat


def flatdict_to_dict(dct: Mapping[CompoundKey, Any], dct_class: Callable[..., Any] | None = None) -> Any:
    """Return a flat dict as the nested one that it was made of."""
    make: Any = dct_class or type(dct)
    result = make()
    for keys, value in dct.items():
        if not isinstance(keys, CompoundKey):
            result[keys] = value
            continue
        inner = result
        for key in keys[:-1]:
            if key not in inner:
                inner[key] = make()
            inner = inner[key]
        inner[keys[-1]] = value
    return result


def flatten_seq(seq: Iterable[Any]) -> Iterator[Any]:
    """Yield the items of nested sequences; a string is an item.

    Examples
    --------
    >>> list(flatten_seq([1, 2, [3, 4], 5, [6, [7]]]))
    [1, 2, 3, 4, 5, 6, 7]
    """
    for item in seq:
        if isinstance(item, Iterable) and not isinstance(item, str | bytes):
            yield from flatten_seq(item)
        else:
            yield item
