"""More memory on the next try: where a child runs is asked each time, and a death of memory is tried again at once.

The cluster has two small workers and a large one, each with its memory as a resource.
"""

from __future__ import annotations

import os
import time

import dask as dask_package
import pytest
from distributed import Client, LocalCluster
from real import kinds, note, notes, spend

from prefectish import Flow, flow, task
from prefectish.engine.state import Failed, TimedOut
from prefectish.executors import DaskExecutor

pytestmark = [pytest.mark.time_limit(120), pytest.mark.fault]

SMALL, LARGE = 350_000_000, 1_400_000_000


@pytest.fixture(scope="module")
def client():
    """Two workers of 350 MB, one of 1.4 GB."""
    with (
        # On a loaded machine a worker takes long to come back, and Dask would give its nanny up.
        dask_package.config.set({"distributed.deploy.lost-worker-timeout": "10 minutes"}),
        LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as made,
    ):
        (common,) = cluster.new_worker_spec().values()
        for name, size in (("small-1", SMALL), ("small-2", SMALL), ("large", LARGE)):
            options = {**common["options"], "name": name, "memory_limit": size, "resources": {"MEMORY": size}}
            cluster.worker_spec[name] = {**common, "options": options}
        made.sync(cluster._correct_state)
        made.wait_for_workers(3, 60)
        yield made


@pytest.fixture
def dask(client):
    client.wait_for_workers(3, 60)  # one of the last test may still be on its way back
    return DaskExecutor(client=client)


def grow(size):
    """Take so much memory, as fast as a worker can be watched."""
    taken = []
    while sum(map(len, taken)) < size:
        taken.append(b"x" * 20_000_000)
        spend(0.05)
    spend(0.5)


def memory(item, run_count):
    return {"MEMORY": SMALL * 2 ** (run_count - 1)}


def where():
    from distributed import get_worker

    return get_worker().name


def first_small(item, run_count):
    return ["small-1", "small-2"] if run_count == 1 else None


@pytest.mark.parametrize("style", ["flow", "map", "submit"])
def test_w15_child_that_needs_more_memory_gets_it_at_its_next_try(dask, tmp_path, style, caplog):
    path = tmp_path / "notes"

    @task(resources=memory, workers=first_small, crash_retries=3)
    def work(x):
        note(path, f"{x} {where()}")
        if x == 3:
            grow(600_000_000)
        return where()

    @flow(executor=dask)
    def in_function():
        if style == "map":
            return work.map(range(8)).result()
        return [future.result() for future in [work.submit(x) for x in range(8)]]

    if style == "flow":
        with Flow("memory") as recorded:
            work.map(range(8))
        state = recorded.run(executor=dask, history=False)
    else:
        state = in_function.run(history=False)
    assert state.is_successful(), state
    begun = [line.split()[1] for line in notes(path) if line.startswith("3 ")]
    assert begun[0] in ("small-1", "small-2")
    assert begun[-1] == "large", begun
    assert len(begun) == 2, "one death doubles what it asks for, which only the large worker has"
    others = [line for line in notes(path) if not line.startswith("3 ")]
    assert len(others) == 7, "no sibling ran twice"
    assert "Task 'work[3]': its worker ran out of memory" in caplog.text


def test_w15_child_too_large_for_all_its_tries_crashes_after_them(dask, tmp_path):
    path = tmp_path / "notes"

    @task(resources=lambda item, run_count: {"MEMORY": SMALL}, workers=["small-1", "small-2"], crash_retries=1)
    def work(x):
        note(path, x)
        if x == 1:
            grow(600_000_000)
        return x

    with Flow("too-large") as recorded:
        out = work.map(range(4))
    state = recorded.run(executor=dask, history=False)
    mapped = state.result[out]
    assert kinds(mapped) == {"Success": 3, "Crashed": 1}
    assert mapped.map_states[1].message == "worker died 2 times while running work-1[1] (possibly out of memory)"
    assert mapped.map_states[1].evidence["out_of_memory"]
    assert notes(path).count("1") == 2
    assert state.exit_code == 3


def test_items_that_lie_on_workers_are_asked_there_in_pages(dask, tmp_path):
    path, driver = tmp_path / "notes", os.getpid()

    @task
    def make(x):
        return bytes([x % 256]) * 20_000

    def chosen(item, run_count):
        note(path, f"{os.getpid()} {len(item)} {run_count}")
        return ["large"] if item[0] % 2 else ["small-1"]

    @task(workers=chosen)
    def work(data):
        return data[0], where()

    with Flow("near") as recorded:
        out = work.map(make.map(range(150)))
    state = recorded.run(executor=dask, history=False)
    assert state.is_successful(), state
    assert state.result[out].result == [(x % 256, "large" if x % 2 else "small-1") for x in range(150)]
    asked = [line.split() for line in notes(path)]
    assert len(asked) == 150
    assert {line[1:][0] for line in asked} == {"20000"}
    assert str(driver) not in {pid for pid, _, _ in asked}, "an item was fetched to be asked for"


def test_single_task_is_asked_with_its_first_argument(dask):
    @task(workers=lambda name, run_count: [name])
    def work(name, other):
        return where()

    with Flow("single") as recorded:
        out = work("large", 1)
    assert recorded.run(executor=dask, history=False).result[out].result == "large"


def test_retry_is_asked_again(dask):
    @task(workers=lambda item, run_count: ["large" if run_count > 1 else "small-1"], max_retries=1, retry_delay=0)
    def work(x):
        if where() != "large":
            raise ValueError("not here")
        return where()

    with Flow("retry") as recorded:
        out = work.map([1])
    assert recorded.run(executor=dask, history=False).result[out].result == ["large"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda item, run_count: {"MEMORY": 1 / item}, "ZeroDivisionError"),
        (lambda item, run_count: {"MEMORY": -1} if not item else {}, "resources['MEMORY'] must be > 0, got -1"),
        (lambda item, run_count: "much" if not item else {}, "resources must be a dict of name to amount, got 'much'"),
    ],
    ids=["raises", "negative", "text"],
)
def test_child_whose_place_cannot_be_asked_fails_alone(dask, answer, told):
    @task(resources=answer)
    def work(x):
        return x

    with Flow("unplaced") as recorded:
        out = work.map([1, 0, 2])
    state = recorded.run(executor=dask, history=False)
    first, second, third = state.result[out].map_states
    assert (first.result, third.result) == (1, 2)
    assert type(second) is Failed
    assert told in second.message, second.message
    assert "work[1]" in second.message


@pytest.mark.parametrize("option", ["resources", "workers", "priority"])
def test_t11_child_whose_place_is_asked_for_too_long_has_timed_out(dask, option):
    """The thread of the run asks: nothing else would move."""

    def slow(item, run_count):
        if not item:
            spend(8)
        return 0 if option == "priority" else None

    @task(timeout=0.5, **{option: slow})
    def work(x):
        return x

    with Flow("unplaced") as recorded:
        out = work.map([1, 0, 2])
    began = time.monotonic()
    first, second, third = recorded.run(executor=dask, history=False).result[out].map_states
    assert time.monotonic() - began < 8
    assert (first.result, type(second), third.result) == (1, TimedOut, 2)
    assert "the functions that say where it runs did not end within timeout=0.5 s" in second.message


def test_priority_may_follow_from_item_and_run_count(dask):
    @task
    def make(x):
        return b"x" * 50_000

    @task(priority=lambda item, run_count: len(item) + run_count)
    def work(data):
        return len(data)

    with Flow("priorities") as recorded:
        out = work.map(make.map(range(20)))
    assert recorded.run(executor=dask, history=False).result[out].result == [50_000] * 20
