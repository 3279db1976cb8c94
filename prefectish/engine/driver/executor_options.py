"""What executors refuse where they are made, so that a mistake shows before anything is submitted."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any


def check_count(name: str, value: Any, least: int = 1, endless: bool = False) -> Any:
    """Return a number of workers, branches or bytes, 4 for 4.0 also; None stands for the default.

    Parameters
    ----------
    least
        Less is refused.
    endless
        Infinity is a number too: no limit.

    Raises
    ------
    TypeError
        ``num_workers must be a whole number, got '4'``.
    ValueError
        ``num_workers must be >= 1, got 0``.
    """
    if value is None or (endless and value == math.inf):
        return value
    is_whole = getattr(value, "is_integer", None)  # of floats, also of numpy
    try:
        number = None if isinstance(value, bool) else int(value) if is_whole and is_whole() else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if number < least:
        raise ValueError(f"{name} must be >= {least}, got {value!r}")
    return number


def check_seconds(name: str, value: Any, optional: bool = True) -> None:
    """Refuse what is not a number of seconds: TypeError, or ValueError if it is below 0; None may stand for none."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number of seconds, got {value!r}")
    if not float(value) >= 0:
        raise ValueError(f"{name} must be >= 0 seconds, got {value!r}")


def check_keywords(name: str, value: Any) -> None:
    """Refuse what are not keyword arguments, by name: TypeError."""
    if value is not None and not (isinstance(value, Mapping) and all(isinstance(key, str) for key in value)):
        raise TypeError(f"{name} must be a dict of keyword arguments, got {value!r}")


def check_tag_limits(value: Any) -> Mapping[str, int] | None:
    """Return limits by tag; TypeError if they are none, ValueError if one is below 0."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"tag_limits must be a dict of numbers by tag, as {{'db': 2}}, got {value!r}")
    return {tag: check_count(f"tag_limits[{tag!r}]", limit, 0) for tag, limit in value.items()}
