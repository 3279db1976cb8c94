"""How many values a function of the user's takes: it is refused where it is given, not once it is called."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any


def taken_by_position(function: Callable[..., Any]) -> tuple[float, float] | None:
    """Return how many values a function takes by position, at least and at most; None if it does not tell.

    Examples
    --------
    >>> taken_by_position(lambda task, state, run=None: None), taken_by_position(lambda *args: None)
    ((2, 3), (0, inf))
    """
    import inspect  # takes 10 ms

    try:
        takes = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin
        return None
    positional = [p for p in takes if p.kind <= p.POSITIONAL_OR_KEYWORD]
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in takes):
        return inf, 0
    most = inf if any(p.kind is p.VAR_POSITIONAL for p in takes) else len(positional)
    return sum(p.default is p.empty for p in positional), most


def check_takes(name: str, function: Callable[..., Any], *ways: str) -> None:
    """Refuse a function that can be called in none of the ways in which it would be: TypeError.

    Examples
    --------
    >>> check_takes("on_failure", lambda: None, "task, state")
    Traceback (most recent call last):
        ...
    TypeError: on_failure must take (task, state), got ...
    """
    taken = taken_by_position(function)
    if taken is None or any(taken[0] <= way.count(",") + 1 <= taken[1] for way in ways):
        return
    import inspect

    wanted = " or ".join(f"({way})" for way in ways)
    raise TypeError(f"{name} must take {wanted}, got {function!r}, which takes {inspect.signature(function)}")
