"""The tree of a reduction: which results each combine reads, and in which order combines come up.

Groups of `fan_in` neighbours in map order are combined, then groups of what came of them, until one is left. The tree
grows with the map; where a combine stands in it does not depend on how long the map becomes, so that values are the
same however the map ran.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence


class ReductionTree:
    """The combines of a map whose children come one by one; a combine is known by its row, from 0.

    A map of ten million children has more than half a million combines, so of one that reads children there are a few
    numbers here, and no object.

    Attributes
    ----------
    leaves
        Children of the map so far.
    root
        The combine of all, None until the map is complete.

    Examples
    --------
    >>> tree = ReductionTree(2)
    >>> tree.add(5), tree.close()
    (3, 2)
    >>> [tree.name(row) for row in range(len(tree))]
    ['0.0', '0.1', '1.0', '0.2', '2.0']
    >>> [tree.reads(row) for row in range(len(tree))]
    [range(0, 2), range(2, 4), (0, 1), range(4, 5), (2, 3)]
    """

    __slots__ = (
        "_above", "_counts", "_first", "_grouped", "_levels", "_parents", "_places", "_waiting", "fan_in", "full",
        "leaves", "root",
    )  # fmt: skip

    def __init__(self, fan_in: int) -> None:
        self.fan_in = fan_in
        self.leaves = 0
        self.root: int | None = None
        self.full: int | None = None  # combines before this one read whole groups; known with the root
        self._grouped = 0  # children that a combine reads
        self._first = array("q")  # the combine of each group of children
        self._levels = bytearray()  # by combine: its level, its place in it, and the combine that reads it, or -1
        self._places = array("q")
        self._parents = array("q")
        self._above: dict[int, tuple[int, ...]] = {}  # the combines that a combine reads
        self._waiting: list[list[int]] = []  # by level: combines that wait for neighbours
        self._counts: list[int] = []  # by level: combines so far

    def __len__(self) -> int:
        return len(self._levels)

    def add(self, count: int) -> int:
        """Add children of the map; return how many combines came up."""
        before = len(self)
        self.leaves += count
        while self.leaves - self._grouped >= self.fan_in:
            self._combine_leaves(self.fan_in)
        return len(self) - before

    def close(self) -> int:
        """Note that no more children come; return how many combines came up, one for a map without children."""
        before = self.full = len(self)
        rest = self.leaves - self._grouped
        if rest or not self._levels:
            self._combine_leaves(rest)
        level = 0
        while True:
            waiting = self._waiting[level]
            above = any(self._waiting[level + 1 :])
            if len(waiting) == 1 and not above:
                self.root = waiting[0]
                return len(self) - before
            rows = tuple(waiting)
            waiting.clear()
            if rows:  # one without neighbours stands for a combine of itself
                self._put(level + 1, rows[0] if len(rows) == 1 else self._new(level + 1, rows))
            level += 1

    def reads(self, row: int) -> Sequence[int]:
        """Return the children that a combine reads, a range, or the combines, a tuple of rows."""
        if self._levels[row]:
            return self._above[row]
        first = self._places[row] * self.fan_in
        end = first + self.fan_in
        return range(first, end if end <= self.leaves else self.leaves)  # asked for each child: `min` takes longer

    def name(self, row: int) -> str:
        """Return the name of a combine, its level and its place in it: ``"0.3"``."""
        return f"{self._levels[row]}.{self._places[row]}"

    def reader_of_leaf(self, leaf: int) -> int | None:
        """Return the combine that reads a child of the map, None if it is not there yet."""
        group = leaf // self.fan_in
        return self._first[group] if group < len(self._first) else None

    def reader(self, row: int) -> int | None:
        """Return the combine that reads another one; None for the last one, and as long as there is none."""
        parent = self._parents[row]
        return None if parent < 0 else parent

    def reads_leaves(self, row: int) -> bool:
        """Whether a combine reads children of the map, and no other combines."""
        return not self._levels[row]

    def _combine_leaves(self, count: int) -> None:
        row = self._new(0)
        self._grouped += count
        self._first.append(row)
        self._put(0, row)

    def _new(self, level: int, reads: tuple[int, ...] = ()) -> int:
        row = len(self)
        while level >= len(self._counts):
            self._counts.append(0)
        self._levels.append(level)
        self._places.append(self._counts[level])
        self._parents.append(-1)
        self._counts[level] += 1
        if level:
            self._above[row] = reads
            for read in reads:
                self._parents[read] = row
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
