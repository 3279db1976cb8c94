"""`prefect.engine.serializers`: from values to bytes and back."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import cloudpickle


class Serializer(ABC):
    """Base class of serializers; two of one class are equal."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    __hash__ = object.__hash__

    @abstractmethod
    def serialize(self, value: Any) -> bytes:
        """Return the bytes of a value."""

    @abstractmethod
    def deserialize(self, value: bytes) -> Any:
        """Return the value of the bytes."""


class PickleSerializer(Serializer):
    """Serializes by cloudpickle."""

    def serialize(self, value: Any) -> bytes:
        """Return the pickle of a value."""
        content: bytes = cloudpickle.dumps(value)
        return content

    def deserialize(self, value: bytes) -> Any:
        """Return the value of a pickle, as it is or, as early versions wrote it, in base64."""
        try:
            return cloudpickle.loads(value)
        except Exception as error:
            try:
                return cloudpickle.loads(base64.b64decode(value, validate=True))
            except Exception:
                raise error from None


class JSONSerializer(Serializer):
    """Serializes as JSON."""

    def serialize(self, value: Any) -> bytes:
        """Return a value as JSON."""
        return json.dumps(value).encode()

    def deserialize(self, value: bytes) -> Any:
        """Return the value of JSON."""
        return json.loads(value)


class DateTimeSerializer(Serializer):
    """Serializes a datetime as ISO 8601."""

    def serialize(self, value: Any) -> bytes:
        """Return a datetime as text."""
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return moment.isoformat().encode()

    def deserialize(self, value: bytes) -> datetime:
        """Return an aware datetime; without a zone it is UTC."""
        moment = datetime.fromisoformat(value.decode())
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


class PandasSerializer(Serializer):
    """Serializes a DataFrame in a format of pandas.

    Parameters
    ----------
    file_type
        The end of the names of pandas' methods: "csv" for `to_csv` and `read_csv`.
    deserialize_kwargs, serialize_kwargs
        Arguments of these methods.
    """

    def __init__(
        self,
        file_type: str,
        deserialize_kwargs: dict[str, Any] | None = None,
        serialize_kwargs: dict[str, Any] | None = None,
    ) -> None:
        pandas = sys.modules.get("pandas")  # where it is missing, or comes later, this is seen at the first use
        if pandas is not None:
            _method(pandas, f"read_{file_type}")
        self.file_type = file_type
        self.deserialize_kwargs = deserialize_kwargs or {}
        self.serialize_kwargs = serialize_kwargs or {}

    def serialize(self, value: Any) -> bytes:
        """Return a DataFrame as bytes."""
        write = _method(value, f"to_{self.file_type}")
        buffer = io.BytesIO()
        try:
            write(buffer, **self.serialize_kwargs)
            return buffer.getvalue()
        except TypeError:  # a format that is text
            text = io.StringIO()
            write(text, **self.serialize_kwargs)
            return text.getvalue().encode()

    def deserialize(self, value: bytes) -> Any:
        """Return the DataFrame of the bytes."""
        read = _method(import_module("pandas"), f"read_{self.file_type}")
        return read(io.BytesIO(value), **self.deserialize_kwargs)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = object.__hash__


def _method(owner: Any, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] | None = getattr(owner, name, None)
    if found is None:
        raise ValueError(f"Could not find the method {name} of pandas; file_type= is the end of its name, as in 'csv'")
    return found


_COMPRESSIONS: dict[str, tuple[Callable[..., bytes], Callable[..., bytes]]] = {
    "bz2": (bz2.compress, bz2.decompress),
    "gzip": (gzip.compress, gzip.decompress),
    "lzma": (lzma.compress, lzma.decompress),
    "zlib": (zlib.compress, zlib.decompress),
}


class CompressedSerializer(Serializer):
    """Compresses what another serializer gives.

    Parameters
    ----------
    serializer
        The other one.
    format
        "bz2", "gzip", "lzma" or "zlib"; or None, with the two functions.
    compress, decompress
        Functions from bytes to bytes.
    compress_kwargs, decompress_kwargs
        Their arguments.
    """

    def __init__(
        self,
        serializer: Serializer,
        format: str | None = None,
        compress: Callable[..., bytes] | None = None,
        decompress: Callable[..., bytes] | None = None,
        compress_kwargs: dict[str, Any] | None = None,
        decompress_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if format is None and (compress is None or decompress is None):
            raise ValueError("Must specify either `format` or `compress` and `decompress`")
        if format is not None and (compress is not None or decompress is not None):
            raise ValueError("Must not specify both `format` and `compress`/`decompress`")
        if format is not None and format not in _COMPRESSIONS:
            raise ValueError(f"Unknown compression format {format!r}; there are {', '.join(_COMPRESSIONS)}")
        self._serializer = serializer
        self._compress, self._decompress = _COMPRESSIONS[format] if format is not None else (compress, decompress)
        self._compress_kwargs = compress_kwargs or {}
        self._decompress_kwargs = decompress_kwargs or {}

    def serialize(self, value: Any) -> bytes:
        """Return a value as compressed bytes."""
        assert self._compress is not None
        return self._compress(self._serializer.serialize(value), **self._compress_kwargs)

    def deserialize(self, value: bytes) -> Any:
        """Return the value of compressed bytes."""
        assert self._decompress is not None
        return self._serializer.deserialize(self._decompress(value, **self._decompress_kwargs))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = object.__hash__
