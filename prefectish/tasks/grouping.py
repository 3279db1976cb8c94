"""`group_by`: the results of a map in groups, by a key that is computed for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def groups_of(keys: Sequence[Any], values: Sequence[Any]) -> list[tuple[Any, list[Any]]]:
    """Return each key with its values, by first appearance.

    Raises
    ------
    TypeError
        If a key cannot be hashed.

    Examples
    --------
    >>> groups_of(["b", "a", "b"], [1, 2, 3])
    [('b', [1, 3]), ('a', [2])]
    """
    groups: dict[Any, list[Any]] = {}
    for place, (key, value) in enumerate(zip(keys, values, strict=True)):
        try:
            groups.setdefault(key, []).append(value)
        except TypeError as error:
            raise TypeError(
                f"group_by: the key of item {place} must be hashable, got a {type(key).__name__}; "
                f"return a tuple, a number or text"
            ) from error
    return list(groups.items())
