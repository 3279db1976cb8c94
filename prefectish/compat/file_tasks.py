"""`prefect.tasks.files`: tasks that copy, move, remove and find files."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

from prefectish.compat.task_helpers import defaults_from_attrs
from prefectish.compat.tasks import Task


class _Transfer(Task):
    """Base class of tasks from a path to another.

    Parameters
    ----------
    source_path, target_path
        The paths.
    create_parents
        Whether folders above the target that are missing are made.
    **kwargs
        As for a task.
    """

    def __init__(
        self, source_path: Any = "", target_path: Any = "", create_parents: bool = False, **kwargs: Any
    ) -> None:
        self.source_path = source_path
        self.target_path = target_path
        self.create_parents = create_parents
        super().__init__(**kwargs)

    def _paths(self, source_path: Any, target_path: Any, create_parents: bool) -> tuple[Path, Path]:
        for name, path in (("source_path", source_path), ("target_path", target_path)):
            if not path:
                raise ValueError(f"No `{name}` provided.")
        source, target = Path(source_path), Path(target_path)
        if create_parents:
            target.parent.mkdir(parents=True, exist_ok=True)
        return source, target


class Move(_Transfer):
    """Moves a file or a folder."""

    @defaults_from_attrs("source_path", "target_path", "create_parents")
    def run(self, source_path: Any = None, target_path: Any = None, create_parents: bool | None = None) -> Path:
        """Move it, and return the path where it is."""
        source, target = self._paths(source_path, target_path, bool(create_parents))
        return Path(shutil.move(str(source), str(target)))


class Copy(_Transfer):
    """Copies a file or a folder."""

    @defaults_from_attrs("source_path", "target_path", "create_parents")
    def run(self, source_path: Any = None, target_path: Any = None, create_parents: bool | None = None) -> Path:
        """Copy it, and return the path of the copy."""
        source, target = self._paths(source_path, target_path, bool(create_parents))
        copied = shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        return Path(copied)


class Remove(Task):
    """Removes a file or an empty folder.

    Parameters
    ----------
    path
        The path.
    remove_path
        Whether a folder may be removed with what is in it.
    **kwargs
        As for a task.
    """

    def __init__(self, path: Any = "", remove_path: bool = False, **kwargs: Any) -> None:
        self.path = path
        self.remove_path = remove_path
        super().__init__(**kwargs)

    @defaults_from_attrs("path", "remove_path")
    def run(self, path: Any = None, remove_path: bool | None = None) -> None:
        """Remove it."""
        if not path:
            raise ValueError("No `path` provided.")
        found = Path(path)
        if not found.is_dir():
            found.unlink()
        elif remove_path:
            shutil.rmtree(found)
        else:
            found.rmdir()


class Glob(Task):
    """Finds files by a pattern.

    Parameters
    ----------
    path
        The folder.
    pattern
        The pattern.
    **kwargs
        As for a task.
    """

    def __init__(self, path: Any = "", pattern: str = "", **kwargs: Any) -> None:
        self.path = path
        self.pattern = pattern
        super().__init__(**kwargs)

    @defaults_from_attrs("path", "pattern")
    def run(self, path: Any = None, pattern: str | None = None) -> list[Path]:
        """Return the paths that match."""
        if not path:
            raise ValueError("No `path` provided.")
        if not pattern:
            raise ValueError("No `pattern` provided.")
        return list(Path(path).glob(pattern))


class Zip(Task):
    """Puts files and folders into an archive.

    Parameters
    ----------
    source_path
        The path of a file or a folder, or a list of paths.
    zip_path
        The archive.
    compression_method
        "deflate", "store", "bzip2" or "lzma".
    compression_level
        As for :class:`zipfile.ZipFile`.
    **kwargs
        As for a task.
    """

    def __init__(
        self,
        source_path: Any = "",
        zip_path: Any = "",
        compression_method: str = "deflate",
        compression_level: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.source_path = source_path
        self.zip_path = zip_path
        self.compression_method = compression_method
        self.compression_level = compression_level
        super().__init__(**kwargs)

    @defaults_from_attrs("source_path", "zip_path", "compression_method", "compression_level")
    def run(
        self,
        source_path: Any = None,
        zip_path: Any = None,
        compression_method: str | None = None,
        compression_level: int | None = None,
    ) -> Path:
        """Make the archive, and return its path."""
        for name, path in (("source_path", source_path), ("zip_path", zip_path)):
            if not path:
                raise ValueError(f"No `{name}` provided.")
        if compression_method not in _METHODS:
            raise ValueError(f"compression_method must be one of {', '.join(_METHODS)}, got {compression_method!r}")
        sources = source_path if isinstance(source_path, list | tuple) else [source_path]
        method = _METHODS[compression_method]
        with zipfile.ZipFile(zip_path, "w", compression=method, compresslevel=compression_level) as archive:
            for source in map(Path, sources):
                for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
                    archive.write(path, path.relative_to(source.parent))
        return Path(zip_path)


_METHODS = {
    "deflate": zipfile.ZIP_DEFLATED, "store": zipfile.ZIP_STORED, "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}  # fmt: skip


class Unzip(Task):
    """Takes files out of an archive.

    Parameters
    ----------
    zip_path
        The archive.
    extract_path
        The folder; default: the one in which the process is.
    zip_password
        The password of the archive.
    remove_after_unzip
        Whether the archive is removed then.
    **kwargs
        As for a task.
    """

    def __init__(
        self,
        zip_path: Any = "",
        extract_path: Any = "",
        zip_password: str | bytes | None = None,
        remove_after_unzip: bool = False,
        **kwargs: Any,
    ) -> None:
        self.zip_path = zip_path
        self.extract_path = extract_path
        self.zip_password = zip_password
        self.remove_after_unzip = remove_after_unzip
        super().__init__(**kwargs)

    @defaults_from_attrs("zip_path", "extract_path", "zip_password", "remove_after_unzip")
    def run(
        self,
        zip_path: Any = None,
        extract_path: Any = None,
        zip_password: str | bytes | None = None,
        remove_after_unzip: bool | None = None,
    ) -> Path:
        """Take the files out, and return the path of the folder."""
        if not zip_path:
            raise ValueError("No `zip_path` provided.")
        folder = Path(extract_path or ".")
        password = zip_password.encode() if isinstance(zip_password, str) else zip_password
        with zipfile.ZipFile(zip_path) as archive:
            archive.extractall(folder, pwd=password)
        if remove_after_unzip:
            Path(zip_path).unlink()
        return folder
