"""Short children that workers were given ahead of their turn: what becomes of them, and of others, when it goes wrong.

Tests carry the number of their row in the fault matrix.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager

import dask
import pytest
from distributed import Client, LocalCluster
from real import kinds, note, notes, spend, until

from prefectish import Flow, flow, task, wait
from prefectish.engine.state import Crashed, Mapped
from prefectish.executors import DaskExecutor

pytestmark = [pytest.mark.time_limit(240), pytest.mark.fault]


@contextmanager
def local_cluster():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**options) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


def mapped(style, work, items, client):
    """Map a task, in either front end, or call it for each item; return the state of the map, or of all calls."""
    executor = DaskExecutor(client=client)
    if style == "graph":
        with Flow("ahead") as graph:
            children = work.map(items)
        return graph.run(executor=executor, history=False).result[children]

    @flow(executor=executor, history=False)
    def function():
        if style == "function":
            children = work.map(items)
        else:
            children = [work.submit(x) for x in items[:100]]
            wait(children)  # how short they are is known from here on, however long the first one took to begin
            children += [work.submit(x) for x in items[100:]]
        wait(children)
        found.append(children.state if style == "function" else Mapped(map_states=[child.state for child in children]))

    found = []
    function(return_state=True)
    return found[0]


def runs_of(path):
    """Return how often the body of each child began."""
    return Counter(int(line.split()[0]) for line in notes(path))


@pytest.mark.parametrize("style", ["graph", "function", "calls"])
def test_w26_short_neighbours_of_a_poison_child_run_at_most_once_more(tmp_path, style):
    path = tmp_path / "notes"

    @task
    def work(x):
        note(path, f"{x}")
        if x == 400:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), local_cluster() as client:
        state = mapped(style, work, range(700), client)
    assert kinds(state) == {"Success": 699, "Crashed": 1}
    assert type(state.map_states[400]) is Crashed
    begun = runs_of(path)
    assert begun.pop(400) == 4, "two deaths among others, two alone"
    assert set(begun) == set(range(700)) - {400}
    assert max(begun.values()) <= 2


def test_w26_worker_that_is_killed_from_outside_costs_no_short_child(tmp_path):
    path = tmp_path / "notes"

    @task
    def work(x):
        note(path, f"{x} {os.getpid()}")
        spend(0.001)
        return x

    def kill_one():
        lines = until(lambda: len(found := notes(path)) > 400 and found)
        os.kill(int(lines[-1].split()[1]), signal.SIGKILL)

    with local_cluster() as client:
        killer = threading.Thread(target=kill_one)
        killer.start()
        state = mapped("graph", work, range(2000), client)
        killer.join()
    assert kinds(state) == {"Success": 2000}
    assert max(runs_of(path).values()) <= 2


def test_w27_map_of_another_client_has_its_share_of_the_workers(tmp_path):
    path = tmp_path / "notes"

    def work(x):
        note(path, f"{x}")
        spend(0.005)  # the workers are never without some of ours
        return time.time()

    with local_cluster() as client, Client(client.scheduler.address, set_as_default=False) as other:
        with Flow("ours") as ours:
            children = task(work).map(range(2500))
        runs = []
        running = threading.Thread(
            target=lambda: runs.append(ours.run(executor=DaskExecutor(client=client), history=False))
        )
        running.start()
        until(lambda: len(notes(path)) > 500)
        began = time.time()
        theirs = other.gather(other.map(work, range(10_000, 10_200), pure=False))
        ended = time.time()
        running.join()
    ours_ended = runs[0].result[children].result
    assert min(theirs) - began < 10.0, "2 s on a machine that does nothing else"
    meanwhile = sum(began < moment < ended for moment in ours_ended)
    assert len(theirs) / (len(theirs) + meanwhile) >= 0.4 / 2, "fair are halves"
    assert max(ours_ended) > ended


@pytest.mark.parametrize(("number", "seconds"), [(1000, 0.0), (60, 0.1)], ids=["ahead", "queued"])
@pytest.mark.parametrize("style", ["graph", "function", "calls"])
def test_w28_no_short_child_waits_behind_a_long_one(tmp_path, style, number, seconds):
    """The long one ends when all others have: if one of them waited behind it, none would end.

    Dask moves tasks by itself, but not what takes less time than the bytes that it reads; here it moves none.
    """
    path = tmp_path / "notes"

    @task
    def work(x):
        if x == number // 2:
            until(lambda: len(notes(path)) == number - 1, 120)
        else:
            spend(seconds)
            note(path, f"{x}")
        return x

    with dask.config.set({"distributed.scheduler.work-stealing-interval": "1 hour"}), local_cluster() as client:
        state = mapped(style, work, range(number), client)
    assert kinds(state) == {"Success": number}
