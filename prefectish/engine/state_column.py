"""The states of many children, most of which ended well: of these only the results are kept.

A state object takes 64 bytes, which a million children have a million times although all of them say the same. So a
plain success is a *cell* with what the child returned, and its state is made when it is read. Nothing here knows the
classes of states; :mod:`prefectish.engine.state`, which stands on this file, says what a plain success is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, overload

from prefectish.engine.deferred import Deferred
from prefectish.engine.task_states import Readable

if TYPE_CHECKING:
    from prefectish.engine.state import State


#: Message of a plain success.
SUCCEEDED = "Task run succeeded."


class _Open:
    """What the cell of a child holds that has no state."""

    __slots__ = ()

    def __reduce__(self) -> str:
        return "OPEN"

    def __repr__(self) -> str:
        return "OPEN"


#: Cell of a child that has no state: its state reads as None.
OPEN = _Open()


def _raw(cell: Any) -> Any:
    if issubclass(type(cell), Readable):
        return cell._raw_result
    return None if cell is OPEN else cell


def _result(cell: Any) -> Any:
    if issubclass(type(cell), Readable):
        return cell.result
    if issubclass(type(cell), Deferred):
        return cell.get()
    return None if cell is OPEN else cell


class StateColumn(Sequence["State | None"]):
    """States of children, as a sequence; None for one that has none.

    Attributes
    ----------
    cells
        For each child the result of a plain success, any other state, or `OPEN`. A result that is a state itself is
        kept in the state of its child.
    """

    __slots__ = ("cells",)

    #: Make a state from the result of a plain success, and a cell from a state; set where states are defined.
    success: ClassVar[Callable[[Any], State]]
    cell_of: ClassVar[Callable[[State], Any]]

    def __init__(self, cells: list[Any]) -> None:
        self.cells = cells

    @classmethod
    def of(cls, states: Iterable[State | None]) -> StateColumn:
        """Return a column of states."""
        if type(states) is StateColumn:
            return StateColumn(states.cells[:])
        return cls([OPEN if state is None else cls.cell_of(state) for state in states])

    @overload
    def __getitem__(self, which: int) -> State | None: ...
    @overload
    def __getitem__(self, which: slice) -> list[State | None]: ...
    def __getitem__(self, which: int | slice) -> Any:
        if type(which) is slice:
            return list(StateColumn(self.cells[which]))
        cell = self.cells[which]
        if issubclass(type(cell), Readable):
            return cell
        return None if cell is OPEN else StateColumn.success(cell)

    def __len__(self) -> int:
        return len(self.cells)

    def __iter__(self) -> Iterator[State | None]:
        success = StateColumn.success
        for cell in self.cells:
            if issubclass(type(cell), Readable):
                yield cell
            else:
                yield None if cell is OPEN else success(cell)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StateColumn | list | tuple):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return StateColumn, (self.cells,)

    def __repr__(self) -> str:
        return repr(list(self))

    def has(self, row: int) -> bool:
        """Whether a child has a state."""
        return self.cells[row] is not OPEN

    def raw(self, row: int) -> Any:
        """Return the result of a child as it is kept, a `Deferred` perhaps; None if it has no state."""
        return _raw(self.cells[row])

    def results(self) -> list[Any]:
        """Return the results of the children; deferred ones are fetched."""
        plain = plain_results(self)
        return [_result(cell) for cell in self.cells] if plain is None else plain

    def in_order(self, order: Iterable[int]) -> StateColumn:
        """Return a column of these children."""
        cells = self.cells
        return StateColumn([cells[row] for row in order])

    def kinds(self) -> Counter[type]:
        """Count the classes of the states, see :func:`kinds_of`."""
        kinds: Counter[type] = Counter()
        for kind, count in Counter(map(type, self.cells)).items():  # no Python code for each of a million children
            if kind is _Open:
                kind = NoneType
            elif not issubclass(kind, Readable):
                kind = type(StateColumn.success(None))
            kinds[kind] += count
        return kinds


def kinds_of(states: Iterable[State | None] | None) -> Counter[type]:
    """Count the classes of the states of children; that of None for children that have none."""
    return states.kinds() if type(states) is StateColumn else Counter(map(type, states or ()))


def plain_results(states: Any) -> list[Any] | None:
    """Return the results of children that have all plainly succeeded and whose results are here; else None."""
    if type(states) is not StateColumn:
        return None
    kinds = set(map(type, states.cells))  # no Python code for each of a million children
    if any(kind is _Open or issubclass(kind, Readable) or issubclass(kind, Deferred) for kind in kinds):
        return None
    return states.cells[:]


def deferred_rows(states: Iterable[State | None] | None) -> list[int]:
    """Return the rows of children whose results are elsewhere."""
    if type(states) is StateColumn:
        kinds = set(map(type, states.cells))  # no Python code for each of a million children
        if not any(issubclass(kind, Readable) or issubclass(kind, Deferred) for kind in kinds):
            return []
    return [row for row, result in enumerate(raw_results(states)) if issubclass(type(result), Deferred)]


def raw_results(states: Iterable[State | None] | None) -> Iterator[Any]:
    """Yield the results of children as they are kept, `Deferred` perhaps; None for those that have no state."""
    return map(_raw, states.cells if type(states) is StateColumn else (OPEN if s is None else s for s in states or ()))


def replaced(
    states: Iterable[State | None] | None, replace: Callable[[State], State], but: frozenset[type] = frozenset()
) -> StateColumn:
    """Return a column of what a function makes of each state; plain successes with results of some types stay."""
    column, cells = StateColumn.of(states or ()), []
    for cell in column.cells:
        if cell is OPEN or type(cell) in but:
            cells.append(cell)
        else:
            state = cell if issubclass(type(cell), Readable) else StateColumn.success(cell)
            cells.append(StateColumn.cell_of(replace(state)))
    return StateColumn(cells)
