"""The number of results of a function, from its annotation."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any


def annotated_nout(function: Callable[..., Any]) -> int | None:
    """Return the length of the annotated return tuple of a function; None if it is not of fixed length.

    Examples
    --------
    >>> def divide(a: int, b: int) -> tuple[int, int]: ...
    >>> annotated_nout(divide)
    2
    """
    annotation = _return_annotation(function)
    members = typing.get_args(annotation)
    is_bare = annotation is tuple or repr(annotation) == "typing.Tuple"
    if typing.get_origin(annotation) is not tuple or is_bare or Ellipsis in members:
        return None
    return len(members)


def _return_annotation(function: Callable[..., Any]) -> Any:
    """Return the return annotation; None if it cannot be evaluated."""
    try:
        annotation = function.__annotations__.get("return")
        if isinstance(annotation, str) and "uple" in annotation:
            return eval(annotation, function.__globals__)  # annotations are user code
    except Exception:
        return None
    return annotation
