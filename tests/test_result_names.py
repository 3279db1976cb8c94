"""Who has which name: in the table of the client, and by files that all workers see."""

from __future__ import annotations

import pytest

from prefectish.engine.worker.result_names import (
    Holder,
    NameTable,
    leave_in_store,
    lower_in_store,
    take_in_store,
    taken_text,
)
from prefectish.results import LocalResult

ZERO, ONE, OTHER = Holder(3, 0, "load-1", "load"), Holder(3, 1, "load-1", "load"), Holder(4, -1, "sum-1", "sum")


@pytest.fixture
def store(tmp_path):
    return LocalResult(tmp_path)


def test_name_in_the_table_is_of_one_child_and_store(store, tmp_path):
    table = NameTable()
    assert table.take(store, "a", ONE) is None
    assert table.take(store, "a", ONE) is None
    assert table.take(store, "a", ZERO) == ONE
    assert table.take(LocalResult(tmp_path), "a", OTHER) == ONE
    assert table.take(LocalResult(tmp_path / "b"), "a", OTHER) is None


def test_of_two_children_the_higher_index_sees_the_lower_one(store):
    assert take_in_store(store, "run/0", "a", ONE) is None
    assert take_in_store(store, "run/0", "a", ZERO) is None
    assert lower_in_store(store, "run/0", "a", ONE) == ZERO
    assert take_in_store(store, "run/0", "a", OTHER) == ZERO
    assert take_in_store(store, "run/1", "a", OTHER) is None
    leave_in_store(store, "run/0", "a", ZERO)
    assert lower_in_store(store, "run/0", "a", OTHER) == ONE


def test_message_names_both_and_what_tells_them_apart():
    assert taken_text("a", ZERO, ONE, True) == (
        "'a' is where load[0] keeps its result, not load[1]; put ${item_key} or ${map_index} into the target"
    )
    assert taken_text("a", ZERO, OTHER, False).endswith("not sum; put ${task_slug} into the location")
