"""Check which values can be mapped over, while a flow is built."""

from __future__ import annotations

from collections.abc import Set as AnySet
from typing import Any


def check_mappable(value: Any, task_name: str, argument: str) -> None:
    """Reject a constant, or a collection of tasks, that cannot be indexed by position.

    Accepted are lists, ranges, strings, arrays: anything with a length and an index from 0; and iterators. A TypeError
    names task, argument, type and an alternative.
    """
    if hasattr(value, "keys"):
        way_out = "pass list(d.items()), or a list of its keys or values"
    elif isinstance(value, AnySet):
        way_out = f"a {type(value).__name__} has no order; pass list(...) or sorted(...) of it"
    elif hasattr(value, "__next__") or (_has_length(value) and hasattr(value, "__getitem__")):
        return
    else:
        way_out = "pass a list, or wrap it in unmapped(...) to pass it to every child"
    raise TypeError(f"{task_name}.map: {argument} cannot be mapped over: got {type(value).__name__}; {way_out}")


def _has_length(value: Any) -> bool:
    try:
        len(value)
    except TypeError:  # an array without dimensions has a __len__ that raises
        return False
    return True
