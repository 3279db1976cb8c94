"""Names of tasks that are unique in a flow."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any


class SlugBook:
    """Generates slugs ``name-tags...-n``, where n counts from 1 for each prefix and skips slugs in use."""

    __slots__ = ("_counts", "_taken")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._taken: set[str] = set()

    def take(self, slug: str) -> bool:
        """Reserve a user-defined slug; return False if it is in use."""
        if slug in self._taken:
            return False
        self._taken.add(slug)
        return True

    def make(self, name: str, tags: Iterable[str]) -> str:
        """Generate a slug.

        Examples
        --------
        >>> book = SlugBook()
        >>> book.make("load", {"io", "big"}), book.make("load", {"io", "big"})
        ('load-big-io-1', 'load-big-io-2')
        """
        prefix = "-".join([name, *sorted(tags)])
        n = self._counts.get(prefix, 0) + 1
        while not self.take(f"{prefix}-{n}"):
            n += 1
        self._counts[prefix] = n
        return f"{prefix}-{n}"

    def free(self, slug: str) -> None:
        """Release a slug."""
        self._taken.discard(slug)

    def copy(self) -> SlugBook:
        """Return an independent copy."""
        new = SlugBook()
        new._counts, new._taken = dict(self._counts), set(self._taken)
        return new


def labels(tasks: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what each task of a run is called, by slug: its name, or its slug if several have its name.

    Examples
    --------
    >>> labels([("load-1", "load"), ("add-1", "add"), ("add-2", "add")])
    {'load-1': 'load', 'add-1': 'add-1', 'add-2': 'add-2'}
    """
    known = list(tasks)
    names = Counter(name for _, name in known)
    return {slug: label(slug, name, names[name]) for slug, name in known}


def label(slug: str, name: str, number: int) -> str:
    """Return what a task is called, of which there are a number by its name."""
    return name if number <= 1 else slug


class Labels:
    """What the tasks of a run are called that may still get more of them, by the same rule.

    Parameters
    ----------
    tasks
        Objects with a `slug` and a `name`; looked at as the list grows.
    """

    __slots__ = ("_lock", "_names", "_seen", "_tasks")

    def __init__(self, tasks: Sequence[Any]) -> None:
        self._tasks = tasks
        self._names: Counter[str] = Counter()
        self._seen = 0
        self._lock = threading.Lock()

    def of(self, slug: str, name: str) -> str:
        """Return what a task is called now.

        Examples
        --------
        >>> from types import SimpleNamespace as Known
        >>> tasks = [Known(slug="add-1", name="add")]
        >>> called = Labels(tasks)
        >>> first = called.of("add-1", "add")
        >>> tasks.append(Known(slug="add-2", name="add"))
        >>> first, called.of("add-1", "add")
        ('add', 'add-1')
        """
        with self._lock:
            new = self._tasks[self._seen :]
            self._names.update(task.name for task in new)
            self._seen += len(new)
            return label(slug, name, self._names[name])
