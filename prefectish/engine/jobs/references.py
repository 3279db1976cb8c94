"""Values that are elsewhere: every class that stands for a value where the value is not.

A state holds one of them in place of a result; reading ``state.result`` resolves it (:meth:`Deferred.get`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefectish.engine.context import current
from prefectish.engine.jobs.struct import Struct
from prefectish.engine.state import Deferred
from prefectish.errors import PrefectishError, ResultReleased, text_of


class Held(Deferred):
    """A result that stayed where it was made. Reading it fetches it; after its release reading it is an error.

    Attributes
    ----------
    label
        The child that made it, for errors.
    nbytes
        Its size in bytes.
    handle
        What the session needs to find it; dropping the handle lets it go.
    """

    __slots__ = ("_fetch", "_reason", "_value", "handle", "label", "nbytes")

    def __init__(self, label: str, nbytes: int, handle: Any, fetch: Callable[[Any], Any]) -> None:
        self.label = label
        self.nbytes = nbytes
        self.handle = handle
        self._fetch = fetch
        self._reason = "it was released after its last consumer ran"
        self._value: Any = None

    def get(self) -> Any:
        """Return the value, from where it is; it is not kept here.

        Raises
        ------
        ResultReleased
            The result was dropped.
        """
        value = self._value
        if value is None:
            if self.handle is None:
                raise ResultReleased(
                    f"result of {self.label} ({self.nbytes} bytes) cannot be read: {self._reason}; pass "
                    f"keep_results=True, or a list of tasks, to flow.run, or a client of your own to the executor"
                )
            value = self._fetch(self.handle)
        return value.get() if isinstance(value, Deferred) else value

    def peek(self) -> Any:
        """Return the value and keep it here too; it stays where it is for others."""
        if self._value is None and self.handle is not None:
            self._value = self._fetch(self.handle)
        return self.get()

    def fetch(self) -> None:
        """Bring the value here, to stay."""
        self._value = self._fetch(self.handle)
        self.handle = None

    def release(self, reason: str | None = None) -> None:
        """Let the value go."""
        self.handle = None
        self._reason = reason or self._reason

    def __repr__(self) -> str:
        return f"<{'released' if self.handle is None else 'held'} result of {self.label}, {self.nbytes} bytes>"


class ResultRef(Struct, Deferred):
    """The place of a value that arrives beside the call."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def get(self) -> Any:
        """Refuse: a value takes its place before anything reads it."""
        raise AssertionError(f"reference {self.number} was read before its value was put in its place")


class Discarded(Struct, Deferred):
    """A large result that nobody outside its branch needs; it was not sent."""

    __slots__ = ("label", "nbytes")

    def __init__(self, label: str, nbytes: int) -> None:
        self.label = label
        self.nbytes = nbytes

    def get(self) -> Any:
        """Refuse.

        Raises
        ------
        ResultReleased
            Always; it names the option that keeps the result.
        """
        raise ResultReleased(
            f"result of {self.label} ({self.nbytes} bytes) was not kept: no task outside its branch reads it; "
            f"pass keep_results=True (or a list of tasks) to flow.run to keep it"
        )


class LeftOnWorker(Struct):
    """Stands for a result that stayed where it was made."""

    __slots__ = ("nbytes",)

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


class Unpicklable(Struct, Deferred):
    """The place of an input that could not be pickled: the child that reads it fails, and says why."""

    __slots__ = ("name", "reason", "slug")

    def __init__(self, name: str, slug: str, reason: BaseException | str) -> None:
        self.name = name
        self.slug = slug
        self.reason = f"{type(reason).__name__}: {text_of(reason)}" if isinstance(reason, BaseException) else reason

    def get(self) -> Any:
        """Refuse.

        Raises
        ------
        PrefectishError
            always.
        """
        index = current().get("map_index")
        label = self.slug if index is None else f"{self.slug}[{index}]"
        raise PrefectishError(f"argument {self.name!r} of {label} could not be pickled: {self.reason}")
