"""What a process does before it unpickles bodies of a run: it calls functions that make their names importable."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

_required: dict[str, None] = {}


def require(function: str) -> None:
    """Have every process that calls bodies of this one call a function first, ``module:name``."""
    _required[function] = None


def required() -> tuple[str, ...]:
    """Return the functions to call, in the order in which they were asked for."""
    return tuple(_required)


def prepare(functions: Iterable[str]) -> None:
    """Call functions, and have the processes that this one starts call them, too."""
    for function in functions:
        module, _, name = function.partition(":")
        getattr(import_module(module), name)()
        require(function)


class Preparation:
    """Pickles as the functions that are required here; they are called where it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return prepare, (required(),)
