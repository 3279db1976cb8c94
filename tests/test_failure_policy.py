"""When a map gives up on a cluster: each of its items still has one final state."""

from __future__ import annotations

import time

import pytest
from real import kinds, note, notes, spend, until

from prefectish import Flow, task, triggers
from prefectish.engine.state import Cancelled, Failed, Retrying, Success, TimedOut
from prefectish.executors import DaskExecutor

pytestmark = pytest.mark.time_limit(60)


@pytest.fixture
def dask(dask_client):
    """Few branches open at once, so that a map that gives up has children that never started."""
    return DaskExecutor(client=dask_client, max_branches=8)


@task(trigger=triggers.all_finished, skip_on_upstream_skip=False)
def count(xs):
    return len(xs)


def wait_for(seconds):
    """Keep a thread of a worker busy, as a body does that cannot be stopped."""
    spend(seconds)


def failing(path, bad, seconds=0.0, **options):
    @task(name="work", **options)
    def work(x):
        note(path, x)
        spend(seconds)
        if x in bad:
            raise ValueError(x)
        return x

    return work


def run_map(dask, work, number=200):
    with Flow("map") as flow:
        children = work.map(range(number))
        total = count(children)
    flow.set_reference_tasks([children])
    state = flow.run(executor=dask)
    assert state.result[total].result == number, "the fan-in has something for every item"
    return state, state.result[children]


def assert_never_started(states, path):
    """Cancelled children have left no note; all others have."""
    never = [i for i, s in enumerate(states) if s == Cancelled() and s.message == "never started"]
    assert never
    assert set(map(int, notes(path))).isdisjoint(never)
    return len(never)


def test_map_continues_by_default(dask, tmp_path):
    path = tmp_path / "notes"
    state, mapped = run_map(dask, failing(path, {3, 50}))
    assert kinds(mapped) == {"Success": 198, "Failed": 2}
    assert state.is_failed()


@pytest.mark.parametrize("batch", [None, 2])
def test_stop_opens_no_new_branch_and_lets_running_ones_end(dask, tmp_path, batch):
    path = tmp_path / "notes"
    state, mapped = run_map(dask, failing(path, {3}, 0.01, on_child_failure="stop", batch_size=batch))
    found = kinds(mapped)
    assert found["Failed"] == 1
    never = assert_never_started(mapped.map_states, path)
    assert found == {"Failed": 1, "Cancelled": never, "Success": 199 - never}
    assert len(notes(path)) == 200 - never
    assert never > 100
    assert state.is_failed()
    assert state.exit_code == 1


def test_stop_cancels_retries_that_wait(dask, tmp_path):
    path, retries = tmp_path / "notes", tmp_path / "retries"

    def see(task, old, new):
        if isinstance(new, Retrying):
            note(retries, "waits")

    @task(on_child_failure="stop", max_retries=1, retry_delay=600, retry_on=KeyError, state_handlers=[see])
    def work(x):
        note(path, x)
        if x == 0:
            raise KeyError(x)
        if x == 4:
            until(lambda: notes(retries))
            raise ValueError(x)
        return x

    began = time.monotonic()
    _, mapped = run_map(dask, work, 8)
    assert time.monotonic() - began < 30
    first = mapped.map_states[0]
    assert type(first) is Cancelled
    assert first.message == "retry cancelled: its map was stopped"
    assert type(mapped.map_states[4]) is Failed


@pytest.mark.parametrize("batch", [None, 2])
def test_cancel_drops_what_runs_too(dask, tmp_path, batch):
    """A thread cannot be stopped: a running body ends by itself, but its child is cancelled already."""
    path = tmp_path / "notes"

    @task(on_child_failure="cancel", batch_size=batch)
    def work(x):
        note(path, x)
        if x == 0:
            until(lambda: len(notes(path)) >= 2)
            raise ValueError(x)
        wait_for(3)
        return x

    _, mapped = run_map(dask, work)
    found = kinds(mapped)
    if batch is not None:  # the failure is told when its batch ends, and so the next child has ended too
        assert found.pop("Success") == batch - 1
    assert found == {"Failed": 1, "Cancelled": 200 - (batch or 1)}
    assert {s.message for s in mapped.map_states[batch or 1 :]} == {"never started", "cancelled: its map was stopped"}


@pytest.mark.parametrize(("most", "failures"), [(1, 2), (4, 5), (0.05, 11)])
def test_max_failures_is_a_number_or_a_ratio(dask, tmp_path, most, failures):
    path = tmp_path / "notes"
    work = failing(path, set(range(0, 200, 2)), 0.005, max_failures=most)
    _, mapped = run_map(dask, work)
    found = kinds(mapped)
    assert failures <= found["Failed"] <= failures + 8
    assert_never_started(mapped.map_states, path)


def test_max_failures_that_is_not_reached_stops_nothing(dask, tmp_path):
    work = failing(tmp_path / "notes", {1, 2, 3, 4}, max_failures=4)
    _, mapped = run_map(dask, work)
    assert kinds(mapped) == {"Success": 196, "Failed": 4}


def test_steps_behind_a_stopped_map_never_start_either(dask, tmp_path):
    path = tmp_path / "notes"
    work = failing(path, {0}, 0.01, on_child_failure="stop")

    @task(trigger=triggers.all_finished)
    def after(x):
        note(tmp_path / "after", x)
        return 1

    with Flow("behind") as flow:
        children = work.map(range(100))
        followed = after.map(children)
        total = count(followed)
    state = flow.run(executor=dask)
    never = kinds(state.result[children])["Cancelled"]
    assert kinds(state.result[followed])["Cancelled"] == never > 50
    assert len(notes(tmp_path / "after")) == 100 - never
    assert state.result[total].result == 100


# ---------------------------------------------------------------------- time limits of maps


@pytest.mark.parametrize("batch", [None, 2])
def test_map_timeout_ends_open_children_and_never_starts_the_others(dask, tmp_path, batch):
    path = tmp_path / "notes"

    @task(map_timeout=3, batch_size=batch)
    def work(x):
        note(path, x)
        if x >= 4:
            wait_for(4)
        return x

    _, mapped = run_map(dask, work, 100)
    states = mapped.map_states
    assert [s.result for s in states[:4]] == [0, 1, 2, 3]
    timed_out = [s for s in states[4:] if type(s) is TimedOut]
    assert 4 <= len(timed_out) <= 16
    assert timed_out[0].message == "work took longer than its map_timeout of 3 s"
    assert kinds(mapped) == {"Success": 4, "TimedOut": len(timed_out), "Cancelled": 96 - len(timed_out)}
    assert {s.message for s in states if type(s) is Cancelled} == {"never started"}


def test_map_that_ends_in_time_is_not_touched(dask, tmp_path):
    with Flow("in time") as flow:
        children = failing(tmp_path / "notes", set(), map_timeout=30).map(range(20))
    began = time.monotonic()
    assert flow.run(executor=dask).result[children].result == list(range(20))
    assert time.monotonic() - began < 15


def test_map_timeout_cancels_retries_that_wait(dask, tmp_path):
    @task(map_timeout=0.5, max_retries=3, retry_delay=600)
    def work(x):
        if x == 1:
            raise ValueError(x)
        return x

    began = time.monotonic()
    _, mapped = run_map(dask, work, 3)
    assert time.monotonic() - began < 30
    assert [type(s) for s in mapped.map_states] == [Success, TimedOut, Success]
