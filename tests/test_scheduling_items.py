"""Readers of the items of a map, by values."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from prefectish.engine.jobs.job import Pick
from prefectish.engine.scheduling.items import (
    FlattenedChildren,
    FlattenedList,
    IndexedItems,
    ListItems,
    PulledItems,
    ReferencedItems,
    as_success_if_ambiguous,
    items_of,
)
from prefectish.engine.state import Failed, Success


def source(value, literal=None):
    return SimpleNamespace(state=Success(None, value), step=SimpleNamespace(literal=literal))


@pytest.mark.parametrize("values", [[1, 2], (1, 2), range(1, 3)])
def test_items_of_a_list_that_is_here_are_its_values(values):
    read = items_of(source(values), 2)
    assert [read(0), read(1)] == [1, 2]


def test_list_that_became_shorter_fails_the_children_without_an_item():
    read = items_of(source([1]), 2)
    assert read(0) == 1
    assert type(read(1)) is Failed
    assert "became shorter" in read(1).message


def test_item_that_looks_like_a_state_is_wrapped():
    state = Failed("a value of the user")
    read = items_of(source([state]), 1)
    assert read(0) == Success(None, state)
    assert as_success_if_ambiguous(7) == 7


def test_list_that_is_gone_has_none_for_every_row():
    assert items_of(source(None), 3)(2) is None


class Table:
    def __len__(self):
        return 3

    def __getitem__(self, row):
        if row > 1:
            raise LookupError("no such row")
        return row * 10


def test_other_containers_are_read_where_the_child_runs():
    read = items_of(source(Table()), 2)
    assert isinstance(read, ReferencedItems)
    pick = read(1)
    assert isinstance(pick, Pick)
    assert pick.read() == 10


def test_container_given_by_the_caller_is_read_here_item_by_item():
    read = items_of(source(Table(), literal=Success()), 2)
    assert isinstance(read, IndexedItems)
    assert read(1) == 10
    assert isinstance(read(2), Failed), "an item that cannot be read fails its own child"
    assert "no such row" in read(2).message


def test_elements_of_a_flattened_list_are_found_by_their_path():
    paths = SimpleNamespace(paths=[(0,), (1, 0), (1, 1)])
    read = FlattenedList(Success(None, [5, [6, 7]]), paths)
    assert [read(0), read(1), read(2)] == [5, 6, 7]
    elsewhere = FlattenedList(Success(None, Table()), paths)(1)
    assert elsewhere.path == (1, 0)


def test_elements_of_flattened_children_are_found_by_their_path():
    children = SimpleNamespace(children=[Success(None, [1, 2]), Failed("no")])
    read = FlattenedChildren(children, SimpleNamespace(paths=[(0, 1), (1,)]))
    assert read(0) == 2
    assert read(1) is children.children[1]


def test_pulled_items_are_kept_only_if_several_inputs_read_them():
    alone, shared = SimpleNamespace(items={0: "a"}), SimpleNamespace(items={0: "a"})
    assert PulledItems(alone, True)(0) == "a"
    assert alone.items == {}
    assert [PulledItems(shared, False)(0), PulledItems(shared, False)(0)] == ["a", "a"]


def test_list_items_are_guarded_one_by_one():
    assert ListItems([1, Failed("x")])(1) == Success(None, Failed("x"))
