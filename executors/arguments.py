"""What executors refuse where they are made, so that a mistake shows before anything is submitted."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Refuse what is not a number of workers, branches or bytes; None stands for the default.

    Raises
    ------
    TypeError
        ``num_workers must be a whole number, got '4'``.
    ValueError
        ``num_workers must be >= 1, got 0``.
    """
    if value is None:
        return
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if number < least:
        raise ValueError(f"{name} must be >= {least}, got {value!r}")


def check_seconds(name: str, value: Any) -> None:
    """Refuse what is not a number of seconds, which None stands for: TypeError, or ValueError if it is below 0."""
    if value is None:
        return
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number of seconds, got {value!r}")
    if not float(value) >= 0:
        raise ValueError(f"{name} must be >= 0 seconds, got {value!r}")


def check_keywords(name: str, value: Any) -> None:
    """Refuse what are not keyword arguments, by name: TypeError."""
    if value is not None and not (isinstance(value, Mapping) and all(isinstance(key, str) for key in value)):
        raise TypeError(f"{name} must be a dict of keyword arguments, got {value!r}")


def check_tag_limits(value: Any) -> None:
    """Refuse what are not limits by tag: TypeError, or ValueError if one is below 0."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError(f"tag_limits must be a dict of numbers by tag, as {{'db': 2}}, got {value!r}")
    for tag, limit in value.items():
        check_count(f"tag_limits[{tag!r}]", limit, 0)
