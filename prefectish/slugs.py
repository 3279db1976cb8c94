"""Names of tasks that are unique in a flow."""

from __future__ import annotations

from collections.abc import Iterable


class SlugBook:
    """Hands out ``name-tags...-n``, n counting from 1 for each prefix, past every slug that is taken."""

    __slots__ = ("_counts", "_taken")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._taken: set[str] = set()

    def take(self, slug: str) -> bool:
        """Reserve a slug that the user chose; False if it is taken."""
        if slug in self._taken:
            return False
        self._taken.add(slug)
        return True

    def make(self, name: str, tags: Iterable[str]) -> str:
        """Make up a slug.

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
        """Give a slug back."""
        self._taken.discard(slug)

    def copy(self) -> SlugBook:
        """Return a book that goes on from here by itself."""
        new = SlugBook()
        new._counts, new._taken = dict(self._counts), set(self._taken)
        return new
