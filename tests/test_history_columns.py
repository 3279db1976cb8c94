"""Recorded children that are read column by column."""

from __future__ import annotations

import sqlite3

import pytest
from postgres import forget_histories

from prefectish import Flow, history, task
from prefectish.engine.state import Failed, Success
from prefectish.errors import HistoryCorrupt
from prefectish.executors import LocalExecutor
from prefectish.history.columns import ChildColumns


def record(path, items, name=None, resume=None, body=lambda x: 1 // x):
    with Flow("columns") as flow:
        task(body, name="divide", item_key=name).map(items)
    options = {"executor": LocalExecutor(), "history": str(path)}
    state = flow.run(**options) if resume is None else flow.resume(resume, retry_failed=True, **options)
    return state.context["flow_run_id"]


def columns(path, run_id):
    return ChildColumns(history.run(run_id, store=path), "divide-1", is_single=False)


def test_children_are_found_by_the_key_of_their_item(tmp_path):
    found = columns(tmp_path / "h.db", record(tmp_path / "h.db", ["1", "2", "3"], name="x", body=lambda x: int(x)))
    assert list(found) == [("1", 0), ("2", 0), ("3", 0)]
    assert [found.find(identity) for identity in found] == [0, 1, 2]
    assert (len(found), found.find(("1", 1)), found.find((None, 0))) == (3, None, None)
    assert [found.identity_of((0, row)) for row in range(4)] == [*found, None]
    assert found.identity_of((1, 0)) is None, "it was not resumed"


def test_children_of_one_key_are_told_apart_and_those_without_a_key_go_by_their_row(tmp_path):
    class Odd:
        def __reduce__(self):
            raise TypeError("no pickle, no hash")

    path = tmp_path / "h.db"
    run_id = record(path, ["a", Odd(), "a", Odd(), "b"], body=lambda x: None)
    found = columns(path, run_id)
    a, _, again, odd, _ = found
    assert (a[1], again, odd) == (0, (a[0], 1), (None, 3))
    assert [found.find(identity) for identity in found] == [0, 1, 2, 3, 4]
    assert found.identity_of((0, 2)) == again
    record(path, ["a", Odd(), "a", Odd(), "b"], body=lambda x: None, resume=run_id)
    assert list(columns(path, run_id)) == list(found), "and so they are after the run was resumed"
    assert columns(path, run_id).part == [1] * 5


def test_only_what_did_not_end_plainly_is_read_whole(tmp_path):
    path = tmp_path / "h.db"
    run_id = record(path, [1, 0, 2])
    with sqlite3.connect(path) as connection:
        connection.execute("insert into texts values (99, 'digest', 'host:1')")
        connection.execute("update children set worker = 99 where row = 0")
    found = columns(path, run_id)
    assert [found.ended_well(at) for at in range(3)] == [True, False, True]
    assert found._full is None
    assert found.full_row(1).error_message.startswith("integer division")
    assert found._full.keys() == {(0, 1)}
    assert [found.worker_of(0), found.worker_of(1)] == ["host:1", None]


@pytest.mark.parametrize("column", ["row", "made", "state", "attempts", "seconds", "worker", "location", "item_key"])
def test_x18_value_that_nobody_wrote_is_refused_by_a_run_that_is_resumed(tmp_path, column):
    path = tmp_path / "h.db"
    run_id = record(path, [1, 0, 2])
    forget_histories()
    with sqlite3.connect(path) as connection:
        connection.execute(f"update children set {column} = ? where row = 1", (b"\xff",))
    with pytest.raises(HistoryCorrupt, match=f"{column} must be a"):
        record(path, [1, 0, 2], resume=run_id)
    forget_histories()


def test_no_object_is_made_for_a_child_that_ended_well_until_it_is_needed(tmp_path, monkeypatch):
    path, made = tmp_path / "h.db", []
    run_id = record(path, range(20))
    monkeypatch.setattr("prefectish.history.children.ChildRow.__init__", lambda self, *about: made.append(about))
    with Flow("columns") as flow:
        numbers = task(lambda x: 1 // (x or 1), name="divide").map(range(20))
    state = flow.resume(run_id, retry_failed=True, executor=LocalExecutor(), history=str(path))
    assert made == []
    assert [type(child) for child in state.result[numbers].map_states] == [Success] * 20
    assert state.result[numbers].map_states[0].result == 1, "it ran again"


def test_failures_that_are_kept_say_what_they_said(tmp_path):
    path = tmp_path / "h.db"
    run_id = record(path, [1, 0, 2])
    with Flow("columns") as flow:
        numbers = task(lambda x: 1 // x, name="divide").map([1, 0, 2])
    state = flow.resume(run_id, executor=LocalExecutor(), history=str(path), force=True)
    children = state.result[numbers].map_states
    assert [type(child) for child in children] == [Success, Failed, Success]
    assert "integer division" in children[1].message


def test_resumed_run_whose_tasks_all_ended_is_read_by_its_last_part_alone(tmp_path):
    path = tmp_path / "h.db"
    run_id = record(path, [1, 0, 2])
    record(path, [1, 0, 3], resume=run_id)
    resumed = history.run(run_id, store=path)
    assert (resumed.part, "row_number" in str(resumed._current().element)) == (1, False)
    before = (
        [group.count for group in resumed.failures()],
        [child.part for child in map(row_of, resumed.children("divide"))],
    )
    with sqlite3.connect(path) as connection:
        connection.execute("update steps set state = null where mapped")
    assert "row_number" in str(resumed._current().element), "its children may be in any part"
    after = (
        [group.count for group in resumed.failures()],
        [child.part for child in map(row_of, resumed.children("divide"))],
    )
    assert before == ([1], [1, 1, 1])
    assert after[0] == [1]
    assert len(after[1]) == 4, "the item that left the list is not known to have left"


def row_of(child):
    return child._row


def test_record_of_a_run_is_read_when_something_of_it_is_asked_for(tmp_path):
    path = tmp_path / "h.db"
    run_id = record(path, [1, 2])
    [found] = history.runs(store=path)
    assert "id" not in vars(found)
    assert (found.id, found.state) == (run_id, "Success")
    with pytest.raises(AttributeError, match="has no attribute 'colour'"):
        found.colour  # noqa: B018  the question is whether it is there
