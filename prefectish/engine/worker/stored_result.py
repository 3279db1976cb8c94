"""A result in a store, as the state of its child holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefectish.engine.jobs.envelope import Encoded
from prefectish.engine.state import Deferred
from prefectish.errors import ResultReleased

if TYPE_CHECKING:
    from prefectish.results.base import Result

#: Stands for a value that did not ride along with its record.
NOTHING = object()


class Stored(Deferred):
    """A result in a store.

    Attributes
    ----------
    store
        Knows how to read it.
    location
        Where it is.
    label
        The child that made it, for errors.
    """

    __slots__ = ("_live", "_small", "label", "location", "store")

    def __init__(self, store: Result, location: str, label: str, small: Any = NOTHING, live: Any = NOTHING) -> None:
        self.store = store
        self.location = location
        self.label = label
        self._small = small
        self._live = live

    def get(self) -> Any:
        """Return the value, read once in each process.

        Raises
        ------
        ResultCorrupt
            What is stored is not what was written.
        ResultReleased
            It was deleted.
        OSError
            The store cannot be read.
        """
        if self._live is NOTHING:
            small = self._small
            if small is NOTHING:
                self._live = self._loaded()
            else:
                self._live = small.get() if isinstance(small, Encoded) else small
        return self._live

    def _loaded(self) -> Any:
        try:
            return self.store.load(self.location)
        except FileNotFoundError:
            raise ResultReleased(
                f"result of {self.label} is gone: there is no {self.location!r} in {self.store!r} any more"
            ) from None

    def __reduce__(self) -> tuple[Any, ...]:
        here = () if self._small is NOTHING else (self._small,)
        return Stored, (self.store, self.location, self.label, *here)

    def __repr__(self) -> str:
        return f"<result of {self.label} at {self.location}>"
