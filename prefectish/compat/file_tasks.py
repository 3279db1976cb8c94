"""`prefect.tasks.files`: tasks that copy, move, remove and find files."""

from __future__ import annotations

import shutil
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
