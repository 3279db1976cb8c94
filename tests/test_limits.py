"""Limits on a cluster: never more at once, or in a second, than was allowed; what waits holds nothing."""

from __future__ import annotations

import time

import pytest
from real import kinds, most_at_once, note, notes, spend, until, wait_for_file

from prefectish import Flow, context, task
from prefectish.executors import DaskExecutor

pytestmark = pytest.mark.time_limit(60)


def timed(path, seconds=0.02, together=1):
    """Return a body that notes its beginning and end; so many of them wait for each other at first."""

    def body(x):
        note(path, "+")
        spend(seconds)
        until(lambda: notes(path).count("+") >= together)
        note(path, "-")
        return x

    return body


def assert_spaced(moments, began, rate):
    """See that none of the starts came before its time; later than that they come on a busy machine."""
    early = [n for n, moment in enumerate(sorted(moments)) if moment < began + n / rate - 0.02]
    assert not early, "clocks differ by less than 20 ms"


def test_without_a_limit_all_threads_are_used(dask, tmp_path):
    """The yardstick of the tests below: what they allow is less than what would be."""
    path = tmp_path / "notes"
    with Flow("free") as flow:
        task(timed(path, together=4)).map(range(16))
    flow.run(executor=dask)
    assert most_at_once(path) == 4


@pytest.mark.parametrize("most", [1, 2, 3])
def test_max_concurrency_bounds_the_children_that_run(dask, tmp_path, most):
    path, free = tmp_path / "notes", tmp_path / "free"
    with Flow("limited") as flow:
        children = task(timed(path, together=most), max_concurrency=most, name="limited").map(range(20))
        task(timed(free), name="free").map(range(20))
    state = flow.run(executor=dask)
    assert kinds(state.result[children]) == {"Success": 20}
    assert most_at_once(path) == most
    assert len(notes(free)) == 40


def test_max_concurrency_bounds_retries_too(dask, tmp_path):
    path = tmp_path / "notes"

    @task(max_concurrency=2, max_retries=2, retry_delay=0)
    def shaky(x):
        note(path, "+")
        spend(0.02)
        note(path, "-")
        if context.task_run_count < 3:
            raise ValueError(x)
        return x

    with Flow("retries") as flow:
        children = shaky.map(range(8))
    state = flow.run(executor=dask)
    assert kinds(state.result[children]) == {"Success": 8}
    assert len(notes(path)) == 48
    assert most_at_once(path) <= 2


@pytest.mark.parametrize("size", [3, "auto"])
def test_max_concurrency_bounds_the_bodies_of_batches(dask, tmp_path, size):
    path = tmp_path / "notes"
    with Flow("batches") as flow:
        children = task(timed(path), max_concurrency=2, batch_size=size, name="batched").map(range(18))
    state = flow.run(executor=dask)
    assert kinds(state.result[children]) == {"Success": 18}
    assert most_at_once(path) <= 2


def test_tag_limit_is_shared_by_all_tasks_with_the_tag(dask_client, tmp_path):
    path = tmp_path / "notes"
    body = timed(path, together=2)
    with Flow("tags") as flow:
        first = task(body, name="first", tags=["db"]).map(range(12))
        second = task(body, name="second", tags=["db", "other"]).map(range(12))
    executor = DaskExecutor(client=dask_client, tag_limits={"db": 2})
    state = flow.run(executor=executor)
    assert kinds(state.result[first]) == kinds(state.result[second]) == {"Success": 12}
    assert most_at_once(path) == 2


def test_limit_of_a_later_step_bounds_that_step(dask, tmp_path):
    """Steps of a branch travel as one job, but only the limited one may wait."""
    path = tmp_path / "notes"
    with Flow("later") as flow:
        first = task(lambda x: x, name="first").map(range(15))
        second = task(timed(path), name="second", max_concurrency=1).map(first)
    state = flow.run(executor=dask)
    assert state.result[second].result == list(range(15))
    assert most_at_once(path) == 1


def test_rate_spaces_the_starts(dask, tmp_path):
    path = tmp_path / "notes"

    @task(rate="20/s")
    def work(x):
        note(path, time.time())
        return x

    with Flow("rate") as flow:
        children = work.map(range(21))
    began = time.time()
    state = flow.run(executor=dask)
    assert kinds(state.result[children]) == {"Success": 21}
    assert_spaced(map(float, notes(path)), began, 20)


def test_rate_bounds_retries_too(dask, tmp_path):
    path = tmp_path / "notes"

    @task(rate=20, max_retries=1, retry_delay=0)
    def work(x):
        note(path, x)
        if context.task_run_count == 1:
            raise ValueError(x)

    with Flow("rate") as flow:
        work.map(range(10))
    began = time.monotonic()
    assert flow.run(executor=dask).is_successful()
    assert len(notes(path)) == 20
    assert time.monotonic() - began >= 19 / 20


def test_what_waits_for_a_place_holds_none_of_the_cluster(dask, dask_client, tmp_path):
    """Others finish while a hundred children wait for the only place, which is held until they have."""
    path, gate = tmp_path / "notes", tmp_path / "gate"

    @task(max_concurrency=1)
    def hold(x):
        wait_for_file(gate, 30)
        return len(notes(path))

    @task
    def free(x):
        note(path, x)
        if x == 199:
            gate.touch()

    with Flow("waits") as flow:
        held = hold.map(range(100))
        free.map(range(200))
    state = flow.run(executor=dask)
    assert state.result[held].map_states[1].result == 200


def test_rate_bounds_the_children_of_batches(dask, tmp_path):
    path = tmp_path / "notes"

    @task(rate=20, batch_size=5)
    def work(x):
        note(path, x)

    with Flow("rate") as flow:
        work.map(range(20))
    began = time.monotonic()
    assert flow.run(executor=dask).is_successful()
    assert len(notes(path)) == 20
    assert time.monotonic() - began >= 19 / 20


@pytest.mark.parametrize("options", [{"max_concurrency": 1}, {"rate": "20/s"}], ids=["at once", "rate"])
def test_calls_and_maps_of_one_task_share_its_limits(spelled, tmp_path, options):
    path = tmp_path / "notes"
    limited = task(timed(path), name="limited", **options)

    def program():
        single = {f"call {i}": spelled.call(limited, i) for i in range(3)}
        return {**single, "map": limited.map(range(3)), "other": limited.map(range(3))}

    began = time.monotonic()
    states = spelled.states(program)
    assert all(state.is_successful() for state in states.values())
    assert len(notes(path)) == 18
    if "rate" in options:
        assert time.monotonic() - began > 8 / 20 - 0.05
    else:
        assert most_at_once(path) == 1


def test_a_task_with_another_limit_has_one_of_its_own(run, tmp_path):
    path = tmp_path / "notes"
    limited = task(timed(path), name="limited", max_concurrency=2)
    with Flow("own") as flow:
        limited.map(range(4))
        limited.copy(max_concurrency=1).map(range(4))
    state = run(flow)
    assert state.is_successful()
    assert most_at_once(path) <= 3
