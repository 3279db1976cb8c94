"""What f68b8d4 recorded and stored can be read and resumed today: stored.py wrote it, with flows of stored_flows.py."""

from __future__ import annotations

import json
import pickle
import shutil
import sys

import pytest
import stored_flows
from stored import FOLDER

from prefectish import history
from prefectish.engine.state import Cached, Failed, Paused, Retrying, State, Success
from prefectish.engine.worker.cache import CACHES
from prefectish.errors import ResumeMismatch
from prefectish.executors import LocalDaskExecutor, LocalExecutor
from prefectish.history import holders
from prefectish.results import LocalResult

VERSION = "f68b8d4"
ABOUT = json.loads((FOLDER / VERSION / "about.json").read_text())
#: A version of a task is a hash of bytecode, so of one Python.
same_python = pytest.mark.skipif(
    ABOUT["python"].split(".")[:2] != list(map(str, sys.version_info[:2])),
    reason=f"tasks have other versions than on Python {ABOUT['python']}",
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work on a copy, in which a stored store finds itself."""
    shutil.copytree(FOLDER / VERSION, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(stored_flows.settings, "broken", False)
    monkeypatch.setattr(CACHES, "_shelves", {})  # what other tests of this process have cached
    monkeypatch.setattr(holders, "STANDSTILL", 0.2)  # the clients were on a machine that cannot be asked any more
    monkeypatch.setattr(holders, "LOOK_INTERVAL", 0.1)
    stored_flows.ran.clear()
    return tmp_path


@pytest.fixture
def store(here):
    return LocalResult(here / "results")


def recorded(flow):
    (run,) = history.runs(flow=flow, store="history.db")
    return run


def resume(flow, **options):
    return flow.resume(recorded(flow.name).id, history="history.db", **options)


def assert_equal(value, kind):
    expected = stored_flows.value_of(kind)
    assert (value == expected).all() if kind == "array" else value == expected


# ---------------------------------------------------------------------- reading


def test_runs_are_listed():
    assert {run.flow_name: (run.id, run.state) for run in history.runs(store="history.db")} == {
        "values": (ABOUT["runs"]["values"], "Success"),
        "failing": (ABOUT["runs"]["failing"], "Success"),
        "failing on processes": (ABOUT["runs"]["failing on processes"], "Success"),
        "pages": (ABOUT["runs"]["pages"], "Success"),
        "asking": (ABOUT["runs"]["asking"], "Running"),
        "cached": (ABOUT["runs"]["cached"], "Success"),
        "sending": (ABOUT["runs"]["sending"], "Running"),
    }
    assert history.run(ABOUT["runs"]["failing"], store="history.db").part == 1
    assert recorded("sending").is_lost


@pytest.mark.parametrize("flow", ["failing", "failing on processes"])
def test_children_attempts_failures_and_logs_are_read(flow):
    run = recorded(flow)
    kinds = {
        facts["slug"]: [child.state for child in run.children(facts["slug"])]
        for facts in run.tasks()
    }  # fmt: skip
    assert kinds == {
        "load-1": ["Success", "Success", "Failed", "Success"],
        "twice-1": ["Success", "Success", "TriggerFailed", "Success"],
        "flaky-1": ["Success", "Success"],
        "total-1": ["Success"],
    }
    child = run.child("flaky", 0)
    assert (child.attempts, [(a.number, a.state) for a in child.earlier()]) == (2, [(1, "Retrying")])
    (cause, follows) = run.failures()
    assert (cause.type, cause.message, cause.count) == ("ValueError", "bad item", 1)
    assert (follows.type, follows.count) == ("TriggerFailed", 1)
    assert "in load" in run.child("load", 2).traceback
    assert "loading 3" in [line.text for line in run.logs("load", 2)]


def test_children_are_found_by_their_items():
    run = recorded("values")
    assert [run.child("make", f"a {kind}").index for kind in stored_flows.KINDS] == list(range(8))
    assert run.child("at_target", "array").location == "values/at_target-1/array.pickle"


@pytest.mark.parametrize(("index", "kind"), list(enumerate(stored_flows.KINDS)))
def test_results_are_read(store, index, kind):
    location = recorded("values").child("make", index).location
    value = None if kind == "none" else store.load(location)
    assert location is None if kind == "none" else store.exists(location)
    assert_equal(value, kind)


def test_states_that_attempts_left_are_read(store):
    """Those of attempts that stored no result, and those behind start markers."""
    found = {}
    for name in store.list():
        if name.endswith(".ended") or store.facts(name).get("holds") == "state":
            state = pickle.loads(store.read(name))
            assert isinstance(state, State)
            found[name.split("/", 2)[2]] = state
    run_ids = {name.split("/")[0] for name in store.list() if name.endswith(".ended")}
    assert run_ids == {ABOUT["runs"]["sending"]}
    assert {name: type(state) for name, state in found.items()} == {
        "flaky-1/0.1": Retrying,
        "flaky-1/1.1": Retrying,
        "load-1/2.1": Failed,
        "send-1/0.1.ended": Success,
        "send-1/1.1.ended": Failed,
        "send-1/3.1.ended": Success,
        "send-1/4.1.ended": Success,
    }
    assert found["send-1/3.1.ended"].result == stored_flows.Point(3, 3)
    refused = found["send-1/1.1.ended"].result
    assert type(refused) is stored_flows.Refused
    assert refused.code == 7
    assert type(found["load-1/2.1"].result) is ValueError


def test_store_is_sound(store):
    """Each file is whole, and each that holds a value holds one that can be loaded."""
    values = [name for name in store.list() if "serializer" in store.facts(name)]
    assert len(values) == ABOUT["values"]
    for name in values:
        store.load(name)


def test_child_is_replayed(store):
    flow = stored_flows.failing(store)
    stored_flows.settings["broken"] = True
    again = recorded("failing").child("load", 2).replay(flow=flow)
    assert (type(again), str(again.result)) == (Failed, "bad item")
    stored_flows.settings["broken"] = False
    assert recorded("failing").child("load", 2).replay(flow=flow).result == 6
    assert recorded("failing").child("twice", 3).replay(flow=flow).result == 16


def test_report_is_written(here):
    page = here / "run.html"
    recorded("failing").report(page)
    assert "bad item" in page.read_text()


# ---------------------------------------------------------------------- going on


@same_python
def test_finished_run_is_resumed_and_runs_nothing(store):
    flow = stored_flows.values(store)
    state = resume(flow)
    assert stored_flows.ran == []
    made = state["make"].result
    for value, kind in zip(made, stored_flows.KINDS, strict=True):
        assert_equal(value, kind)
    assert state["count"].result == 8


@same_python
@pytest.mark.parametrize(
    "executor", [LocalExecutor(), LocalDaskExecutor("threads", num_workers=2)], ids=["local", "threads"]
)
def test_failed_children_run_again_and_what_follows_them(store, executor):
    state = resume(stored_flows.failing(store), retry_failed=True, executor=executor)
    assert stored_flows.ran == ["load 3", "twice 6", "total"]
    assert state["total"].result == 4 + 8 + 12 + 16 + 10 + 20


@same_python
def test_run_on_processes_is_resumed_here(store):
    state = resume(stored_flows.failing(store, "failing on processes"), retry_failed=True)
    assert stored_flows.ran == ["load 3", "twice 6", "total"]
    assert state["total"].result == 70


@same_python
def test_flow_function_is_resumed(store):
    read_all = stored_flows.pages(store)
    run = recorded("pages")
    state = read_all.resume(run.id, numbers=[1, 3, 2], history="history.db", retry_failed=True)
    assert stored_flows.ran == ["load 3"]
    assert state.result == ([2, 6, 4], 4)


@same_python
def test_questions_are_answered(store):
    flow = stored_flows.asking(store)
    run = recorded("asking")
    assert [(row.label, row.message) for row in run.paused()] == [
        ("deploy[0]", "how many on here?"),
        ("deploy[1]", "how many on there?"),
    ]
    state = run.approve("deploy", 1, input=3, flow=flow)
    assert [type(child) for child in state["deploy"].map_states] == [Paused, Success]
    assert state["note"][1].result == "noted ('there', 3)"
    state = run.approve("deploy", input=4, flow=flow)
    assert state["note"].result == ["noted ('here', 4)", "noted ('there', 3)"]


@same_python
def test_run_whose_client_died_is_resumed(store):
    """Nothing that had begun is sent again, and what was prepared is read."""
    state = resume(stored_flows.sending(store))
    assert stored_flows.ran == []
    sent = state["send"].map_states
    assert [type(child).__name__ for child in sent] == ["Success", "Failed", "Crashed", "Success", "Success"]
    assert (sent[2].cause, sent[2].evidence["worker"].partition(":")[0]) == ("attempt-lost", "stored")
    assert [sent[i].result for i in (0, 3, 4)] == [stored_flows.Point(i, i) for i in (0, 3, 4)]


@same_python
def test_what_was_lost_or_failed_is_sent_again_when_asked_for(store):
    state = resume(stored_flows.sending(store), retry_failed=True)
    assert sorted(stored_flows.ran) == ["send 1", "send 2"]
    assert [type(child) for child in state["send"].map_states] == [Success, Failed, Success, Success, Success]


@same_python
def test_changed_task_is_named(store):
    flow = stored_flows.values(store)
    next(task for task in flow.tasks if task.name == "count").run = lambda values: -1
    with pytest.raises(ResumeMismatch, match="task count-1 changed"):
        resume(flow)


# ---------------------------------------------------------------------- caches and targets


def test_targets_stand_for_runs(store):
    state = stored_flows.values(store).run(history=False)
    assert [type(child) for child in state["at_target"].map_states] == [Cached, Cached]
    assert not [line for line in stored_flows.ran if line.startswith("at_target")]
    assert state["at_target"][0].result == 17


def test_cached_results_are_hits_until_they_expire(store):
    state = stored_flows.cached(store).run(history=False)
    assert state["by_key"].result == [[1] * 1000, [2] * 1000]
    assert [line for line in stored_flows.ran if not line.startswith("by_inputs")] == ["expired 1"]


@same_python
def test_cached_results_of_a_body_and_its_inputs_are_hits(store):
    state = stored_flows.cached(store).run(history=False)
    assert stored_flows.ran == ["expired 1"]
    assert state["by_inputs"].result == [stored_flows.Point(x, "by inputs") for x in (1, 2)]
