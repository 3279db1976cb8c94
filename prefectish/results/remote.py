"""Any fsspec file system as a result store; the only module that uses fsspec."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from prefectish.results.names import UNFINISHED_SUFFIX

#: Protocols for which a put is atomic; for others a file is written under a temporary name first.
OBJECT_STORES = frozenset(
    {"abfs", "abfss", "adl", "az", "gcs", "gs", "memory", "oci", "oss", "r2", "s3", "s3a", "tos", "wasb"}
)


def is_local(url: str) -> str | None:
    """Return the path of a URL on the local file system, None for any other."""
    if url.startswith(("file://", "local://")):
        path = url.partition("://")[2]
        return os.path.abspath(path) if not re.match(r"/[A-Za-z]:", path) else os.path.abspath(path[1:])
    return None if "://" in url or "::" in url else os.path.abspath(os.path.expanduser(url))


class Remote:
    """A folder at a URL; the file system is opened in the process that uses it."""

    __slots__ = ("_opened", "options", "url")

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.url = url  # URL of the folder
        self.options = dict(options)  # options of the file system, as for fsspec
        self._opened: tuple[Any, str] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Remote, (self.url, self.options)

    @property
    def place(self) -> tuple[Any, ...]:
        """Where the folder is: equal for two stores of the same files."""
        return self.url.rstrip("/"), repr(sorted(self.options.items(), key=repr))

    def put(self, name: str, pieces: Sequence[bytes]) -> None:
        """Write a file with one put, or under a temporary name first if a put is not atomic."""
        system, path = self._place(name)
        content = b"".join(pieces)
        protocols = [system.protocol] if isinstance(system.protocol, str) else system.protocol
        if not OBJECT_STORES.isdisjoint(protocols):
            system.pipe_file(path, content)
            return
        folder = path.rpartition("/")[0]
        system.makedirs(folder, exist_ok=True)
        unfinished = f"{folder}/.{os.urandom(8).hex()}{UNFINISHED_SUFFIX}"
        system.pipe_file(unfinished, content)
        system.mv(unfinished, path)

    def get(self, name: str) -> bytes:
        """Return a file."""
        system, path = self._place(name)
        content: bytes = system.cat_file(path)
        return content

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        system, path = self._place(name)
        system.invalidate_cache()  # other processes may have written since
        return bool(system.isfile(path))

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        system, path = self._place(name)
        with suppress(FileNotFoundError):
            system.rm_file(path)

    def list(self, folder: str) -> Iterator[str]:
        """Yield the names of files, sorted."""
        system, root = self._system()
        start = f"{root}/{folder}" if folder else root
        system.invalidate_cache()
        for path in sorted(system.find(start)):
            if not path.endswith(UNFINISHED_SUFFIX):
                yield path[len(root) :].lstrip("/")

    def _place(self, name: str) -> tuple[Any, str]:
        system, root = self._system()
        return system, f"{root}/{name}"

    def _system(self) -> tuple[Any, str]:
        if self._opened is None:
            from fsspec.core import url_to_fs

            system, root = url_to_fs(self.url, **self.options)
            self._opened = system, root.rstrip("/")
        return self._opened

    def __repr__(self) -> str:
        return repr(re.sub(r"//[^/@]*@", "//***@", self.url))
