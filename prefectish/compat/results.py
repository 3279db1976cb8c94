"""`prefect.engine.result` and `prefect.engine.results`: a value and where it is written, in one object.

A run writes and reads by the methods of the object, so a class of the user's own works as it did; the files are those
that Prefect 1 wrote.
"""

from __future__ import annotations

import copy
import os
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Self

from prefectish.compat.configuration import config
from prefectish.compat.serializers import JSONSerializer, PickleSerializer, Serializer
from prefectish.compat.stores import PrefectStore
from prefectish.engine.context import get_logger
from prefectish.engine.deferred import Deferred
from prefectish.secrets.store import find


class Result(Deferred):
    """A value, and where and how it is stored.

    Parameters
    ----------
    value
        The value, if it is known.
    location
        Where it is, or a template or function for it.
    serializer
        Default: pickles.
    """

    def __init__(
        self,
        value: Any = None,
        location: str | Callable[..., str] | None = None,
        serializer: Serializer | None = None,
    ) -> None:
        self.value = value
        self.location = location
        self.serializer = PickleSerializer() if serializer is None else serializer

    def get(self) -> Any:
        """Return the value: a state whose result is this object gives it."""
        return self.value

    @property
    def logger(self) -> Any:
        """The logger named after the class."""
        return get_logger(type(self).__name__)

    @property
    def default_location(self) -> str:
        """A location that no other result has."""
        return f"prefect-result-{uuid.uuid4().hex}"

    def from_value(self, value: Any) -> Self:
        """Return a copy with another value."""
        new = self.copy()
        new.value = value
        return new

    def copy(self) -> Self:
        """Return a shallow copy."""
        return copy.copy(self)

    def format(self, **kwargs: Any) -> Self:
        """Return a copy whose location is filled in from the keywords; without a location it gets one of its own."""
        new = self.copy()
        if callable(self.location):
            new.location = self.location(**kwargs)
        elif isinstance(self.location, str):
            new.location = self.location.format(**kwargs)
        else:
            new.location = new.default_location
        return new

    def as_store(self) -> PrefectStore | None:
        """Return the store that a run uses; None for a class that cannot write."""
        return None if type(self).write is Result.write else PrefectStore(self, PickleSerializer())

    def exists(self, location: str, **kwargs: Any) -> bool:
        """Whether there is a result at a location, which is filled in from the keywords."""
        raise NotImplementedError(f"Not implemented on {type(self).__name__}")

    def read(self, location: str) -> Result:
        """Return the result at a location."""
        raise NotImplementedError(f"Not implemented on {type(self).__name__}")

    def write(self, value_: Any, **kwargs: Any) -> Result:
        """Write a value to the location, which is filled in from the keywords, and return its result."""
        raise NotImplementedError(f"Not implemented on {type(self).__name__}")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        return bool(self._facts() == other._facts())

    __hash__ = object.__hash__

    def _facts(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.value!r}>"


class NoResultType(Result):
    """The result of what has none."""

    def __init__(self) -> None:
        super().__init__(None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoResultType)

    __hash__ = object.__hash__

    def copy(self) -> Self:
        """Return this very object: there is one."""
        return self

    def __copy__(self) -> Self:
        return self

    def __reduce__(self) -> str:
        return "NoResult"

    def __repr__(self) -> str:
        return "<No result>"

    def __str__(self) -> str:
        return "NoResult"


NoResult = NoResultType()


class ConstantResult(Result):
    """A constant."""

    def __init__(self, value: Any = None, **kwargs: Any) -> None:
        super().__init__(value, **kwargs)

    def read(self, location: str) -> ConstantResult:
        """Return this result, wherever."""
        return self

    def write(self, value_: Any, **kwargs: Any) -> Result:
        """Refuse: a constant is not written."""
        raise ValueError("Cannot write values to `ConstantResult` types.")

    def exists(self, location: str, **kwargs: Any) -> bool:
        """Return True: a constant is there."""
        return True


class SecretResult(Result):
    """The value of a secret: it is read where it is needed, and never written.

    Parameters
    ----------
    secret_task
        The task of the secret.
    """

    def __init__(self, secret_task: Any, **kwargs: Any) -> None:
        self.secret_task = secret_task
        super().__init__(location=secret_task.name, **kwargs)

    def read(self, location: str) -> SecretResult:
        """Return a result with the value now."""
        new = self.copy()
        new.value = self.secret_task.run()
        return new

    def write(self, value_: Any, **kwargs: Any) -> Result:
        """Refuse: a secret is not written."""
        raise ValueError("Cannot write values to `SecretResult` types.")

    def exists(self, location: str, **kwargs: Any) -> bool:
        """Return True: whether it is known is seen when it is read."""
        return True


