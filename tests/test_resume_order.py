"""Which children of a resumed map begin first: those that run, where the order of the map allows it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from prefectish import Flow, flow, history, task
from prefectish.engine.scheduling.resume_rules import ResumeRules
from prefectish.engine.state import Cancelled
from prefectish.executors import LocalDaskExecutor, LocalExecutor
from prefectish.history.recorded_states import results
from prefectish.history.schema import CODES
from prefectish.results import LocalResult

WIDTH = 600
FAILS = (200, 599)


@pytest.fixture
def read(monkeypatch):
    """Return the rows whose records a resumed run has looked at."""
    rows = []
    kept = ResumeRules.kept

    def noted(self, chain, map_row, *args):
        rows.append(map_row.row)
        return kept(self, chain, map_row, *args)

    monkeypatch.setattr(ResumeRules, "kept", noted)
    return rows


def maps(kind, called, folder, items=range(WIDTH), follow=None):
    """Return a flow of either kind that maps a task, and what each child of it gives to another one."""
    if kind == "graph":
        with Flow("maps") as graph:
            out = called.map(items)
            if follow is not None:
                follow.map(out)
        return graph

    @flow(name="maps")
    def function():
        out = called.map(items)
        out = out if follow is None else follow.map(out)
        out.wait()
        return [child.state for child in out if child.state.is_failed()][:1]

    return function


@pytest.mark.parametrize("kind", ["graph", "function"])
@pytest.mark.parametrize("make", [LocalExecutor, lambda: LocalDaskExecutor("threads", num_workers=2)])
def test_failed_children_begin_before_those_that_are_kept_are_read(tmp_path, read, kind, make):
    mended, began = tmp_path / "mended", []

    @task(name="parse")
    def parse(x):
        began.append((x, len(read)))
        if x in FAILS and not mended.exists():
            raise ValueError(x)

    maps_all, store = maps(kind, parse, tmp_path), str(tmp_path / "history.db")
    run_id = maps_all.run(executor=make(), history=store).context["flow_run_id"]
    mended.touch()
    read.clear()
    began.clear()
    maps_all.resume(run_id, executor=make(), history=store, retry_failed=True)
    assert {x for x, _ in began} == set(FAILS)
    assert len(read) == WIDTH
    assert read[:2] == list(FAILS)  # on threads more may have been read when their bodies begin
    states = {child.index: child.state for child in history.run(run_id, store).children("parse-1")}
    assert states == dict.fromkeys(range(WIDTH), "Success")


@pytest.mark.parametrize("kind", ["graph", "function"])
def test_what_ran_first_has_its_place_in_the_results(executor, tmp_path, kind):
    store = LocalResult(str(tmp_path / "results"))

    @task(name="parse", result=store)
    def parse(x):
        if x in (3, 8) and not (tmp_path / "mended").exists():
            raise ValueError(x)
        return x

    @task(name="double", result=store)
    def double(x):
        if x in (1, 9) and not (tmp_path / "mended").exists():
            raise OSError(x)
        Path(tmp_path, f"ran {x}").touch()
        return x * 2

    maps_all, database = maps(kind, parse, tmp_path, range(10), double), str(tmp_path / "history.db")
    run_id = maps_all.run(executor=executor, history=database).context["flow_run_id"]
    for path in tmp_path.glob("ran *"):
        path.unlink()
    (tmp_path / "mended").touch()
    maps_all.resume(run_id, executor=executor, history=database, retry_failed=True)
    assert sorted(path.name for path in tmp_path.glob("ran *")) == ["ran 1", "ran 3", "ran 8", "ran 9"]
    assert results(history.run(run_id, database), "double-1") == {x: 2 * x for x in range(10)}


@pytest.mark.parametrize("kind", ["graph", "function"])
def test_failure_that_is_kept_stops_its_map_in_the_order_of_the_map(tmp_path, kind):
    ran = []

    @task(name="parse", on_child_failure="stop")
    def parse(x):
        ran.append(x)
        if x == 3:
            raise ValueError(x)

    maps_all, store = maps(kind, parse, tmp_path, range(6)), str(tmp_path / "history.db")
    run_id = maps_all.run(executor=LocalExecutor(), history=store).context["flow_run_id"]
    assert ran == [0, 1, 2, 3]
    maps_all.resume(run_id, executor=LocalExecutor(), history=store)
    assert ran == [0, 1, 2, 3]
    assert {c.index: c.state for c in history.run(run_id, store).children("parse-1")}[5] == Cancelled.__name__


@pytest.mark.parametrize("kind", ["graph", "function"])
def test_children_of_equal_items_are_told_apart(tmp_path, read, kind):
    calls = []

    @task(name="parse")
    def parse(x):
        calls.append(x)
        if len(calls) == 3:
            raise ValueError("the third one")

    maps_all, store = maps(kind, parse, tmp_path, ["a", "b", "a", "a"]), str(tmp_path / "history.db")
    run_id = maps_all.run(executor=LocalExecutor(), history=store).context["flow_run_id"]
    read.clear()
    maps_all.resume(run_id, executor=LocalExecutor(), history=store, retry_failed=True)
    assert (calls, read) == (["a", "b", "a", "a", "a"], [0, 1, 2, 3])
    assert {c.index for c in history.run(run_id, store).children("parse-1") if c.state == "Success"} == {0, 1, 2, 3}


def key_of(item):
    return str(item["k"])


@pytest.mark.parametrize("kind", ["graph", "function"])
@pytest.mark.parametrize(
    ("recorded", "items"),
    [
        ([10], [(1, 10), (1, 20), (2, 30)]),  # the client was killed before the second one had ended
        ([10, 30], [(1, 10), (2, 30), (1, 20)]),
        ([10], [(1, 10), (1, 20)]),
    ],
)
def test_what_has_no_record_does_not_take_the_result_of_its_twin(executor, tmp_path, kind, recorded, items):
    store = LocalResult(str(tmp_path / "results"))

    @task(name="parse", item_key=key_of, result=store)
    def parse(item):
        return item["v"]

    maps_all, database = maps(kind, parse, tmp_path, given := []), str(tmp_path / "history.db")
    listed = [{"k": k, "v": v} for k, v in items]
    given += listed[: len(recorded)]
    run_id = maps_all.run(executor=executor, history=database).context["flow_run_id"]
    given += listed[len(recorded) :]
    maps_all.resume(run_id, executor=executor, history=database)
    assert results(history.run(run_id, database), "parse-1") == {row: item["v"] for row, item in enumerate(listed)}


@pytest.mark.parametrize("kind", ["graph", "function"])
def test_equal_items_are_looked_at_once_however_many_there_are(tmp_path, kind, monkeypatch):
    looked, number = [], 300
    key_at = ResumeRules._key_at
    monkeypatch.setattr(ResumeRules, "_key_at", lambda *args: (looked.append(args[-1]), key_at(*args))[1])

    @task(name="parse", result=LocalResult(str(tmp_path / "results")))
    def parse(item):
        return item

    maps_all, store = maps(kind, parse, tmp_path, given := ["a"] * number), str(tmp_path / "history.db")
    run_id = maps_all.run(executor=LocalExecutor(), history=store).context["flow_run_id"]
    given += ["a"] * number  # those that have no record come after the twins that have one
    maps_all.resume(run_id, executor=LocalExecutor(), history=store)
    assert len(results(history.run(run_id, store), "parse-1")) == 2 * number
    assert number <= len(looked) <= 4 * number


@pytest.mark.parametrize("kind", ["graph", "function"])
def test_order_of_more_steps_than_a_byte_counts(tmp_path, read, kind):
    mended = tmp_path / "mended"

    @task(name="first")
    def first(x):
        if x == 2 and not mended.exists():
            raise ValueError(x)
        return x

    @task(name="next")
    def following(x):
        return x

    def chained():
        out = first.map(range(4))
        for _ in range(300):
            out = following.map(out)
        return out

    if kind == "graph":
        with Flow("chained") as maps_all:
            chained()
    else:
        maps_all = flow(name="chained")(lambda: [c.state for c in chained() if c.state.is_failed()][:1])
    store = str(tmp_path / "history.db")
    run_id = maps_all.run(executor=LocalExecutor(), history=store).context["flow_run_id"]
    mended.touch()
    read.clear()
    state = maps_all.resume(run_id, executor=LocalExecutor(), history=store, retry_failed=True)
    assert state.is_successful(), state.message
    assert read[:2] in ([2, 0], [2, 2])


def forget(database, children):
    """Let the history be without children, as if the client had been killed before they were recorded."""
    with sqlite3.connect(database) as connection:
        connection.execute("update runs set state = ?", (CODES["Crashed"],))
        connection.execute("update steps set state = null")
        for slug, row in children:
            step = "select step from steps where slug = ?"
            connection.execute(f"delete from children where row = ? and step in ({step})", (row, slug))


@pytest.mark.parametrize(("limit", "stored"), [(None, True), (100, False)])
@pytest.mark.parametrize("kind", ["graph", "function"])
@pytest.mark.parametrize("lost", [[("first-1", 0), ("next-1", 0)], [("next-1", 0)], [("next-1", 0), ("next-1", 1)]])
def test_each_of_several_children_of_one_key_keeps_its_own_result(tmp_path, kind, limit, lost, stored):
    store, ran = LocalResult(str(tmp_path / "results")), []

    @task(name="first", item_key=key_of, result=store)
    def first(item):
        return item["v"]

    @task(name="next", max_concurrency=limit, result=store)
    def following(value):
        ran.append(value)
        return value + 1

    items = [{"k": 1, "v": 10}, {"k": 1, "v": 20}, {"k": 2, "v": 30}, {"k": 1, "v": 40}]
    maps_all, database = maps(kind, first, tmp_path, items, following), str(tmp_path / "history.db")
    run_id = maps_all.run(executor=LocalExecutor(), history=database).context["flow_run_id"]
    forget(database, lost)
    for slug, row in () if stored else lost:
        (file,) = (tmp_path / "results").glob(f"*/0/{slug}/{row}.1")
        file.unlink()
    maps_all.resume(run_id, executor=LocalExecutor(), history=database)
    assert results(history.run(run_id, database), "next-1") == {0: 11, 1: 21, 2: 31, 3: 41}
    unknown = [items[row]["v"] for slug, row in lost if slug == "next-1"]
    assert sorted(ran[4:]) == ([] if stored else unknown)


@pytest.mark.parametrize("kind", ["graph", "function"])
@pytest.mark.parametrize("pairs", ["two maps", "a map and its list", "a map and another list"])
@pytest.mark.parametrize("items", [[3, 1, 2], [0, 1, 2, 3]], ids=str)
def test_children_that_pair_children_of_maps_are_known_by_what_they_read(tmp_path, kind, pairs, items):
    ran, database = [], str(tmp_path / "history.db")
    store = LocalResult(str(tmp_path / "results"))

    @task(name="load")
    def load(x):
        ran.append("load")
        return x

    @task(name="pair")
    def pair(x, y):
        ran.append("pair")
        return [x, y]

    def paired(items):
        seconds = {"two maps": lambda: load.map(items), "a map and its list": lambda: items}
        other = seconds.get(pairs, lambda: [str(x) for x in items])()
        return pair.map(load.map(items), other)

    def made(items):
        if kind == "graph":
            with Flow("pairs", result=store) as graph:
                paired(items)
            return graph

        @flow(name="pairs", result=store)
        def function():
            paired(items).wait()

        return function

    run_id = made([1, 2, 3]).run(executor=LocalExecutor(), history=database).context["flow_run_id"]
    ran.clear()
    made(items).resume(run_id, executor=LocalExecutor(), history=database)
    found = results(history.run(run_id, database), "pair-1")
    kind_of = str if pairs == "a map and another list" else int
    assert found == {row: [x, kind_of(x)] for row, x in enumerate(items)}
    assert ran.count("pair") == (0 in items)
