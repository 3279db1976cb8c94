"""A folder as a result store: writes are atomic, files are private, and nothing outside the folder is touched."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from prefectish.results.names import UNFINISHED_SUFFIX

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class Folder:
    """A folder of the file system."""

    __slots__ = ("root",)

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)  # path of the folder; created by the first write

    @property
    def place(self) -> tuple[Any, ...]:
        """Where the folder is: equal for two stores of the same files."""
        return (os.path.realpath(self.root),)

    def put(self, name: str, pieces: Sequence[bytes]) -> None:
        """Write a file under a temporary name and rename it, so that readers never see a partial file."""
        path = self._path(name)
        folder = os.path.dirname(path)
        _make(folder)
        self._path(name)  # a link may have been created in the meantime
        unfinished = os.path.join(folder, f".{os.urandom(8).hex()}{UNFINISHED_SUFFIX}")
        try:
            _write(unfinished, pieces)
            os.replace(unfinished, path)
        except BaseException:
            _remove(unfinished)
            raise
        _sync_folder(folder)

    def get(self, name: str) -> bytes:
        """Return a file."""
        with open(self._path(name), "rb") as file:
            return file.read()

    def exists(self, name: str) -> bool:
        """Whether a file of that name exists."""
        return os.path.isfile(self._path(name))

    def delete(self, name: str) -> None:
        """Delete a file if it exists; of a link only the link is deleted."""
        _remove(self._path(name, own=False))

    def list(self, folder: str) -> Iterator[str]:
        """Yield the names of files, sorted; links to folders are not followed."""
        start = self._path(folder) if folder else self.root
        for place, folders, files in os.walk(start):
            folders.sort()
            inside = os.path.relpath(place, self.root).replace(os.sep, "/")
            before = "" if inside == "." else f"{inside}/"
            yield from (f"{before}{file}" for file in sorted(files) if not file.endswith(UNFINISHED_SUFFIX))

    def _path(self, name: str, own: bool = True) -> str:
        """Return the path of a safe name; ValueError if a link (its last part too, if `own`) leads out."""
        path = os.path.join(self.root, *name.split("/"))
        seen = os.path.realpath(path if own else os.path.dirname(path))
        root = os.path.realpath(self.root)
        if seen != root and not seen.startswith(os.path.join(root, "")):
            raise ValueError(f"unsafe name {name!r}: a link leads out of {self.root}")
        return path

    def __repr__(self) -> str:
        return repr(self.root)


def _make(folder: str) -> None:
    """Create a folder and its missing parents, with access for the user only."""
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for path in reversed(missing):
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:  # another process was faster
            if not os.path.isdir(path):
                raise


def _write(path: str, pieces: Sequence[bytes]) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o600), "wb") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: str) -> None:
    """Make the new name survive a power failure; not available on Windows."""
    if os.name != "nt":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