class PrefectResult(Result):
    """A small value that is its own location, as JSON."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("serializer", JSONSerializer())
        super().__init__(**kwargs)

    @property
    def default_location(self) -> str:
        """The value as JSON."""
        return self.serializer.serialize(self.value).decode()

    def as_store(self) -> None:
        """Return None: the value stays in the state, as its location was it."""

    def read(self, location: str) -> PrefectResult:
        """Return the result whose value is the JSON text."""
        new = self.copy()
        new.value = self.serializer.deserialize(location.encode())
        new.location = location
        return new

    def write(self, value_: Any, **kwargs: Any) -> PrefectResult:
        """Return the result whose location is the value as JSON."""
        new = self.copy()
        new.value = value_
        new.location = self.serializer.serialize(value_).decode()
        return new

    def exists(self, location: str, **kwargs: Any) -> bool:
        """Whether the text is JSON."""
        try:
            self.serializer.deserialize(location.format(**kwargs).encode())
        except Exception:
            return False
        return True


class LocalResult(Result):
    """A result in a folder.

    Parameters
    ----------
    dir
        The folder; default: `results` in the home folder of the settings.
    validate_dir
        Whether the folder is made now, and its path absolute.
    **kwargs
        As for :class:`Result`.
    """

    def __init__(self, dir: str | None = None, validate_dir: bool = True, **kwargs: Any) -> None:
        folder = os.path.join(os.path.expanduser(config.home_dir), "results") if dir is None else dir
        if validate_dir:
            folder = os.path.abspath(os.path.expanduser(str(folder)))
            os.makedirs(folder, exist_ok=True)
        self.dir = folder
        super().__init__(**kwargs)

    @property
    def default_location(self) -> str:
        """A file that no other result has."""
        return f"{super().default_location}.prefect"

    def read(self, location: str) -> LocalResult:
        """Return the result in a file."""
        new = self.copy()
        with open(os.path.join(self.dir, location), "rb") as file:
            new.value = self.serializer.deserialize(file.read())
        new.location = location
        return new

    def write(self, value_: Any, **kwargs: Any) -> LocalResult:
        """Write a value to a file and return its result."""
        new = self.format(**kwargs)
        new.value = value_
        assert isinstance(new.location, str)
        path = os.path.join(self.dir, new.location)
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        unfinished = f"{path}.{uuid.uuid4().hex}.tmp"
        with open(unfinished, "wb") as file:
            file.write(self.serializer.serialize(value_))
        os.replace(unfinished, path)
        return new

    def exists(self, location: str, **kwargs: Any) -> bool:
        """Whether there is such a file."""
        return os.path.exists(os.path.join(self.dir, location.format(**kwargs)))


class RemoteResult(Result):
    """Base class of results in the stores of clouds, by fsspec, which needs a driver for each.

    Parameters
    ----------
    bucket
        The bucket, or the container.
    storage_options
        Options of fsspec's file system.
    **kwargs
        As for :class:`Result`.
    """

    #: The scheme of its addresses.
    scheme = ""

    def __init__(self, bucket: str, storage_options: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        self.bucket = bucket
        self.storage_options = dict(storage_options or {})
        super().__init__(**kwargs)

    def _options(self) -> dict[str, Any]:
        return self.storage_options

    def _system(self, location: str) -> tuple[Any, str]:
        import fsspec

        system, path = fsspec.core.url_to_fs(f"{self.scheme}://{self.bucket}/{location}", **self._options())
        return system, path

    def read(self, location: str) -> Self:
        """Return the result in an object."""
        new = self.copy()
        system, path = self._system(location)
        new.value = self.serializer.deserialize(system.cat_file(path))
        new.location = location
        return new

    def write(self, value_: Any, **kwargs: Any) -> Self:
        """Write a value to an object and return its result."""
        new = self.format(**kwargs)
        new.value = value_
        system, path = self._system(str(new.location))
        system.pipe_file(path, self.serializer.serialize(value_))
        return new

    def exists(self, location: str, **kwargs: Any) -> bool:
        """Whether there is such an object."""
        system, path = self._system(location.format(**kwargs))
        return bool(system.exists(path))


class S3Result(RemoteResult):
    """A result in a bucket of S3.

    Parameters
    ----------
    boto3_kwargs
        Arguments of the client, for ``client_kwargs`` of s3fs.
    """

    scheme = "s3"

    def __init__(self, bucket: str, boto3_kwargs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        self.upload_options = kwargs.pop("upload_options", None)  # of the transfer, which is fsspec's
        self.boto3_kwargs = dict(boto3_kwargs or {})
        super().__init__(bucket, {"client_kwargs": dict(boto3_kwargs)} if boto3_kwargs else None, **kwargs)


class GCSResult(RemoteResult):
    """A result in a bucket of Google Cloud Storage."""

    scheme = "gs"

    def __init__(self, bucket: str | None = None, **kwargs: Any) -> None:
        super().__init__(bucket or "", **kwargs)


class AzureResult(RemoteResult):
    """A result in a container of Azure's blobs.

    Parameters
    ----------
    connection_string
        How to connect; default: as adlfs finds it in the environment.
    connection_string_secret
        The name of a secret that has it, which is looked up when it is needed.
    """

    scheme = "abfs"

    def __init__(
        self,
        container: str,
        connection_string: str | None = None,
        connection_string_secret: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.container = container
        self.connection_string = connection_string
        self.connection_string_secret = connection_string_secret
        super().__init__(container, {"connection_string": connection_string} if connection_string else None, **kwargs)

    def _options(self) -> dict[str, Any]:
        if self.connection_string or not self.connection_string_secret:
            return self.storage_options
        return {**self.storage_options, "connection_string": find(self.connection_string_secret)}
