"""Results of attempts in a store: where they lie, what is found again, what one that cannot be written ends in."""

from __future__ import annotations

import pickle

import pytest
from jobs import jobs_of

from prefectish import Flow, task
from prefectish.engine.state import Cached, Failed, Pending, Retrying, Running, Success
from prefectish.engine.worker.attempt_context import AttemptContext
from prefectish.engine.worker.storage import SMALL, ResultStorage, Stored
from prefectish.errors import ResultReleased
from prefectish.results import LocalResult, Template

RUN = {"flow_run_id": "r1", "flow_name": "flow", "parameters": {"day": "monday"}}


@task
def load(x):
    return x


def context_of(index=0, start=None):
    with Flow("stores") as flow:
        load.map([1, 2])
    _, jobs = jobs_of(flow)
    return AttemptContext(RUN, jobs[0].chain.steps[0], index, start or Pending())


def storage_of(tmp_path, target=None, checkpoint=True, elsewhere=True, location=None):
    storage = ResultStorage(
        LocalResult(dir=tmp_path), checkpoint, target, "r1/0", location=Template(location) if location else None
    )
    if elsewhere:
        storage.owner = "the process of the client"
    return storage


def test_each_attempt_has_a_place_of_its_own(tmp_path):
    storage = storage_of(tmp_path)
    places = [storage.own_place(context_of(*about)) for about in ((0,), (1,), (-1,), (1, Retrying(run_count=2)))]
    assert places == ["r1/0/load-1/0.1", "r1/0/load-1/1.1", "r1/0/load-1/single.1", "r1/0/load-1/1.3"]


def test_result_is_found_by_the_same_attempt_and_by_no_other(tmp_path):
    storage, ctx = storage_of(tmp_path), context_of()
    assert storage.load_previous(ctx, {}) is None
    saved = storage.save(ctx, {}, Success(None, [1, 2]))
    assert type(saved._raw_result) is Stored
    assert storage.load_previous(ctx, {}) == Success(None, [1, 2])
    assert storage.load_previous(context_of(1), {}) is None
    assert storage.load_previous(context_of(0, Retrying(run_count=1)), {}) is None


def test_outcome_without_a_result_is_stored_for_another_process(tmp_path):
    storage, ctx = storage_of(tmp_path), context_of()
    storage.record_outcome(ctx, Failed("it failed", ValueError("bad")))
    found = storage.load_previous(ctx, {})
    assert (type(found), found.message, str(found.result)) == (Failed, "it failed", "bad")


@pytest.mark.parametrize("state", [Running(), Pending()])
def test_state_that_ends_no_attempt_is_not_stored(tmp_path, state):
    storage, ctx = storage_of(tmp_path), context_of()
    storage.record_outcome(ctx, state)
    assert storage.load_previous(ctx, {}) is None


def test_outcome_in_the_process_of_the_client_is_not_stored(tmp_path):
    storage, ctx = storage_of(tmp_path, elsewhere=False), context_of()
    storage.record_outcome(ctx, Failed("it failed"))
    assert storage.load_previous(ctx, {}) is None


def test_step_without_checkpoint_stores_nothing(tmp_path):
    storage, ctx = storage_of(tmp_path, checkpoint=False), context_of()
    state = Success(None, 1)
    assert storage.save(ctx, {}, state) is state
    storage.record_outcome(ctx, Failed("it failed"))
    assert storage.load_previous(ctx, {}) is None
    assert not any(tmp_path.iterdir())


def test_target_stands_for_a_run(tmp_path):
    ctx, inputs = context_of(), {"x": 5}
    storage = storage_of(tmp_path, target="${task_name}-${x}")
    assert storage.target_state(ctx, inputs) is None
    storage.save(ctx, inputs, Success(None, "five"))
    found = storage.target_state(context_of(1), inputs)
    assert (type(found), found.result) == (Cached, "five")
    assert storage.target_state(ctx, {"x": 6}) is None


def test_result_that_was_cut_short_is_no_target(tmp_path):
    storage, ctx = storage_of(tmp_path, target="one"), context_of()
    storage.save(ctx, {}, Success(None, list(range(1000))))
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    path.write_bytes(path.read_bytes()[:-10])
    assert storage.target_state(ctx, {}) is None


def test_two_children_cannot_have_one_location(tmp_path):
    storage = storage_of(tmp_path, location="result")
    assert type(storage.save(context_of(0), {}, Success(None, 1))) is Success
    state = storage.save(context_of(1), {}, Success(None, 2))
    assert type(state) is Failed
    assert state.message.startswith("result could not be stored: ValueError: 'result' is where load[0] keeps its")
    again = storage.save(context_of(0, Retrying(run_count=1)), {}, Success(None, 3))
    assert again.result == 3


def test_result_that_cannot_be_written_fails_its_child(tmp_path):
    state = storage_of(tmp_path).save(context_of(), {}, Success(None, lambda: 1 / 0))
    assert type(state) is Success  # functions can be stored
    (tmp_path / "file").write_text("in the way")
    state = storage_of(tmp_path / "file").save(context_of(), {}, Success(None, 1))
    assert type(state) is Failed
    assert state.message.startswith("result could not be stored: ")


@pytest.mark.parametrize(("value", "travels"), [(b"x" * SMALL, True), (b"x" * (SMALL + 1), False), ([1, "a"], True)])
def test_small_result_travels_with_its_record(tmp_path, value, travels):
    saved = storage_of(tmp_path).save(context_of(), {}, Success(None, value))
    copied = pickle.loads(pickle.dumps(saved._raw_result))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.unlink()
    if travels:
        assert copied.get() == value
    else:
        with pytest.raises(ResultReleased, match=r"result of load\[0\]"):
            copied.get()
