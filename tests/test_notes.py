"""Notes of how attempts ended, in the user's store: of its own format, and free of pickles where the store is."""

from __future__ import annotations

import os
import pickle
from datetime import UTC, datetime

import pytest
from bodies import count_good
from hypothesis import given
from hypothesis import strategies as st

from prefectish import Flow, context, flow, history, task, unmapped
from prefectish.engine import signals
from prefectish.engine.state import Cached, Crashed, Failed, Retrying, Skipped, Success, TimedOut
from prefectish.engine.worker import notes
from prefectish.engine.worker.stored_result import Stored
from prefectish.errors import RemoteError
from prefectish.results import LocalResult

FORMATS = ["pickle", "json"]


class Hostile:
    """Creates a folder where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def stored(store, state):
    notes.write(store, "a", state, "load[0]", {"item": "x"})
    return notes.read(store, "a")


WHEN = datetime(2030, 1, 1, tzinfo=UTC)
STATES = [
    Success("done", None),
    Success("done", {"a": [1, 2.5, None, "x"]}),
    Retrying("again", start_time=WHEN, run_count=3, context={"task_run_count": 3, "tags": ["a"]}),
    Crashed("lost", cause="killed-process", evidence={"exit_code": -9}),
    Cached("found", 3, hashed_inputs="abc", cached_parameters={"n": 1}, cached_result_expiration=WHEN),
    Skipped("not today"),
]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("state", STATES, ids=lambda state: type(state).__name__)
def test_state_comes_back_from_its_note(tmp_path, form, state):
    found = stored(LocalResult(tmp_path, serializer=form), state)
    assert (found, found.message, found.context) == (state, state.message, state.context)


class OfItsOwn(Exception):
    """Cannot be made anew from its text."""

    def __init__(self, *, code):
        super().__init__()
        self.code = code

    def __str__(self):
        return f"bad {self.code}"


@pytest.mark.parametrize(
    ("form", "error", "kind"),
    [
        ("pickle", ValueError("bad"), ValueError),
        ("json", ValueError("bad"), ValueError),
        ("json", OfItsOwn(code=7), RemoteError),
    ],
)
def test_exception_comes_back_as_far_as_the_store_allows(tmp_path, form, error, kind):
    found = stored(LocalResult(tmp_path, serializer=form), TimedOut("late", error))
    assert (type(found), found.message, type(found.result)) == (TimedOut, "late", kind)
    assert "bad" in str(found.result)
    assert f"{type(error).__name__}: bad" in str(found.traceback)


@pytest.mark.parametrize("form", FORMATS)
def test_signal_comes_back_as_itself(tmp_path, form):
    found = stored(LocalResult(tmp_path, serializer=form), signals.SKIP("not today").state)
    assert (type(found), found.message, type(found.result), str(found.result)) == (
        Skipped,
        "not today",
        signals.SKIP,
        "not today",
    )


@pytest.mark.parametrize("form", FORMATS)
def test_stored_result_is_noted_by_its_place(tmp_path, form):
    store = LocalResult(tmp_path, serializer=form)
    store.save("b", [1, 2])
    found = stored(store, Success("done", Stored(store, "b", "load[0]")))
    assert type(found._raw_result) is Stored
    assert found.result == [1, 2]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda part: st.lists(part) | st.dictionaries(st.text(), part),
    max_leaves=8,
)


@given(message=st.none() | st.text(), result=JSON, facts=st.dictionaries(st.text(min_size=1), JSON, max_size=3))
def test_any_plain_state_comes_back(tmp_path_factory, message, result, facts):
    with context(task_tags=None):
        found = stored(
            LocalResult(tmp_path_factory.getbasetemp() / "any", serializer="json"),
            Success(message, result, context=facts),
        )
    assert (found.message, found.result, found.context) == (message, result, facts)


def planted(store, path):
    """Write what strangers could: a pickle as a note, as notes of older releases were."""
    store.write("a", pickle.dumps(Hostile(path)), {"holds": "state"})


def test_x15_pickle_at_the_place_of_a_note_is_not_loaded(tmp_path):
    store, path = LocalResult(tmp_path / "results", serializer="json"), tmp_path / "ran"
    planted(store, path)
    assert notes.read(store, "a") is None
    assert not path.exists()


def test_note_of_a_store_without_pickles_is_none_in_one_of_pickles(tmp_path):
    notes.write(LocalResult(tmp_path, serializer="json"), "a", Failed("no"), "load[0]")
    assert notes.read(LocalResult(tmp_path), "a") is None


@pytest.mark.parametrize("value", [3, None, Failed, {"state": "Success"}])
def test_pickle_that_is_no_state_is_no_note(tmp_path, value):
    store = LocalResult(tmp_path)
    store.write("a", pickle.dumps(value), {"holds": "state"})
    assert notes.read(store, "a") is None


@task
def load(x, odd=None):
    if x == 1:
        raise ValueError("bad")
    if x == 2:
        raise signals.SKIP("not today")
    return None if x == 3 else x


SEND = task(load.run, name="send", rerun_on_loss=False, retries=1)


def graph(store):
    with Flow("notes", result=store) as made:
        count_good(load.map([0, 1, 2, 3], odd=unmapped(None)))
        count_good(SEND.map([0, 1, 2, 3]))
    return made


def function(store):
    @flow(name="notes", result=store)
    def made():
        return count_good(load.map([0, 1, 2, 3])), count_good(SEND.map([0, 1, 2, 3]))

    return made


@pytest.mark.parametrize("make", [graph, function])
def test_x15_store_of_json_holds_no_pickle_and_runs_what_a_stranger_left_for_nobody(executor, tmp_path, make):
    """Neither a run nor its resumption loads what lies where notes of older releases were pickles."""
    store, path = LocalResult(tmp_path / "results", serializer="json"), tmp_path / "ran"
    made, db = make(store), tmp_path / "history.db"
    made.run(executor=executor, history=db)
    names = list(store.list())
    assert names
    assert not [name for name in names if b"\x80\x05" in store.read(name) or b"\x80\x04" in store.read(name)]
    (run,) = history.runs(store=db)
    for part in (0, 1):
        for index in range(4):
            bad = pickle.dumps(Hostile(path))
            store.write(f"{run.id}/{part}/load-1/{index}.1", bad, {"holds": "state"})
            store.write(f"{run.id}/{part}/send-1/{index}.1.ended", bad)
    again = made.resume(run.id, executor=executor, history=db, retry_failed=True)
    assert not path.exists()
    assert again.is_finished()
