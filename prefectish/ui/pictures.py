"""The states of the items of a map, a byte each, read from the history piece by piece.

A picture of a million items is read in well under a second, and kept. While the run is active only pieces with items
that have not ended, or have failed and were run again, are read anew. The same bytes are what a browser draws, and what
counts are made of.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, case, func, literal_column, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from prefectish.history import schema
from prefectish.history.queries import RunRow
from prefectish.ui.source import Source

_c = schema.children.c
#: Items whose states, and whose durations, are read at once.
PIECE, DURATIONS_PIECE = 32_768, 262_144
#: So many items are read for longer than a page waits.
WIDE = 500_000
#: Bytes of items that have not ended, and that are running; a state is its number plus `OFFSET`.
OPEN, RUNNING, OFFSET = 0, 255, 1
#: Bytes of failures.
FAILED = bytes(sorted(code + OFFSET for code in schema.FAILED_CODES))
#: Steps of the scale of durations, two bytes apart, and how many powers of ten they span.
SHADES, DECADES = 127, 4
#: States, and shades, are read as characters from this one on; durations that an item has not, as `_NONE`.
_FIRST, _NONE = 33, 32
_DECODED = bytes(
    (code - _FIRST + OFFSET) if _FIRST <= code < _FIRST + len(schema.STATES) else OPEN for code in range(256)
)
_SHADES = bytes(2 * max(0, min(code - _FIRST, SHADES)) for code in range(256))


class Picture:
    """The items of a map, or of a single task: how far they are.

    Attributes
    ----------
    states
        A byte for each item, by its row.
    began, ended
        When the first one that ended began, and when the last one ended; None if none did.
    longest
        Seconds of the one that took longest.
    """

    def __init__(self, run: RunRow, step: int) -> None:
        self.states = bytearray()
        self.began: float | None = None
        self.ended: float | None = None
        self.longest = 0.0
        self._run = run
        self._step = step
        self._full: set[int] = set()  # pieces in which all items have ended
        self._lock = threading.Lock()

    def counts(self, running: Sequence[int] = ()) -> dict[str, int]:
        """Return how many items have ended in which state, and how many are "Running"."""
        states = self.with_running(running) if running else self.states
        found = {name: states.count(code + OFFSET) for code, name in enumerate(schema.STATES)}
        return {name: number for name, number in {**found, "Running": states.count(RUNNING)}.items() if number}

    def refresh(self, source: Source, is_whole: bool) -> None:
        """Read what has changed; `is_whole` says that all that counts of a resumed run is in its last part."""
        with self._lock, source.store.reading() as connection:
            if self._run.part and not is_whole:
                self._read_all(connection)
                return
            last = connection.execute(select(_c.row).where(self._own).order_by(_c.row.desc()).limit(1)).scalar()
            width = 0 if last is None else last + 1
            self._widen(width)
            self._read_pieces(connection, [n for n in range(-(-width // PIECE)) if n not in self._full])
            failed = connection.execute(select(func.count()).where(has_failed(self._run, self._step))).scalar_one()
            if failed != sum(map(self.states.count, FAILED)):  # some were run again
                again = [n for n in sorted(self._full) if any(code in self._piece(n) for code in FAILED)]
                self._read_pieces(connection, again)

    @property
    def _own(self) -> ColumnElement[bool]:
        return (_c.run == self._run._number) & (_c.step == self._step) & (_c.part == self._run.part)

    def _widen(self, width: int) -> None:
        self.states.extend(bytes(max(0, width - len(self.states))))

    def _piece(self, number: int) -> memoryview:
        return memoryview(self.states)[number * PIECE : (number + 1) * PIECE]

    def _read_pieces(self, connection: Connection, numbers: list[int]) -> None:
        edges = (func.min(_c.at - _c.seconds), func.max(_c.at), func.max(_c.seconds))
        joined = _in_order(connection, _state(connection), _c.row)
        for number in numbers:
            first, end = number * PIECE, min((number + 1) * PIECE, len(self.states))
            mine = (self._own, _c.row >= first, _c.row < end)
            count, *found, text = connection.execute(select(func.count(), *edges, joined).where(*mine)).one()
            if not count:
                continue
            if count == end - first:  # an item has one record in a part: none is missing
                self.states[first:end] = text.encode("latin-1", "replace").translate(_DECODED)
            else:
                for row, state in connection.execute(select(_c.row, _c.state).where(*mine)):
                    self.states[row] = state + OFFSET
            self._note(*found)
            if count == PIECE:
                self._full.add(number)

    def _note(self, began: float | None, ended: float | None, longest: float | None) -> None:
        if began is not None:
            self.began = began if self.began is None else min(self.began, began)
        if ended is not None:
            self.ended = ended if self.ended is None else max(self.ended, ended)
        self.longest = max(self.longest, longest or 0.0)

    def _read_all(self, connection: Connection) -> None:
        """Read the newest record of each item, of whatever part of a resumed run."""
        c = self._run._current().c
        query = select(c.row, c.state, c.seconds, c.at).where(c.step == self._step).order_by(c.part)
        rows = connection.execute(query).all()
        self._widen(1 + max((row.row for row in rows), default=-1))
        for row in rows:
            self.states[row.row] = row.state + OFFSET
            self._note(None if row.seconds is None else row.at - row.seconds, row.at, row.seconds)

    def with_running(self, rows: Sequence[int]) -> bytes:
        """Return the states, with items marked that are running: of a resumed run, also those that run again."""
        found = bytearray(self.states)
        if rows:
            found.extend(bytes(max(0, max(rows) + 1 - len(found))))
        for row in rows:
            if found[row] == OPEN or self._run.part:
                found[row] = RUNNING
        return bytes(found)

    def durations(self, source: Source) -> bytes:
        """Return the durations of the items, a byte each: 2 to 254 on a logarithmic scale, 0 if it has none."""
        found = bytearray(len(self.states))
        if not self.longest:
            return bytes(found)
        edges = [self.longest * 10 ** (DECADES * (n / SHADES - 1)) for n in range(1, SHADES)]
        with source.store.reading() as connection:
            if self._run.part:
                c = self._run._current().c
                query = select(c.row, _shade(c, edges)).where(c.step == self._step, c.row < len(found))
                for row, code in connection.execute(query):
                    found[row] = _SHADES[ord(code)]
                return bytes(found)
            shade = _shade(_c, edges)
            query = select(func.count(), _in_order(connection, shade, _c.row))
            for first in range(0, len(found), DURATIONS_PIECE):
                end = min(first + DURATIONS_PIECE, len(found))
                mine = (self._own, _c.row >= first, _c.row < end)
                count, text = connection.execute(query.where(*mine)).one()
                if count == end - first:
                    found[first:end] = text.encode("latin-1").translate(_SHADES)
                elif count:
                    for row, code in connection.execute(select(_c.row, shade).where(*mine)):
                        found[row] = _SHADES[ord(code)]
        return bytes(found)


def has_failed(run: RunRow, step: int) -> ColumnElement[bool]:
    """Return the condition for failed items of a task, in the last part of a run, by the index of failures.

    Numbers of causes are positive. A sum is no column, by which the database would go through all items of the task.
    """
    return (_c.run == run._number) & (_c.error > 0) & (_c.step + 0 == step) & (_c.part == run.part)


def _shade(c: Any, edges: list[float]) -> ColumnElement[str]:
    """Return the character of the shade of a duration, `_NONE` for an item that did not run."""
    return case(((c.attempts > 0) & c.seconds.is_not(None), _halved(c.seconds, edges, 1)), else_=_text(chr(_NONE)))


def _halved(seconds: ColumnElement[float], edges: list[float], first: int) -> ColumnElement[str]:
    """Return the character of the first edge that is above, found by halving: without logarithms, which few have."""
    if not edges:
        return _text(chr(_FIRST + first))
    middle = len(edges) // 2
    below, above = _halved(seconds, edges[:middle], first), _halved(seconds, edges[middle + 1 :], first + middle + 1)
    return case((seconds < edges[middle], below), else_=above)


def _text(constant: str) -> ColumnElement[str]:
    """Return a text that is part of the query: SQLite would copy a parameter for each row."""
    return literal_column("'" + constant.replace("'", "''") + "'", Text())


def _state(connection: Connection) -> ColumnElement[str]:
    """Return the character of a state. Most are the same: that one is a constant, which takes half the time."""
    character = func.char if connection.dialect.name == "sqlite" else func.chr
    usual = schema.CODES["Success"]
    return case((_c.state == usual, _text(chr(usual + _FIRST))), else_=character(_c.state + _FIRST))


def _in_order(connection: Connection, character: Any, row: ColumnElement[int]) -> Any:
    """Return the characters of rows in one text, in the order of the rows.

    SQLite goes through a range of the primary key in its order anyway, and takes a third more time if it is told to.
    """
    if connection.dialect.name == "sqlite":
        return func.group_concat(character, _text(""))
    return func.string_agg(character, aggregate_order_by(_text(""), row))


def picture_of(
    source: Source, run: RunRow, step: int, is_whole: bool, patience: float | None, width: int | None = None
) -> Picture | None:
    """Return how far the items of a task are; None if that takes longer to read than the patience of a page.

    Parameters
    ----------
    width
        Of the map, if it is known: a page does not wait for what certainly takes longer.
    """
    is_over = run.ended is not None
    key = ("picture", run.id, run.part, step)
    picture = source.kept(key, lambda: Picture(run, step))

    def read() -> Picture:
        picture.refresh(source, is_whole)
        return picture

    if patience is not None and not picture.states and (width or 0) > WIDE:
        patience = 0.0
    return source.soon((*key, is_over), read, fresh_for=3600.0 if is_over else 0.5, patience=patience)


def running_rows(row: Any) -> list[int]:
    """Return the rows of a task that were running at the last write, of its row in the table of steps."""
    from prefectish.history.rows import rows_of

    return [] if row.open is None else rows_of(row.open)


def added(counts: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Return the sums of counts.

    Examples
    --------
    >>> added({"a": 1}, {"a": 2, "b": 3})
    {'a': 3, 'b': 3}
    """
    return {name: counts.get(name, 0) + more.get(name, 0) for name in {**counts, **more}}
