"""`product`: the cartesian product of lists, without building the list of combinations.

Each list becomes a :class:`Column`: the list itself, indexed by arithmetic as if its items were repeated as
the product needs them. A run keeps and transfers the lists, never the product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, overload

from prefectish.control_flow.blocks import active_flow, function_run
from prefectish.edges import unwrap
from prefectish.engine import signals
from prefectish.kinds import is_a
from prefectish.tasks.collections import Constant, holds_tasks
from prefectish.tasks.mapping import UNMAPPABLE_RESULT, Unmappable, is_iterator, item_at, width_of
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from prefectish.tasks.recording import RecordingFlow


class Column(Sequence[Any]):
    """One column of a cartesian product in row-major order, computed item by item.

    Parameters
    ----------
    values
        Indexed from 0; not copied.
    repeat
        How often each value is repeated in sequence: the product of the lengths of the lists after this one.
    rounds
        How often the whole sequence is repeated: the product of the lengths of the lists before this one.

    Examples
    --------
    >>> list(Column(["a", "b"], repeat=3, rounds=1)), list(Column(range(3), repeat=1, rounds=2))
    (['a', 'a', 'a', 'b', 'b', 'b'], [0, 1, 2, 0, 1, 2])
    """

    __slots__ = ("repeat", "rounds", "values")

    def __init__(self, values: Any, repeat: int, rounds: int) -> None:
        self.values = values
        self.repeat = repeat
        self.rounds = rounds

    def __len__(self) -> int:
        return len(self.values) * self.repeat * self.rounds

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        rows = range(len(self))[index]
        if isinstance(rows, range):
            return [self._at(row) for row in rows]
        return self._at(rows)

    def _at(self, row: int) -> Any:
        return item_at(self.values, row // self.repeat % len(self.values))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Column):
            return NotImplemented
        return (self.repeat, self.rounds) == (other.repeat, other.rounds) and bool(self.values == other.values)

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def __reduce__(self) -> tuple[Any, ...]:
        return Column, (self.values, self.repeat, self.rounds)

    def __repr__(self) -> str:
        return f"<Column of {len(self)}: {type(self.values).__name__} of {len(self.values)}>"


class Length(Task):
    """Task that returns the length of a list, for the other columns."""

    auto_generated = True

    def run(self, values: Any) -> int:
        """Return the number of items; FAIL is raised if it cannot be mapped over."""
        return _length_of_result(values, self.name)


class MakeColumn(Task):
    """Task that makes the column of one list."""

    auto_generated = True

    def __init__(self, position: int) -> None:
        self.position = position  # the position of the list in the product, from 0
        super().__init__(f"product[{position}]")

    def run(self, values: Any, **lengths: int) -> Column:
        """Return the column; the lengths of the others come as `length_0`, `length_1`, ..."""
        _length_of_result(values, self.name)
        by_place = {int(name.rpartition("_")[2]): length for name, length in lengths.items()}
        return column(values, by_place, self.position)


def column(values: Any, lengths: dict[int, int], position: int) -> Column:
    """Return the column of the list at a position, given the lengths of the others by position."""
    repeat = math.prod(n for place, n in lengths.items() if place > position)
    rounds = math.prod(n for place, n in lengths.items() if place < position)
    return Column(values, repeat, rounds)


def checked_length(values: Any, where: str) -> int:
    """Return the length of what can be mapped over repeatedly; a TypeError names its type and the alternative."""
    if is_iterator(values):
        raise TypeError(f"{where}: got {type(values).__name__}, which can be read only once; pass list(...) of it")
    try:
        return width_of(values)
    except Unmappable as error:
        refused = f"{where} cannot be mapped over: got {error.kind}; pass {error.way_out}"
        raise TypeError(refused) from error.__cause__


def _length_of_result(values: Any, name: str) -> int:
    """Return the length of a result; a task of the product ends as the parent of a map over it would."""
    try:
        return checked_length(values, name)
    except TypeError as error:
        raise signals.FAIL(f"{UNMAPPABLE_RESULT} {error}") from error


def product(*inputs: Any, flow: RecordingFlow | None = None) -> tuple[Task, ...]:
    """Return tasks to map over together: the cartesian product of the inputs, in which the last one varies fastest.

    In a flow function, lists and futures.

    Parameters
    ----------
    *inputs
        Tasks that return lists, their futures, or lists; `flatten(...)` of them, too.
    flow
        Default: the flow whose `with` block is open.

    Returns
    -------
    tuple
        One task, list or future for each input, in their order.

    Raises
    ------
    TypeError
        If there is no input; if one cannot be mapped over, or is `mapped` or `unmapped`.
    FlowDefinitionError
        If there is no flow.

    Examples
    --------
    >>> from prefectish import Flow, product, task
    >>> add = task(lambda x, y: x + y, name="add")
    >>> with Flow("grid") as flow:
    ...     x, y = product([10, 20], [1, 2, 3])
    ...     sums = add.map(x, y)
    >>> flow.run().result[sums].result
    [11, 12, 13, 21, 22, 23]
    """
    if not inputs:
        raise TypeError("product: no inputs to combine; pass lists, or tasks that return lists")
    if flow is None and (run := function_run()) is not None:
        columns: tuple[Any, ...] = run.product(inputs)
        return columns
    flow = active_flow(flow, "product")
    for position, value in enumerate(inputs):
        check_input(value, f"product: input {position}")
    lengths = {place: _length_of(value, flow) for place, value in enumerate(inputs)} if len(inputs) > 1 else {}
    return tuple(_column_task(value, position, lengths, flow) for position, value in enumerate(inputs))


def check_input(value: Any, where: str, later: Callable[[Any], bool] | None = None) -> None:
    """Refuse what cannot be combined: TypeError. What comes `later` cannot be looked at yet; tasks never can."""
    bare, maps, _, _ = unwrap(value)
    if maps is not None:
        word = "mapped" if maps else "unmapped"
        raise TypeError(f"{where} is {word}(...); all inputs are combined with one another, so pass it as it is")
    if not (is_a(bare, Task) or (later is not None and later(value))):
        checked_length(bare, where)


def _length_of(value: Any, flow: RecordingFlow) -> Any:
    """Return the length of a list, or a task that computes it."""
    bare, _, flattened, _ = unwrap(value)
    return Length().bind(value, flow=flow) if flattened or is_a(bare, Task) else len(bare)


def _column_task(value: Any, position: int, lengths: dict[int, Any], flow: RecordingFlow) -> Task:
    bare, _, flattened, _ = unwrap(value)
    others = {place: length for place, length in lengths.items() if place != position}
    if flattened or holds_tasks([bare, *others.values()]):
        named = {f"length_{place}": length for place, length in others.items()}
        return MakeColumn(position).bind(value, **named, flow=flow)
    return flow.add_task(Constant(column(bare, others, position), f"product[{position}]"))
