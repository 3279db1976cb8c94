"""A result in a store, as the state of its child holds it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from prefectish.engine.deferred import Deferred
from prefectish.engine.jobs.envelope import Encoded, dumps
from prefectish.errors import ResultCorrupt, ResultReleased
from prefectish.results.templates import Template

if TYPE_CHECKING:
    from prefectish.results.base import Result

#: Stands for a value that did not ride along with its record.
NOTHING = object()
#: Where the classes are that pickle by their names; what a user adds to a store may not.
_OURS = "prefectish.results."
#: Header of a stored result whose name the user chose: the attempt that wrote it.
ATTEMPT = "attempt"
#: Fact of a stored result: what the task is called that wrote it.
TASK = "task"


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
    run_id
        The run that made it, if the user chose its name: another one may have replaced it.
    """

    __slots__ = ("_live", "_small", "label", "location", "run_id", "store")

    def __init__(
        self,
        store: Result,
        location: str,
        label: str,
        small: Any = NOTHING,
        live: Any = NOTHING,
        run_id: str | None = None,
    ) -> None:
        self.store = store
        self.location = location
        self.label = label
        self.run_id = run_id
        self._small = small
        self._live = live

    @property
    def is_away(self) -> bool:
        """Whether it is in the store, and does not travel with its state."""
        return self._small is NOTHING

    @property
    def is_kept(self) -> bool:
        """Whether it can still be read, and no other run has replaced it."""
        if not self.is_away:
            return True
        if self.run_id is None:
            return self.store.exists(self.location)
        try:
            return not is_replaced(self.store.facts(self.location), self.run_id)
        except (FileNotFoundError, ResultCorrupt):
            return False

    def get(self) -> Any:
        """Return the value, read once in each process.

        Raises
        ------
        ResultCorrupt
            What is stored is not what was written.
        ResultReleased
            It was deleted, or another run has replaced it.
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
            value, facts = self.store.load_with_facts(self.location)
        except FileNotFoundError:
            raise ResultReleased(
                f"result of {self.label} is gone: there is no {self.location!r} in {self.store!r} any more"
            ) from None
        if is_replaced(facts, self.run_id):
            raise ResultReleased(
                f"result of {self.label} is gone: another run has replaced {self.location!r} in {self.store!r}; "
                f"put ${{flow_run_id}} into the location"
            )
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        here = () if self._small is NOTHING else (self._small,)
        return _stored, (_portable(self.store), self.location, self.label, self.run_id, *here)

    def __repr__(self) -> str:
        return f"<result of {self.label} at {self.location}>"


class _Store:
    """A store as bytes; it is unpickled as the store."""

    __slots__ = ("content",)

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self.content,)


#: What stands for a store whose parts only cloudpickle can send: a function of the user's, or a class of the script.
_by_value: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def _portable(store: Result) -> Any:
    """Return what pickles as a store, also one with a function or a class that is sent by value."""
    parts = store, store.store, store.serializer
    if isinstance(store.location, Template | None) and not callable(store._hmac_key):  # noqa: SIM102  two questions
        if all(type(part).__module__.startswith(_OURS) for part in parts):
            return store
    found = _by_value.get(store)
    if found is None:
        found = _by_value[store] = _Store(dumps(store))
    return found


def _stored(store: Result, location: str, label: str, run_id: str | None, small: Any = NOTHING) -> Stored:
    return Stored(store, location, label, small, run_id=run_id)


def is_replaced(facts: Mapping[str, Any], run_id: str | None) -> bool:
    """Whether a stored result is of another run, by what was written with it."""
    writer = facts.get(ATTEMPT)
    return run_id is not None and writer is not None and not str(writer).startswith(f"{run_id}/")
