"""Names of tasks that are unique in a flow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


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
    return {slug: name if names[name] == 1 else slug for slug, name in known}
