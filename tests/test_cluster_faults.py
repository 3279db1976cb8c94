"""Workers and schedulers that die under a run: with real processes, which are really killed.

Tests carry the number of their row in the fault matrix: w - workers, s - schedulers, p - data, e - Dask itself.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time

import dask
import pytest
from real import (
    kinds,
    meanwhile,
    note,
    notes,
    time_limit,
    until,
    wait_for_file,
)

from prefectish import Flow, task, triggers
from prefectish.engine.state import Crashed, TriggerFailed
from prefectish.executors import DaskExecutor

pytestmark = pytest.mark.fault


@pytest.fixture(autouse=True)
def limit():
    with time_limit(120):
        yield


@pytest.fixture(autouse=True)
def few_deaths(request):
    """Have a task blamed after its second death, so that tests take half the time; one test keeps the default."""
    deaths = 3 if "default" in request.node.name else 1
    with dask.config.set({"distributed.scheduler.allowed-failures": deaths}):
        yield


def own(n_workers=2, threads=1, **options):
    return DaskExecutor(cluster_kwargs={"n_workers": n_workers, "threads_per_worker": threads}, **options)


def pids(path):
    """Return the process of each body that began, in order; its note ends in it."""
    return [int(line.split()[-1]) for line in notes(path)]


def bodies(path):
    """Return how often the body of each child began."""
    counts = {}
    for line in notes(path):
        index = int(line.split()[0])
        counts[index] = counts.get(index, 0) + 1
    return counts


@task(trigger=triggers.all_finished, skip_on_upstream_skip=False)
def count_good(xs):
    return sum(not isinstance(x, BaseException) for x in xs)


# ---------------------------------------------------------------------- workers that are killed


def test_w1_worker_killed_in_mid_run_costs_no_child_and_no_state(tmp_path):
    path = tmp_path / "notes"

    @task
    def work(x):
        note(path, f"{x} {os.getpid()}")
        return x

    def kill():
        until(lambda: len(notes(path)) >= 1200)
        os.kill(pids(path)[-1], signal.SIGKILL)

    with Flow("w1") as flow:
        children = work.map(range(2000))
        total = count_good(children)
    with meanwhile(kill):
        state = flow.run(executor=own(2, 2))
    assert state.is_successful()
    assert [child.result for child in state.result[children].map_states] == list(range(2000))
    assert state.result[total].result == 2000
    counts = bodies(path)
    assert set(counts) == set(range(2000))
    twice = sum(count - 1 for count in counts.values())
    assert twice <= 300, "what was recorded has run again"


def test_w2_worker_killed_after_the_last_record_reruns_nothing(tmp_path):
    path, gate = tmp_path / "notes", tmp_path / "gate"

    @task
    def work(x):
        note(path, f"{x} {os.getpid()}")
        return x

    @task
    def reduce(xs):
        note(tmp_path / "reduces", os.getpid())
        wait_for_file(gate)
        return len(xs)

    def kill():
        reducer = int(until(lambda: notes(tmp_path / "reduces"))[0])
        other = next(pid for pid in pids(path) if pid != reducer)
        os.kill(other, signal.SIGKILL)
        until(lambda: not os.path.exists(f"/proc/{other}"))
        gate.touch()

    with Flow("w2") as flow:
        out = reduce(work.map(range(300)))
    with meanwhile(kill):
        state = flow.run(executor=own())
    assert state.result[out].result == 300
    assert bodies(path) == dict.fromkeys(range(300), 1)
    assert len(notes(tmp_path / "reduces")) == 1


def deadly(path, how, bad=3, number=24, seconds=0.3):
    @task
    def work(x):
        note(path, f"{x} {os.getpid()}")
        if x == bad:
            how()
        time.sleep(seconds)
        return x

    with Flow("deadly") as flow:
        children = work.map(range(number))
        good = count_good(children)
        strict = count_good.copy(name="strict", trigger=triggers.all_successful)(children)
    flow.set_reference_tasks([children, strict])
    return flow, children, good, strict


@pytest.mark.parametrize(
    "how",
    [lambda: os._exit(7), lambda: ctypes.string_at(0), lambda: os.kill(os.getpid(), 9)],
    ids=["default-exit", "segfault", "sigkill"],
)
def test_w3_w4_child_that_kills_its_process_crashes_alone(tmp_path, how, request):
    path = tmp_path / "notes"
    flow, children, good, strict = deadly(path, how)
    state = flow.run(executor=own())
    states = state.result[children].map_states
    assert kinds(state.result[children]) == {"Success": 23, "Crashed": 1}
    crashed = states[3]
    deaths = 4 if "default" in request.node.name else 2
    assert crashed.message == f"worker died {deaths} times while running work-1[3]"
    assert crashed.cause == "killed-worker"
    assert str(crashed.result) == f"KilledWorker: {crashed.message}"
    assert [s.result for i, s in enumerate(states) if i != 3] == [i for i in range(24) if i != 3]
    assert state.result[good].result == 23
    assert type(state.result[strict]) is TriggerFailed
    assert state.is_failed()
    assert state.exit_code == 3
    assert bodies(path)[3] == 2 * deaths


def test_e4d_fast_poison_among_many_threads_does_not_hang(tmp_path):
    path = tmp_path / "notes"
    flow, children, good, _ = deadly(path, lambda: os._exit(7), bad=0, number=7, seconds=0.05)
    state = flow.run(executor=own(2, 4))
    assert kinds(state.result[children]) == {"Success": 6, "Crashed": 1}
    assert type(state.result[children].map_states[0]) is Crashed
    assert state.result[good].result == 6
