"""Serializers: from values to bytes and back."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from prefectish.source_lines import dumps_by_value


@runtime_checkable
class Serializer(Protocol):
    """Interface of a serializer.

    Attributes
    ----------
    name
        Recorded in every file: a store reads only files of its own serializer.
    """

    name: str

    def serialize(self, value: Any) -> bytes:
        """Return the bytes of a value."""

    def deserialize(self, content: bytes) -> Any:
        """Return the value of the bytes."""


class PickleSerializer:
    """Serialize with cloudpickle; loading a file can execute code chosen by its writer."""

    name = "pickle"

    def serialize(self, value: Any) -> bytes:
        """Return the pickle of a value."""
        return dumps_by_value(value, lines=False)

    def deserialize(self, content: bytes) -> Any:
        """Return the value of a pickle."""
        import pickle

        return pickle.loads(content)


class JSONSerializer:
    """Serialize as JSON: strings, numbers, booleans, None, lists and dicts; tuples become lists, keys strings."""

    name = "json"

    def serialize(self, value: Any) -> bytes:
        """Return the JSON text of a value in UTF-8."""
        import json

        return json.dumps(value).encode()

    def deserialize(self, content: bytes) -> Any:
        """Return the value of a JSON text."""
        import json

        return json.loads(bytes(content))


_REGISTERED: dict[str, Serializer] = {"pickle": PickleSerializer(), "json": JSONSerializer()}


def register_serializer(name: str, serializer: Serializer) -> None:
    """Register a serializer under a name.

    Parameters
    ----------
    name
        The name for ``serializer=``. It need not be registered on workers: the serializer is sent with the store.
    serializer
        An object with `serialize` and `deserialize`. Its own name, if it has one, is recorded in the files.

    Raises
    ------
    TypeError, ValueError
        If it lacks one of them, or the name is already used.
    """
    if not callable(getattr(serializer, "serialize", None)) or not callable(getattr(serializer, "deserialize", None)):
        raise TypeError(f"serializer {name!r} must have the methods serialize and deserialize, got {serializer!r}")
    if not isinstance(name, str) or not name:
        raise TypeError(f"the name of a serializer must be a non-empty string, got {name!r}")
    if _REGISTERED.get(name, serializer) is not serializer:
        raise ValueError(f"serializer {name!r} is already registered as {_REGISTERED[name]!r}; choose another name")
    _REGISTERED[name] = serializer


def serializer_of(wanted: str | Serializer) -> tuple[str, Serializer]:
    """Return the name recorded in files, and the serializer."""
    if isinstance(wanted, str):
        if wanted not in _REGISTERED:
            known = ", ".join(map(repr, _REGISTERED))
            raise ValueError(f"serializer must be one of {known}, got {wanted!r}; add others with register_serializer")
        return wanted, _REGISTERED[wanted]
    if isinstance(wanted, type) or not callable(getattr(wanted, "serialize", None)):
        raise TypeError(f"serializer must be a name, or an object with serialize and deserialize, got {wanted!r}")
    return str(getattr(wanted, "name", type(wanted).__qualname__)), wanted
