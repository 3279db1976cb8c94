"""The recorded children of a task, column by column: of a million of them no object is made for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from prefectish.engine.plan.item_key import ItemId, item_id_of
from prefectish.history import schema
from prefectish.history.cells import check_columns, unchecked

if TYPE_CHECKING:
    from prefectish.history.queries import RunRow

#: What is read of every child. What else is known of one is read only if it is more than a plain success.
NAMES = ("row", "part", "made", "state", "item_key", "attempts", "seconds", "worker", "message", "location")
#: Rows that are read at once.
PAGE = 1_000
_GOOD = (schema.CODES["Success"], schema.CODES["Cached"])


class ChildColumns:
    """The newest record of each child of a task, including those of removed items.

    Attributes
    ----------
    row, part, made, state, item_key, attempts, seconds, worker, message, location
        Columns of the table of children.
    """

    def __init__(self, run: RunRow, slug: str, is_single: bool) -> None:
        self._run, self._slug = run, slug
        self._is_single = is_single
        names = (*NAMES, "again") if run.part else NAMES
        columns = _columns(run, slug, names)
        self.row, self.part, self.made, self.state, self.item_key = columns[:5]
        self.attempts, self.seconds, self.worker, self.message, self.location = columns[5 : len(NAMES)]
        self._numbers: Sequence[int] | None = None  # among those of one key; None if all are the first of theirs
        self._first: dict[str, int] = dict(zip(self.item_key, range(len(self.row)), strict=True))
        self._others: dict[ItemId, int] = {}
        self.shares_keys = False  # whether several children have one key
        if len(self._first) < len(self.row) or None in self._first:
            self._tell_apart(columns[-1] if run.part else None)
        self._places: dict[tuple[int, int], int] | None = None
        self._full: dict[tuple[int, int], Any] | None = None
        self._workers: dict[int, str] | None = None

    def _tell_apart(self, again: Sequence[int] | None) -> None:
        """Tell apart children of one key, and such without a key."""
        seen: Counter[str] = Counter()
        if again is None:
            found = [item_id_of(key, row, seen) for row, key in zip(self.row, self.item_key, strict=True)]
            self._numbers = [number for _, number in found]
        else:
            numbers = zip(again, self.row, self.item_key, strict=True)
            self._numbers = [row if key is None else number - 1 for number, row, key in numbers]
        self._first = {}
        for at, (key, number) in enumerate(zip(self.item_key, self._numbers, strict=True)):
            if key is None or number:
                self._others[key, number] = at
                self.shares_keys = self.shares_keys or key is not None
            else:
                self._first[key] = at

    def __len__(self) -> int:
        return len(self.row)

    def __iter__(self) -> Iterator[ItemId]:
        if self._numbers is None:
            return ((key, 0) for key in self.item_key)
        return zip(self.item_key, self._numbers, strict=True)

    def find(self, identity: ItemId) -> int | None:
        """Return the position of a child in the columns; None if it has no record."""
        key, number = identity
        return self._others.get(identity) if key is None or number else self._first.get(key)

    def identity_of(self, place: tuple[int, int]) -> ItemId | None:
        """Return which child had a part and row, -1 for a single task; None if none is recorded there."""
        if self._places is None:
            rows = [-1] * len(self.row) if self._is_single else self.row
            self._places = dict(zip(zip(self.part, rows, strict=True), range(len(rows)), strict=True))
        at = self._places.get(place)
        return None if at is None else (self.item_key[at], 0 if self._numbers is None else self._numbers[at])

    def ended_well(self, at: int) -> bool:
        """Whether a child ended as most do, so that the columns say all that is known."""
        return self.state[at] in _GOOD and self.message[at] is None

    def full_row(self, at: int) -> Any:
        """Return the whole record of a child that did not: read for all of them at once."""
        if self._full is None:
            table = self._run._current(gone=True)
            odd = or_(table.c.state.not_in(_GOOD), table.c.message.is_not(None))
            query = self._run._children(table).where(table.c.step == self._run._step(self._slug), odd)
            with self._run._store.reading() as connection:
                self._full = {(row.part, row.row): row for row in connection.execute(query)}
        return self._full[self.part[at], self.row[at]]

    def worker_of(self, at: int) -> str | None:
        """Return the process that ran a child."""
        if self._workers is None:
            known = select(schema.texts.c.number, schema.texts.c.text)
            worker = schema.children.c.worker
            ours = select(worker).where(schema.children.c.run == self._run._number, worker.is_not(None)).distinct()
            with self._run._store.reading() as connection:
                rows = connection.execute(known.where(schema.texts.c.number.in_(ours)))
                self._workers = {row.number: row.text for row in rows}
        return self._workers.get(self.worker[at])


def _columns(run: RunRow, slug: str, names: Sequence[str]) -> list[list[Any]]:
    """Read columns of the children of a task, in the order of their rows; HistoryCorrupt if a value is none of ours."""
    c = run._current(gone=True).c
    query = select(*unchecked(c[name] for name in names)).where(c.step == run._step(slug)).order_by(c.row)
    columns: list[list[Any]] = [[] for _ in names]
    with run._store.reading() as connection:
        for rows in connection.execution_options(yield_per=PAGE).execute(query).partitions():
            for column, values in zip(columns, zip(*rows, strict=True), strict=True):
                column.extend(values)
        check_columns([c[name] for name in names], columns)
    return columns
