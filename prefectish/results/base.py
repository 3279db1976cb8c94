"""A store of results as tasks see it: values in, values out, by name; where bytes lie is its store's business."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from prefectish.errors import ResultCorrupt, ResultUnpickleError, describe
from prefectish.results.compression import codec_of
from prefectish.results.envelope import seal, unseal
from prefectish.results.names import checked
from prefectish.results.serializers import Serializer, serializer_of
from prefectish.results.templates import Template, misspelt


class ResultStore(Protocol):
    """Where bytes lie, by safe names."""

    def put(self, name: str, pieces: Sequence[bytes]) -> None:
        """Write a file as a whole or not at all."""

    def get(self, name: str) -> bytes:
        """Return a file; a FileNotFoundError if there is none."""

    def exists(self, name: str) -> bool:
        """Whether there is a finished file."""

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""

    def list(self, folder: str) -> Iterator[str]:
        """Yield the names of the finished files in a folder and the folders in it, sorted; "" for all."""


class Result:
    """Keeps results in a store; picklable, small, and without open handles.

    Parameters
    ----------
    store
        Where bytes lie.
    serializer
        "pickle", "json", a registered name, or a serializer.
    compression
        None, "gzip", "bz2", "xz", or a registered name.
    hmac_key
        Signs every file; files without its signature are refused. A function that returns the key is called where
        files are read and written, and keeps the key itself out of what travels to workers.
    location
        A template of the names of results (:class:`prefectish.results.Template`), or a function of its fields as
        keywords; by default a name of their own for each run, task, child and attempt, which the history knows.

    Raises
    ------
    TypeError, ValueError
        Naming the option.
    """

    def __init__(
        self,
        store: ResultStore,
        *,
        serializer: str | Serializer = "pickle",
        compression: str | None = None,
        hmac_key: bytes | str | Callable[[], bytes | str] | None = None,
        location: str | Callable[..., str] | None = None,
    ) -> None:
        self.store = store
        self._format, self._serializer = serializer_of(serializer)
        if compression is not None:
            codec_of(compression)
        self.compression = compression
        if hmac_key is not None and not callable(hmac_key):
            _check_key(hmac_key)
        self._hmac_key = hmac_key
        self.location = Template(location) if isinstance(location, str) else location
        if location is not None and not isinstance(location, str) and not callable(location):
            raise TypeError(f"location must be a template or a function, got {location!r}")
        if isinstance(location, str) and (hint := misspelt(location)) is not None:
            warnings.warn(f"location={location!r}: {hint}", stacklevel=3)

    def write(self, location: str, payload: bytes, facts: Mapping[str, Any] | None = None) -> str:
        """Write bytes under a name, in the place of what was there, and return the name.

        Parameters
        ----------
        facts
            Small facts to keep beside them, such that JSON can write them.

        Raises
        ------
        ValueError
            ``unsafe name ...``.
        OSError
            As the store.
        """
        checked(location)
        self.store.put(location, seal(location, facts or {}, payload, self._key()))
        return location

    def read(self, location: str) -> bytes:
        """Return the bytes under a name.

        Raises
        ------
        ResultCorrupt
            If they are not those that were written.
        FileNotFoundError, ValueError
            If there are none; ``unsafe name ...``.
        """
        return bytes(self._open(location)[1])

    def facts(self, location: str) -> dict[str, Any]:
        """Return the facts that were written with a result; errors are those of :meth:`read`."""
        return self._open(location)[0]

    def save(self, location: str, value: Any, facts: Mapping[str, Any] | None = None) -> str:
        """Write a value under a name and return the name; further parameters and errors are those of :meth:`write`."""
        content = self._serializer.serialize(value)
        if self.compression is not None:
            content = codec_of(self.compression)[0](content)
        form = {"serializer": self._format, "compression": self.compression}
        return self.write(location, content, {**(facts or {}), **form})

    def load(self, location: str) -> Any:
        """Return the value under a name.

        Raises
        ------
        ResultCorrupt
            If it is not what was written, or was written by another serializer than this store's.
        ResultUnpickleError
            If its bytes are sound, but make no value here.
        FileNotFoundError, ValueError
            As :meth:`read`.
        """
        return self.load_with_facts(location)[0]

    def load_with_facts(self, location: str) -> tuple[Any, dict[str, Any]]:
        """Return the value under a name, and its facts; errors are those of :meth:`load`."""
        facts, content = self._open(location)
        if facts.get("serializer") != self._format:
            raise ResultCorrupt(
                f"{location}: written by serializer {facts.get('serializer')!r}, and this store reads {self._format!r}"
            )
        try:
            plain = content if facts["compression"] is None else codec_of(facts["compression"])[1](bytes(content))
            return self._serializer.deserialize(plain), facts  # type: ignore[arg-type]  # any buffer will do
        except Exception as error:  # a serializer, or a class, of anybody's
            raise ResultUnpickleError(f"{location}: cannot be loaded here: {describe(error)}") from error

    def exists(self, location: str) -> bool:
        """Whether there is a result under a name; it may be damaged."""
        return self.store.exists(checked(location))

    def delete(self, location: str) -> None:
        """Remove a result, if it is there."""
        self.store.delete(checked(location))

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of all results in a folder and the folders in it, sorted; of all, by default."""
        return self.store.list(checked(prefix.rstrip("/")) if prefix else "")

    def _open(self, location: str) -> tuple[dict[str, Any], memoryview]:
        return unseal(location, self.store.get(checked(location)), self._key())

    def _key(self) -> bytes | None:
        if self._hmac_key is None:
            return None
        key = self._hmac_key() if callable(self._hmac_key) else self._hmac_key
        _check_key(key)  # without one, nothing would be signed, and nobody would know
        return key.encode() if isinstance(key, str) else key

    def __repr__(self) -> str:
        signed = ", signed" if self._hmac_key is not None else ""
        return f"<{type(self).__name__}: {self.store!r}, {self._format}{signed}>"


def _check_key(key: Any) -> None:
    if not isinstance(key, bytes | str):
        raise TypeError(f"hmac_key must be bytes, a string or a function that returns them, got {type(key).__name__}")
    if not key:
        raise ValueError("hmac_key must not be empty: anyone who can write to the store could sign files")
