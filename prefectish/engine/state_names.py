"""Names around a state: the classes above and below its own, and what later Prefects ask it, with the way out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

from prefectish.missing_names import LeadsOut

if TYPE_CHECKING:
    from prefectish.engine.state import State


class LaterNames(LeadsOut):
    """Mixin of states: what Prefect 2 and 3 ask them. It asks by name, as the classes of states stand on this file."""

    __slots__ = ()
    _kind = "state"

    def is_completed(self) -> bool:
        """Tell whether it ended well: `is_successful` under the name of later Prefects."""
        return _is(self, "Success")

    def is_final(self) -> bool:
        """Tell whether it has ended: `is_finished` under the name of later Prefects."""
        return _is(self, "Finished")

    def is_cancelled(self) -> bool:
        """Tell whether it was cancelled."""
        return _is(self, "Cancelled")

    def is_cancelling(self) -> bool:
        """Tell whether it is about to be cancelled."""
        return _is(self, "Cancelling")

    def is_crashed(self) -> bool:
        """Tell whether what ran it died."""
        return _is(self, "Crashed")

    def is_paused(self) -> bool:
        """Tell whether it waits until it is resumed."""
        return _is(self, "Paused")


def _is(state: LaterNames, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(state).__mro__)


class Parents:
    """The attribute ``parents`` of states and their classes: the classes above, nearest first."""

    __slots__ = ()

    def __get__(self, state: Any, owner: type[Any]) -> Classes:
        return partial(_classes_above, owner)  # type: ignore[return-value]  # two overloads make one of it


def _classes_above(
    cls: type[State], include_self: bool = False, names_only: bool = False
) -> list[type[State]] | list[str]:
    above = [base for base in cls.__mro__[1:] if hasattr(base, "color")]
    return _listed_classes(above, cls, include_self, names_only)


def classes_below(
    cls: type[State], include_self: bool = False, names_only: bool = False
) -> list[type[State]] | list[str]:
    """Return the classes below a class, depth first, or their names."""
    return _listed_classes(_subclasses(cls), cls, include_self, names_only)


def _subclasses(cls: type[State]) -> list[type[State]]:
    found: dict[type[State], None] = {}
    for child in cls.__subclasses__():
        found.update(dict.fromkeys([child, *_subclasses(child)]))
    return list(found)


def _listed_classes(
    found: list[Any], cls: type[State], include_self: bool, names_only: bool
) -> list[type[State]] | list[str]:
    """Return classes around a class, or their names, except private ones."""
    shown = [each for each in ([cls, *found] if include_self else found) if not each.__name__.startswith("_")]
    return [each.__name__ for each in shown] if names_only else shown


class Classes:
    """How ``children`` and ``parents`` of a class are called; for readers of types only."""

    @overload
    def __call__(self, include_self: bool = ..., names_only: Literal[False] = ...) -> list[type[State]]: ...
    @overload
    def __call__(self, include_self: bool = ..., *, names_only: Literal[True]) -> list[str]: ...
    def __call__(self, include_self: bool = False, names_only: bool = False) -> Any:
        """Return the classes below, depth first, or above, nearest first."""
        raise NotImplementedError
