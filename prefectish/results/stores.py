"""Built-in result stores: a folder, and any fsspec URL."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from prefectish import config, optional_deps
from prefectish.results.base import Result, ResultStore
from prefectish.results.folder import Folder
from prefectish.results.remote import Remote, is_local
from prefectish.results.serializers import Serializer


class LocalResult(Result):
    """Store results in a folder, local or on a file system that workers share.

    Parameters
    ----------
    dir
        Created if missing; default: `results` in the home folder. Resolved now, also for workers.
    **options
        As for :class:`Result`.
    """

    def __init__(
        self,
        dir: str | os.PathLike[str] | None = None,
        *,
        serializer: str | Serializer = "pickle",
        compression: str | None = None,
        hmac_key: bytes | str | Callable[[], bytes | str] | None = None,
        location: str | Callable[..., str] | None = None,
    ) -> None:
        self.dir = os.path.abspath(os.path.join(config.home(), "results") if dir is None else os.path.expanduser(dir))
        super().__init__(
            Folder(self.dir), serializer=serializer, compression=compression, hmac_key=hmac_key, location=location
        )


class FSResult(Result):
    """Store results at an fsspec URL: ``s3://bucket/results``, ``gs://...``, ``memory://...``, ``file://...``.

    Parameters
    ----------
    url
        URL of a folder, or a path of universal-pathlib, whose options are used.
    storage_options
        Options of the file system, as for fsspec; they are sent to the workers.
    **options
        As for :class:`Result`.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        storage_options: Mapping[str, Any] | None = None,
        serializer: str | Serializer = "pickle",
        compression: str | None = None,
        hmac_key: bytes | str | Callable[[], bytes | str] | None = None,
        location: str | Callable[..., str] | None = None,
    ) -> None:
        self.url = str(url)
        self.storage_options = {**getattr(url, "storage_options", {}), **(storage_options or {})}
        local = is_local(self.url)
        store: ResultStore = Remote(self.url, self.storage_options) if local is None else Folder(local)
        super().__init__(store, serializer=serializer, compression=compression, hmac_key=hmac_key, location=location)

    def path(self, location: str = "") -> Any:
        """Return the path of a result, or of the store, as an object of universal-pathlib.

        Raises
        ------
        ImportError
            With the command that installs it.
        """
        upath = optional_deps.load("upath", "results", "FSResult.path")
        return upath.UPath(self.url, **self.storage_options).joinpath(*filter(None, location.split("/")))
