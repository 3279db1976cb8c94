"""A result object of Prefect 1 as the store that a run uses.

Values under names that the user chose are written by the object itself, so its files are those that Prefect 1 wrote;
the rest, what only the engine reads, lies beside them in the engine's own format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from prefectish.compat.configuration import config
from prefectish.engine.context import current
from prefectish.engine.worker.stored_result import ATTEMPT
from prefectish.errors import ResultCorrupt
from prefectish.results.base import Result, ResultStore
from prefectish.results.folder import Folder
from prefectish.results.names import checked
from prefectish.results.templates import FIELDS, MAPPINGS

#: Names of what is in the context of the run, and of no argument.
NAMES: ContextVar[frozenset[str]] = ContextVar("names_in_context", default=frozenset())
_FIELD = re.compile(r"(?<!\{)\{(?P<name>[A-Za-z_]\w*)(?P<rest>[^{}]*)\}(?!\})")


def in_context(text: Any) -> Any:
    """Return a template of Prefect 1, where what is in the context and the settings were fields by their names."""
    if not isinstance(text, str):
        return text

    def written(found: re.Match[str]) -> str:
        name, rest = found["name"], found["rest"]
        if name == "config" and rest.startswith("."):
            value: Any = config
            for key in rest[1:].split("."):
                value = getattr(value, key)
            return str(value)
        known = name in FIELDS or name in MAPPINGS
        return found[0] if known or name not in NAMES.get() else f"{{context[{name}]{rest}}}"

    return _FIELD.sub(written, text)


class PrefectStore(Result):
    """Reads and writes by a result object.

    Parameters
    ----------
    result
        The object; its location is the template of the names.
    serializer
        For bytes, in an object that knows no folder.
    """

    def __init__(self, result: Any, serializer: Any) -> None:
        folder = getattr(result, "dir", None)
        store: ResultStore = _Bytes(result, serializer) if folder is None else Folder(str(folder))
        super().__init__(store, location=in_context(result.location) or None)
        if folder is None or result.location:  # else what is in the folder is in the engine's own format
            self._format = f"prefect-{type(result).__name__}"  # another process cannot open it by a description
        self.result = result

    def save_result(self, location: str, value: Any, facts: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
        """Write a value by the object, which gets the context and the inputs, and may have a place of its own for it.

        In a folder without a location it is written as the engine writes what only it reads.
        """
        is_chosen = ATTEMPT in facts
        if not is_chosen and not isinstance(self.store, _Bytes):
            return self.save(location, value, facts)
        fields = {name: found for name, found in {**current(), **inputs}.items() if name not in ("self", "value_")}
        written = _at(self.result, checked(location)).write(value, **fields)
        place = None if is_chosen else getattr(written, "location", None)
        return place if isinstance(place, str) else location

    def load_with_facts(self, location: str) -> tuple[Any, dict[str, Any]]:
        """Return the value under a name, and what is known of it."""
        try:
            return super().load_with_facts(location)
        except ResultCorrupt:  # the object wrote it
            return self.result.read(location).value, {}

    def facts(self, location: str) -> dict[str, Any]:
        """Return what is known of a result: nothing, if the object wrote it."""
        try:
            return super().facts(location)
        except ResultCorrupt:
            return {}

    def exists(self, location: str) -> bool:
        """Whether there is a result under a name; not for a class that cannot tell."""
        try:
            return bool(self.result.exists(checked(location).replace("{", "{{").replace("}", "}}")))
        except NotImplementedError:
            return False

    def as_result(self, stored: Any) -> Any:
        """Return a result in this store as the object that reads it, with its value."""
        read = self.result.copy()
        read.location, read.value = stored.location, stored.get()
        return read

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrefectStore) and self.store == other.store and self.result == other.result

    __hash__ = object.__hash__


def _at(result: Any, location: str) -> Any:
    """Return a copy of a result object that writes to one location."""
    new = result.copy()
    new.location = location.replace("{", "{{").replace("}", "}}")
    return new


class _Bytes:
    """Bytes by a result object, which can neither list nor delete."""

    def __init__(self, result: Any, serializer: Any) -> None:
        self._result = result.copy()
        self._result.serializer = serializer

    def put(self, name: str, pieces: Sequence[bytes]) -> None:
        _at(self._result, name).write(b"".join(pieces))

    def get(self, name: str) -> bytes:
        if not self.exists(name):
            raise FileNotFoundError(name)
        content: bytes = self._result.read(name).value
        if not isinstance(content, bytes):
            raise ResultCorrupt(f"{name}: not written by the engine")
        return content

    def exists(self, name: str) -> bool:
        return bool(self._result.exists(name))

    def delete(self, name: str) -> None:
        """Leave it: the object cannot delete."""

    def list(self, folder: str) -> Iterator[str]:
        return iter(())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bytes) and self._result == other._result

    __hash__ = object.__hash__
