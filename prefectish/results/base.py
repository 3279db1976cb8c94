"""Base class of result stores: save and load values by name; a `ResultStore` keeps the bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from prefectish.errors import ResultCorrupt, ResultUnpickleError, describe
from prefectish.results.compression import TooLarge, check_name, compressed, decompressed
from prefectish.results.envelope import seal, unseal
from prefectish.results.folder import Folder
from prefectish.results.names import checked
from prefectish.results.serializers import PickleSerializer, Serializer, serializer_of
from prefectish.results.templates import Template


class ResultStore(Protocol):
    """Interface of a backend that stores bytes under safe names."""

    def put(self, name: str, pieces: Sequence[bytes]) -> None:
        """Write a file atomically."""

    def get(self, name: str) -> bytes:
        """Return the content of a file; raise FileNotFoundError if it does not exist."""

    def exists(self, name: str) -> bool:
        """Whether a complete file exists."""

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""

    def list(self, folder: str) -> Iterator[str]:
        """Yield the names of complete files in a folder and its subfolders, sorted; "" for all."""


class Result:
    """A place where results are stored; picklable, small, and without open handles.

    Parameters
    ----------
    store
        The backend for the bytes.
    serializer
        "pickle", "json", a registered name, or a serializer.
    compression
        None, "gzip", "bz2", "xz", or a registered name.
    hmac_key
        Key to sign every file; unsigned files are rejected. A function that returns the key is called where
        files are read and written, so that the key itself is not sent to workers.
    location
        A template for the names of results (:class:`prefectish.results.Template`), or a function of its fields as
        keywords; by default a unique name for each run, task, child and attempt, which the history records.

    Raises
    ------
    TypeError, ValueError
        If an option is invalid; the message names it.
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
            check_name(compression)
        self.compression = compression
        if hmac_key is not None and not callable(hmac_key):
            _check_key(hmac_key)
        self._hmac_key = hmac_key
        self.location = Template(location) if isinstance(location, str) else location
        if location is not None and not isinstance(location, str) and not callable(location):
            raise TypeError(f"location must be a template or a function, got {location!r}")

    def as_store(self) -> Result | None:
        """Return the store that a run uses for what was given as ``result=``: this one."""
        return self

    @property
    def serializer(self) -> Serializer:
        """The serializer of values."""
        return self._serializer

    @property
    def holds_pickles(self) -> bool:
        """Whether values are pickled, so that loading one can run code that its writer chose."""
        return isinstance(self.serializer, PickleSerializer)

    def write(self, location: str, payload: bytes, facts: Mapping[str, Any] | None = None) -> str:
        """Write bytes under a name, replacing an existing file, and return the name.

        Parameters
        ----------
        facts
            Small metadata to store with them; must be JSON serializable.

        Raises
        ------
        ValueError
            ``unsafe name ...``.
        OSError
            If the store cannot be written.
        """
        checked(location)
        self.store.put(location, seal(location, facts or {}, payload, self._key()))
        return location

    def read(self, location: str) -> bytes:
        """Return the bytes under a name.

        Raises
        ------
        ResultCorrupt
            If the file is damaged, or not signed as required.
        FileNotFoundError, ValueError
            If the file does not exist; ``unsafe name ...``.
        """
        return bytes(self._open(location)[1])

    def read_with_facts(self, location: str) -> tuple[dict[str, Any], bytes]:
        """Return the metadata and the bytes under a name; raises as :meth:`read` does."""
        facts, content = self._open(location)
        return facts, bytes(content)

    def facts(self, location: str) -> dict[str, Any]:
        """Return the metadata that was written with a result; raises as :meth:`read` does."""
        return self._open(location)[0]

    def save(self, location: str, value: Any, facts: Mapping[str, Any] | None = None) -> str:
        """Write a value under a name and return the name; other parameters and errors as for :meth:`write`."""
        content = self._serializer.serialize(value)
        if self.compression is not None:
            content = compressed(self.compression, content)
        form = {"serializer": self._format, "compression": self.compression}
        return self.write(location, content, {**(facts or {}), **form})

    def save_result(self, location: str, value: Any, facts: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
        """Write the result of an attempt that had these inputs, and return its name; otherwise as :meth:`save`."""
        return self.save(location, value, facts)

    def load(self, location: str) -> Any:
        """Return the value under a name.

        Raises
        ------
        ResultCorrupt
            If the file is damaged, or was written with another serializer.
        ResultUnpickleError
            If the file is intact, but its value cannot be loaded in this process.
        FileNotFoundError, ValueError
            As for :meth:`read`.
        """
        return self.load_with_facts(location)[0]

    def load_with_facts(self, location: str) -> tuple[Any, dict[str, Any]]:
        """Return the value under a name and its metadata; raises as :meth:`load` does."""
        facts, content = self._open(location)
        if facts.get("serializer") != self._format:
            raise ResultCorrupt(
                f"{location}: written by serializer {facts.get('serializer')!r}, but this store reads {self._format!r}"
            )
        try:
            form = facts["compression"]
            plain = content if form is None else decompressed(form, bytes(content))
            return self._serializer.deserialize(plain), facts  # type: ignore[arg-type]  # any buffer will do
        except TooLarge as error:
            raise ResultCorrupt(f"{location}: {error}") from None
        except Exception as error:  # serializers and classes are user code
            raise ResultUnpickleError(f"{location}: cannot be loaded here: {describe(error)}") from error

    def exists(self, location: str) -> bool:
        """Whether a result exists under a name; it may be damaged."""
        return self.store.exists(checked(location))

    def delete(self, location: str) -> None:
        """Delete a result if it exists."""
        self.store.delete(checked(location))

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of all results in a folder and its subfolders, sorted; by default of the whole store."""
        return self.store.list(checked(prefix.rstrip("/")) if prefix else "")

    def _open(self, location: str) -> tuple[dict[str, Any], memoryview]:
        return unseal(location, self.store.get(checked(location)), self._key())

    def _key(self) -> bytes | None:
        if self._hmac_key is None:
            return None
        key = self._hmac_key() if callable(self._hmac_key) else self._hmac_key
        _check_key(key)  # an empty key would sign nothing without notice
        return key.encode() if isinstance(key, str) else key

    def __repr__(self) -> str:
        signed = ", signed" if self._hmac_key is not None else ""
        return f"<{type(self).__name__}: {self.store!r}, {self._format}{signed}>"


def store_of(*given: Any) -> Result | None:
    """Return the store that a run uses: of the first object that was given as ``result=``."""
    first = next((result for result in given if result is not None), None)
    return None if first is None else first.as_store()


def place_of(store: Result | None) -> Any:
    """Return what two stores that keep results in one place have in common."""
    backend = getattr(store, "store", None)
    return backend if backend is None or not hasattr(backend, "place") else (type(backend).__name__, *backend.place)


def file_of(store: Result | None, name: str) -> Any:
    """Return what results of one name have in common whose stores keep them in one file: a store may lie in another."""
    place = place_of(store)
    return (place[0], f"{place[1]}/{name}", *place[2:]) if type(place) is tuple else (place, name)


def is_folder(store: Result) -> bool:
    """Whether a store is a folder, where no file can have the name of a folder, as it may in object stores."""
    return isinstance(store.store, Folder)


def _check_key(key: Any) -> None:
    if not isinstance(key, bytes | str):
        raise TypeError(f"hmac_key must be bytes, a string or a function that returns them, got {type(key).__name__}")
    if not key:
        raise ValueError("hmac_key must not be empty: anyone who can write to the store could sign files")
