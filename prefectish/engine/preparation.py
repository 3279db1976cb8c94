"""What a process imports before it unpickles bodies of a run: modules that make the names of the bodies importable."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

_required: dict[str, None] = {}


def require(module: str) -> None:
    """Have every process that calls bodies of this one import a module first."""
    _required[module] = None


def required() -> tuple[str, ...]:
    """Return the modules to import, in the order in which they were asked for."""
    return tuple(_required)


def prepare(modules: Iterable[str]) -> None:
    """Import modules, and have the processes that this one starts import them, too."""
    for module in modules:
        import_module(module)
        require(module)


class Preparation:
    """Pickles as the modules that are required here; they are imported where it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return prepare, (required(),)
