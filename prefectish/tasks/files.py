"""Read and write files by path or URL (``/data/x.csv``, ``s3://bucket/x.csv``) with fsspec."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from prefectish.missing_names import lead_out
from prefectish.tasks.options import TaskOptions
from prefectish.tasks.task import Task


class ReadFile(Task):
    """Read a file and return its content.

    Parameters
    ----------
    path
        A path or URL; its fsspec package must be installed.
    encoding
        Encoding of the text; None: return bytes.
    storage_options
        Options of the fsspec file system, such as endpoints and credentials.
    name, **options
        As for :class:`~prefectish.tasks.task.Task`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        encoding: str | None = "utf-8",
        storage_options: Mapping[str, Any] | None = None,
        name: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        self.path = path
        self.encoding = encoding
        self.storage_options = storage_options
        super().__init__(name, **options)

    def run(
        self, path: str | os.PathLike[str] | None = None, storage_options: Mapping[str, Any] | None = None
    ) -> str | bytes:
        """Read the file; arguments that are not None override those of the constructor."""
        files, place = _file_system(
            _path(self, path), self.storage_options if storage_options is None else storage_options
        )
        content: bytes = files.cat_file(place)
        return content if self.encoding is None else content.decode(self.encoding)


class WriteFile(Task):
    """Write a file, creating missing folders, and return its path or URL.

    An existing file is replaced. If the file system supports transactions, the write is atomic.

    Parameters
    ----------
    path
        A path or URL; its fsspec package must be installed.
    encoding
        Encoding of strings; bytes are written unchanged.
    storage_options
        Options of the fsspec file system, such as endpoints and credentials.
    name, **options
        As for :class:`~prefectish.tasks.task.Task`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        encoding: str = "utf-8",
        storage_options: Mapping[str, Any] | None = None,
        name: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        self.path = path
        self.encoding = encoding
        self.storage_options = storage_options
        super().__init__(name, **options)

    def run(
        self,
        content: str | bytes,
        path: str | os.PathLike[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> str:
        """Write the file; arguments that are not None override those of the constructor."""
        target = _path(self, path)
        files, place = _file_system(target, self.storage_options if storage_options is None else storage_options)
        files.makedirs(files._parent(place), exist_ok=True)
        with files.transaction, files.open(place, "wb") as file:
            file.write(content.encode(self.encoding) if isinstance(content, str) else content)
        return target


def _path(task: ReadFile | WriteFile, path: str | os.PathLike[str] | None) -> str:
    chosen = task.path if path is None else path
    if not chosen:
        raise ValueError(f"{task.name}: no path; pass one to the task or to its call")
    return os.fspath(chosen)


def _file_system(path: str, options: Mapping[str, Any] | None) -> tuple[Any, str]:
    """Return a new file system instance, since a transaction affects all users of an instance, and the path in it."""
    from fsspec.core import url_to_fs

    files, place = url_to_fs(path, **{"skip_instance_cache": True, **(options or {})})
    return files, place


if not TYPE_CHECKING:
    __getattr__ = lead_out(__name__)
