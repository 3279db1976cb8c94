"""Questions to a state under their names in later Prefects, and the way out for those that are not here."""

from __future__ import annotations

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
