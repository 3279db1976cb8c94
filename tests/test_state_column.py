"""States of many children, of which a plain success is kept as its result."""

from __future__ import annotations

import pickle
import sys
from types import NoneType

import pytest

from prefectish.engine.context import context
from prefectish.engine.deferred import Deferred
from prefectish.engine.state import Cached, Cancelled, Failed, Mapped, Skipped, State, Success
from prefectish.engine.state_column import (
    OPEN,
    SUCCEEDED,
    StateColumn,
    deferred_rows,
    kinds_of,
    plain_results,
    raw_results,
    replaced,
)

PLAIN = Success(SUCCEEDED, 5)
FAILED = Failed("odd", ValueError("odd"))
#: States that say more than a plain success does.
OTHERS = [
    FAILED,
    Success("another message", 1),
    Success(None, 1),
    Success(SUCCEEDED, 1, context={"tags": ["a"]}),
    Success(SUCCEEDED, 1, cached_inputs={"x": 1}),
    Success(SUCCEEDED, PLAIN),
    Success(SUCCEEDED, KeyError("returned, not raised")),
    Cached(SUCCEEDED, 1),
    Skipped("not today"),
    Cancelled("stopped"),
    Mapped(SUCCEEDED, map_states=[PLAIN]),
    type("Own", (Success,), {})(SUCCEEDED, 1),
]


class Late(Deferred):
    __slots__ = ("reads",)

    def __init__(self) -> None:
        self.reads = 0

    def get(self) -> int:
        self.reads += 1
        return 7


class Unequal:
    def __eq__(self, other: object) -> bool:
        raise TypeError("no plain answer")

    __hash__ = None  # type: ignore[assignment]


def test_plain_success_is_kept_as_its_result() -> None:
    column = StateColumn.of([PLAIN, None, Success("Task run " + "succeeded.", None)])
    assert column.cells == [5, OPEN, None]
    assert (type(column[0]), column[0].message, column[0].result) == (Success, SUCCEEDED, 5)  # type: ignore[union-attr]
    assert list(column) == [PLAIN, None, Success()]
    assert [column.has(row) for row in range(3)] == [True, False, True]


@pytest.mark.parametrize("state", OTHERS, ids=repr)
def test_what_says_more_is_kept_as_it_is(state: State) -> None:
    column = StateColumn.of([state])
    assert column.cells[0] is state
    assert column[0] is state
    assert next(iter(column)) is state


def test_message_that_is_no_text_is_not_compared() -> None:
    state = Success(Unequal(), 1)
    assert StateColumn.of([state])[0] is state


def test_state_that_is_read_within_a_task_has_no_tags_of_it() -> None:
    with context(task_tags=["own"]):
        assert Success().context == {"tags": ["own"]}
        assert StateColumn([5])[0].context == {}  # type: ignore[union-attr]


def test_two_readings_of_a_state_are_equal_and_share_their_result() -> None:
    result: list[int] = []
    column = StateColumn([result])
    assert column[0] == column[0]
    column[0].result.append(1)  # type: ignore[union-attr]
    assert column[0].result is result  # type: ignore[union-attr]


def test_it_is_read_as_a_list_of_states() -> None:
    states = [PLAIN, FAILED, None]
    column = StateColumn.of(states)
    assert len(column) == 3
    assert column[-1] is None
    assert column[:2] == states[:2]
    assert column == states
    assert states == column
    assert column == StateColumn.of(states)
    assert column != states[:2]
    assert column != [PLAIN, PLAIN, None]
    assert column != "other"
    assert FAILED in column
    assert repr(column) == repr(states)
    assert column.in_order([1, 0]) == [FAILED, PLAIN]
    with pytest.raises(IndexError):
        column[3]


def test_copy_does_not_change_with_it() -> None:
    column = StateColumn([1, OPEN])
    copies = StateColumn.of(column), column.in_order(range(len(column)))
    column.cells[1] = 2
    assert [copy[1] for copy in copies] == [None, None]


def test_classes_are_counted_without_making_states() -> None:
    column = StateColumn([1, "a", None, PLAIN, FAILED, OPEN])
    assert column.kinds() == {Success: 4, Failed: 1, NoneType: 1}
    assert kinds_of(list(column)) == column.kinds()
    assert kinds_of(None) == {}


def test_deferred_results_are_fetched_only_as_results() -> None:
    late = Late()
    column = StateColumn.of([Success(SUCCEEDED, late), FAILED, None])
    assert list(raw_results(column)) == list(raw_results(list(column))) == [late, FAILED.result, None]
    assert deferred_rows(column) == deferred_rows(list(column)) == [0]
    assert deferred_rows(StateColumn.of([PLAIN, Success("another message", late), None])) == [1]
    assert deferred_rows(StateColumn.of([PLAIN, None])) == deferred_rows(None) == []
    assert column.raw(0) is late
    assert late.reads == 0
    mapped = Mapped("Mapped tasks ended.", map_states=column, n_map_states=4)
    assert mapped.result == [7, FAILED.result, None, None]
    assert late.reads == 1
    assert mapped == Mapped("", map_states=list(column), n_map_states=4)


def test_states_are_replaced_but_for_those_with_results_of_some_types() -> None:
    seen: list[State] = []

    def replace(state: State) -> State:
        seen.append(state)
        return state.replace(result="new")

    found = replaced([PLAIN, None, FAILED, Success(SUCCEEDED, "a")], replace, frozenset({int}))
    assert seen == [FAILED, Success(SUCCEEDED, "a")]
    assert found.cells == [5, OPEN, Failed("odd", "new"), "new"]


def test_it_crosses_to_another_process_whole() -> None:
    states = [PLAIN, None, *OTHERS[:5]]
    again = pickle.loads(pickle.dumps(Mapped(map_states=StateColumn.of(states)))).map_states
    assert again.cells[:2] == [5, OPEN]
    assert again.cells[1] is OPEN
    assert [type(state) for state in again] == [type(state) for state in states]
    assert again[2].result.args == ("odd",)


def test_wide_map_takes_the_bytes_of_a_pointer_for_each_child() -> None:
    column = StateColumn.of(PLAIN for _ in range(1_000))
    assert sys.getsizeof(column.cells) < 10 * 1_000


@pytest.mark.parametrize("other", [*OTHERS, None], ids=repr)
def test_plain_results_are_those_of_plain_successes_alone(other):
    assert plain_results(StateColumn.of([PLAIN, PLAIN])) == [5, 5]
    assert plain_results(StateColumn.of([PLAIN, other, PLAIN])) is None
    assert plain_results([PLAIN]) is None
    assert plain_results(StateColumn.of([])) == []


def test_results_that_are_elsewhere_are_not_plain():
    class Later(Deferred):
        def get(self):
            return 1

    assert plain_results(StateColumn([5, Later()])) is None
