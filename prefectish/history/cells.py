"""Columns of the history whose values are checked when they are read.

A history is a file that others may have written to, or a later version: a value that could not have been written is
refused where it is read, by name, and goes no further.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isnan
from types import NoneType
from typing import Any

from sqlalchemy import Column, ColumnElement, Float, Integer, Table, Text, type_coerce
from sqlalchemy.types import TypeDecorator, TypeEngine

#: The largest row, step or number of attempts that there may be.
MOST = 100_000_000
#: Beginning and end of the times that a datetime can say in UTC, in seconds since the epoch.
_TIMES = (-62_135_596_800.0, 253_402_300_799.0)

_ANY = (1 << 63) - 1
#: Columns of whole numbers that count rows, steps, parts or attempts.
_COUNTED = frozenset({"attempt", "attempts", "made", "part", "row", "since", "space", "step", "width"})


class BadCell(Exception):
    """Raised when a value in the history is none that this version writes."""


class Cell(TypeDecorator[Any]):
    """A column of which each value must be of a class and, if it is a number, in a range.

    Parameters
    ----------
    impl
        The type of the database.
    name
        Name of the column, for errors.
    low, high
        Bounds of numbers, both allowed.
    """

    impl: Any = Text
    cache_ok = True

    def __init__(self, impl: TypeEngine[Any], name: str, low: float = 0, high: float = 0) -> None:
        super().__init__()
        self.impl = impl
        self.name = name
        self.low, self.high = low, high
        is_float, is_integer = isinstance(impl, Float), isinstance(impl, Integer)
        self.kinds = frozenset({int, float} if is_float else {int} if is_integer else {str})
        self.is_number = is_float or is_integer

    def result_processor(self, dialect: Any, coltype: Any) -> Callable[[Any], Any]:
        """Return a function that returns a value if it is one of this column."""
        kinds, low, high, is_number = self.kinds, self.low, self.high, self.is_number

        def checked(value: Any) -> Any:
            if value is None or (type(value) in kinds and (not is_number or low <= value <= high)):
                return value
            raise BadCell(f"{self.name} must be {self._wanted()}, got {_shown(value)}")

        return checked

    def check(self, values: Sequence[Any]) -> None:
        """Raise BadCell for a value that is none of this column; of many integers only the extremes are looked at."""
        if values.count(None) == len(values):  # which most runs have in most columns
            return
        kinds = set(map(type, values))
        has_none = NoneType in kinds
        kinds.discard(NoneType)
        if not kinds or (kinds <= self.kinds and (not self.is_number or self._spans(values, has_none, float in kinds))):
            return
        one = self.result_processor(None, None)
        for value in values:
            one(value)

    def _spans(self, values: Sequence[Any], has_none: bool, has_float: bool) -> bool:
        numbers = [value for value in values if value is not None] if has_none else values
        return self.low <= min(numbers) and max(numbers) <= self.high and not (has_float and isnan(sum(numbers)))

    def _wanted(self) -> str:
        return f"a number from {self.low:.0f} to {self.high:.0f}" if self.is_number else "a text"


def unchecked(columns: Iterable[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    """Return columns whose values are not checked one by one as they are read, for :func:`check_columns`."""
    return [type_coerce(c, c.type.impl if isinstance(c.type, Cell) else c.type).label(c.key) for c in columns]


def check_columns(columns: Iterable[ColumnElement[Any]], values: Iterable[Sequence[Any]]) -> None:
    """Raise BadCell for a value that is none of its column; `values` are those of each column."""
    for column, own in zip(columns, values, strict=True):
        if isinstance(column.type, Cell):
            column.type.check(own)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def check_cells(tables: Iterable[Table], highest: Mapping[str, int]) -> None:
    """Let the columns of tables check what is read; `highest` are the bounds of those that count something else."""
    for table in tables:
        for column in table.columns:
            low, high = _bounds(column, highest)
            column.type = Cell(column.type, column.name, low, high)


def _bounds(column: Column[Any], highest: Mapping[str, int]) -> tuple[float, float]:
    if isinstance(column.type, Float):
        return (0.0, 1e12) if column.name == "seconds" else _TIMES
    if column.name in highest:
        return 0, highest[column.name]
    return (-1, MOST) if column.name in _COUNTED else (-_ANY, _ANY)


def json_of(name: str, text: str, kind: type) -> Any:
    """Return what a text of the column `name` says in JSON, which must be of a class."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadCell(f"{name} must be JSON, got {_shown(text)}") from error
    if type(value) is not kind:
        raise BadCell(f"{name} must be a {kind.__name__} in JSON, got {_shown(text)}")
    return value
