"""The tree of a reduction: which results each combine reads, and in which order combines come up.

Groups of `fan_in` neighbours in map order are combined, then groups of what came of them, until one is left. The tree
grows with the map; where a combine stands in it does not depend on how long the map becomes, so that values are the
same however the map ran.
"""

from __future__ import annotations

from collections.abc import Sequence


class ReductionTree:
    """The combines of a map whose children come one by one; a combine is known by its row, from 0.

    Attributes
    ----------
    leaves
        Children of the map so far.
    reads
        Of each combine: the children that it reads (a range), or the combines (a tuple of rows).
    names
        Of each combine: its level and its place in it, ``"0.3"``.
    root
        The combine of all, None until the map is complete.

    Examples
    --------
    >>> tree = ReductionTree(2)
    >>> tree.add(5), tree.close()
    (3, 2)
    >>> tree.names
    ['0.0', '0.1', '1.0', '0.2', '2.0']
    >>> tree.reads
    [range(0, 2), range(2, 4), (0, 1), range(4, 5), (2, 3)]
    """

    __slots__ = (
        "_counts", "_first", "_grouped", "_parents", "_waiting", "fan_in", "full", "leaves", "names", "reads", "root",
    )  # fmt: skip

    def __init__(self, fan_in: int) -> None:
        self.fan_in = fan_in
        self.leaves = 0
        self.reads: list[Sequence[int]] = []
        self.names: list[str] = []
        self.root: int | None = None
        self.full: int | None = None  # combines before this one read whole groups; known with the root
        self._grouped = 0  # children that a combine reads
        self._first: list[int] = []  # the combine of each group of children
        self._parents: dict[int, int] = {}
        self._waiting: list[list[int]] = []  # by level: combines that wait for neighbours
        self._counts: list[int] = []  # by level: combines so far

    def add(self, count: int) -> int:
        """Add children of the map; return how many combines came up."""
        before = len(self.reads)
        self.leaves += count
        while self.leaves - self._grouped >= self.fan_in:
            self._combine_leaves(self.fan_in)
        return len(self.reads) - before

    def close(self) -> int:
        """Note that no more children come; return how many combines came up, one for a map without children."""
        before = self.full = len(self.reads)
        rest = self.leaves - self._grouped
        if rest or not self.reads:
            self._combine_leaves(rest)
        level = 0
        while True:
            waiting = self._waiting[level]
            above = any(self._waiting[level + 1 :])
            if len(waiting) == 1 and not above:
                self.root = waiting[0]
                return len(self.reads) - before
            rows = tuple(waiting)
            waiting.clear()
            if rows:  # one without neighbours stands for a combine of itself
                self._put(level + 1, rows[0] if len(rows) == 1 else self._new(level + 1, rows))
            level += 1

    def reader_of_leaf(self, leaf: int) -> int | None:
        """Return the combine that reads a child of the map, None if it is not there yet."""
        group = leaf // self.fan_in
        return self._first[group] if group < len(self._first) else None

    def reader(self, row: int) -> int | None:
        """Return the combine that reads another one; None for the last one, and as long as there is none."""
        return self._parents.get(row)

    def reads_leaves(self, row: int) -> bool:
        """Whether a combine reads children of the map, and no other combines."""
        return type(self.reads[row]) is range

    def _combine_leaves(self, count: int) -> None:
        row = self._new(0, range(self._grouped, self._grouped + count))
        self._grouped += count
        self._first.append(row)
        self._put(0, row)

    def _new(self, level: int, reads: Sequence[int]) -> int:
        row = len(self.reads)
        while level >= len(self._counts):
            self._counts.append(0)
        self.reads.append(reads)
        self.names.append(f"{level}.{self._counts[level]}")
        self._counts[level] += 1
        if level:
            self._parents.update(dict.fromkeys(reads, row))
        return row

    def _put(self, level: int, row: int) -> None:
        """Let a combine wait for its neighbours, and combine them once they are all there."""
        while level >= len(self._waiting):
            self._waiting.append([])
        waiting = self._waiting[level]
        waiting.append(row)
        if len(waiting) == self.fan_in:
            rows = tuple(waiting)
            waiting.clear()
            self._put(level + 1, self._new(level + 1, rows))
