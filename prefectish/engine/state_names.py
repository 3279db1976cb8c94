"""Names around a state: the classes above and below its own, and what later Prefects ask it, with the way out."""

from __future__ import annotations

from typing import Any

from prefectish.missing_names import LeadsOut


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


def classes_above(cls: type, include_self: bool = False, names_only: bool = False) -> list[type] | list[str]:
    """Return the classes of states above a class, nearest first, or their names."""
    above = [base for base in cls.__mro__[1:] if hasattr(base, "color")]
    return _listed_classes(above, cls, include_self, names_only)


def classes_below(cls: type, include_self: bool = False, names_only: bool = False) -> list[type] | list[str]:
    """Return the classes below a class, depth first, or their names."""
    return _listed_classes(_subclasses(cls), cls, include_self, names_only)


def _subclasses(cls: type[Any]) -> list[type]:
    found: dict[type, None] = {}
    for child in cls.__subclasses__():
        found.update(dict.fromkeys([child, *_subclasses(child)]))
    return list(found)


def _listed_classes(found: list[Any], cls: type, include_self: bool, names_only: bool) -> list[type] | list[str]:
    """Return classes around a class, or their names, except private ones."""
    shown = [each for each in ([cls, *found] if include_self else found) if not each.__name__.startswith("_")]
    return [each.__name__ for each in shown] if names_only else shown
