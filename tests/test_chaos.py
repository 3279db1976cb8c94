"""Thousands of children while workers are killed, paused, retired and cut off: the answer is exact, one record each.

``pytest -m chaos`` runs three seeds of 2,000 children; PREFECTISH_CHAOS_SEEDS=20 and PREFECTISH_CHAOS_CHILDREN=20000
run more. Seeds are numbers from 1, so that a failure can be run again with ``-k seed-7``.
"""

from __future__ import annotations

import faulthandler
import os
import random
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress

import dask
import hosts
import pytest
from distributed import Client, LocalCluster
from real import note, notes, spend

from prefectish import Flow, history, task
from prefectish.executors import DaskExecutor
from prefectish.results import LocalResult
from prefectish.testing import WorkerKiller

SEEDS = int(os.environ.get("PREFECTISH_CHAOS_SEEDS", "3"))
CHILDREN = int(os.environ.get("PREFECTISH_CHAOS_CHILDREN", "2000"))
pytestmark = [pytest.mark.chaos, pytest.mark.time_limit(300 + CHILDREN * 0.1)]
#: Workers killed, at most, for each thousand of children.
KILLS = 3
#: Seconds of a body.
SECONDS = 0.01
#: Seconds after which a connection counts as broken on which nothing arrives: the fewest that Dask takes, for its 30.
PATIENCE = 11
#: Seconds within which the cluster hears that a value was read and is let go of.
LET_GO = 1.0


@pytest.fixture(autouse=True)
def no_dump():
    faulthandler.cancel_dump_traceback_later()  # many children take longer than any other test may


def killing(executor, seed, mode):
    return WorkerKiller(executor, mode=mode, most=KILLS * CHILDREN // 1000, interval=(0.3, 1.2), seed=seed)


def own():
    return DaskExecutor(cluster_kwargs={"n_workers": 2, "threads_per_worker": 2})


@pytest.mark.parametrize("seed", range(1, SEEDS + 1), ids=lambda seed: f"seed-{seed}")
def test_w14_workers_killed_at_random_cost_no_child(tmp_path, seed):
    path, database = tmp_path / "notes", str(tmp_path / "history.db")

    @task
    def work(x):
        note(path, f"{x} {time.time()}")
        spend(SECONDS)
        return x

    @task
    def double(x):
        return 2 * x

    @task
    def total(xs):
        return sum(xs)

    with Flow("chaos") as flow:
        worked = work.map(range(CHILDREN))
        out = total(double.map(worked))
    killer = killing(own(), seed, ("kill", "segfault", "terminate"))
    state = flow.run(executor=killer, history=database)
    assert state.is_successful(), state
    assert killer.killed, "nobody was killed: the run was over before"
    assert state.result[out].result == CHILDREN * (CHILDREN - 1)
    assert state.result[worked].result == list(range(CHILDREN))
    (run,) = history.runs(store=database)
    for slug in ("work-1", "double-1"):
        children = run.children(slug)
        assert sorted(child.index for child in children) == list(range(CHILDREN))
        assert {(child.state, child.attempts) for child in children} == {("Success", 1)}
    recorded = {child.index: child.at.timestamp() for child in run.children("work-1")}
    bodies = [(int(index), float(began)) for index, began in map(str.split, notes(path))]
    assert {index for index, _ in bodies} == set(range(CHILDREN))
    late = [index for index, began in bodies if began > recorded[index] + LET_GO]
    assert len(late) <= 2 * len(killer.killed), "what was recorded has run again"


@pytest.mark.parametrize("seed", range(1, SEEDS + 1), ids=lambda seed: f"seed-{seed}")
def test_w14_attempts_that_must_not_run_twice_do_not(tmp_path, seed):
    """With rerun_on_loss=False a body begins once; what was lost has crashed, and everything else has its result."""
    path = tmp_path / "notes"
    number = CHILDREN // 20

    @task(rerun_on_loss=False)
    def work(x):
        note(path, x)
        spend(20 * SECONDS)  # longer than what lies between two bodies: a worker that is killed is in one of them
        return x

    with Flow("once", result=LocalResult(tmp_path / "results")) as flow:
        worked = work.map(range(number))
    killer = WorkerKiller(own(), mode="kill", most=3, interval=(1.0, 2.0), seed=seed)
    with dask.config.set({"distributed.scheduler.allowed-failures": 20}):
        state = flow.run(executor=killer, history=False)
    assert killer.killed
    states = state.result[worked].map_states
    assert len(states) == number
    assert {type(s).__name__ for s in states} <= {"Success", "Crashed"}
    assert {s.cause for s in states if s.is_failed()} <= {"attempt-lost"}
    assert [s.result for s in states if s.is_successful()] == [i for i, s in enumerate(states) if s.is_successful()]
    bodies = [int(line) for line in notes(path)]
    assert len(bodies) == len(set(bodies)), "a body began twice"
    # A worker may die between the marker and the first line of the body.
    assert {i for i, s in enumerate(states) if s.is_successful()} <= set(bodies)


class Weather:
    """What happens to the workers of a cluster: killed, paused for a while, retired, and new ones that join late."""

    happens = ("kill", "pause", "retire", "join")

    def __init__(self, cluster, client, seed):
        self.cluster, self.client = cluster, client
        self.random = random.Random(seed)
        self.happened = Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self._thread.join(60)

    def _go_on(self):
        while not self._over.wait(self.random.uniform(0.5, 1.5)):
            what = self.random.choice(self.happens)
            workers = sorted(self.client.scheduler_info(n_workers=-1)["workers"])
            if what == "join" or not workers:
                self.join(workers)
                self.happened["join"] += 1
                continue
            with suppress(OSError, ValueError, KeyError):  # it has left in this moment
                getattr(self, what)(self.random.choice(workers))
                self.happened[what] += 1

    def join(self, workers):
        self.cluster.scale(len(self.cluster.worker_spec) + (len(workers) < 4))

    def kill(self, address):
        self.client.run(os._exit, 1, workers=[address], on_error="ignore")

    def pause(self, address):
        for status in ("paused", "running"):
            self.client.run(set_status, status, workers=[address], on_error="ignore")
            if self._over.wait(0.7):
                continue

    def retire(self, address):
        self.client.retire_workers([address], close_workers=True)


def set_status(status, dask_worker=None):
    from distributed import Status

    dask_worker.status = Status[status]


class Storm(Weather):
    """The same on hosts, between which the network is cut, too: shorter and longer than Dask waits.

    Parameters
    ----------
    network
        Hosts; those whose names begin with "w" are for workers.
    stack
        Ends workers that it started.
    """

    happens = (*Weather.happens, "part", "part")

    def __init__(self, network, client, seed, stack):
        super().__init__(None, client, seed)
        self.network, self.stack = network, stack
        self._processes = {}

    def join(self, workers):
        there = {host for host in self.hosts() if any(self.network.address(host) in each for each in workers)}
        for host in self.hosts():
            process = self._processes.get(host)
            if host not in there and (process is None or process.poll() is not None):
                self._processes[host] = self.stack.enter_context(hosts.worker_on(self.network, host))
                return

    def hosts(self):
        return [host for host in self.network.hosts if host.startswith("w")]

    def part(self, address):
        """Cut a host off from the scheduler and the others, one way or both, for a moment or for longer."""
        host = next(host for host in self.hosts() if self.network.address(host) in address)
        for other in ("scheduler", *self.hosts()):
            if other != host:
                self.network.lose(host, other)
                if self.random.random() < 0.7:
                    self.network.lose(other, host)
        self._over.wait(self.random.choice((0.5, 2.0, PATIENCE + 2.0)))
        self.network.heal()


@pytest.mark.filterwarnings("ignore:.*unauthenticated scheduler")
@pytest.mark.parametrize("seed", range(1, SEEDS + 1), ids=lambda seed: f"seed-{seed}")
def test_w14_network_that_is_cut_at_random_costs_no_child(tmp_path, monkeypatch, seed):
    if reason := hosts.missing():
        pytest.skip(reason)
    for what, seconds in (("tcp", PATIENCE), ("connect", 4)):
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TIMEOUTS__{what.upper()}", f"{seconds}s")
        monkeypatch.setitem(dask.config.get("distributed.comm.timeouts"), what, f"{seconds}s")
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "20")
    database, number = str(tmp_path / "history.db"), CHILDREN // 4

    @task(crash_retries=20)
    def work(x):
        spend(10 * SECONDS)
        return bytes([x % 256]) * (20_000 if x % 10 == 0 else 1)

    @task(crash_retries=20)
    def total(xs):
        return sum(map(len, xs))

    with Flow("storm") as flow:
        worked = work.map(range(number))
        out = total(worked)
    with (
        hosts.Network("client", "scheduler", "w1", "w2", "w3", "w4") as network,
        network.inside("client"),
        ExitStack() as stack,
        hosts.cluster(network, "w1", "w2", "w3") as client,
        Storm(network, client, seed, stack) as storm,
    ):
        state = flow.run(executor=DaskExecutor(client=client), history=database)
        happened = storm.happened.copy()
        network.heal()
    assert state.is_successful(), state
    assert happened["part"], f"the network was never cut: {happened}"
    assert state.result[out].result == number + 19_999 * len(range(0, number, 10))
    (run,) = history.runs(store=database)
    children = run.children("work-1")
    assert sorted(child.index for child in children) == list(range(number))
    assert {child.state for child in children} == {"Success"}


@pytest.mark.parametrize("seed", range(1, SEEDS + 1), ids=lambda seed: f"seed-{seed}")
def test_w14_workers_that_are_killed_paused_retired_and_join_late_cost_no_child(tmp_path, seed):
    database = str(tmp_path / "history.db")
    number = CHILDREN // 2

    @task(crash_retries=20)
    def work(x):
        spend(SECONDS)
        return x

    @task(crash_retries=20)
    def total(xs):
        return sum(xs)

    with Flow("weather") as flow:
        worked = work.map(range(number))
        out = total(worked)
    settings = {
        "distributed.scheduler.allowed-failures": 20,
        "distributed.worker.memory.pause": False,  # or it ends each pause at once
        "distributed.deploy.lost-worker-timeout": "2 minutes",
    }
    with (
        dask.config.set(settings),
        LocalCluster(n_workers=3, threads_per_worker=2, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
        Weather(cluster, client, seed) as weather,
    ):
        state = flow.run(executor=DaskExecutor(client=client), history=database)
        happened = sum(weather.happened.values())
    assert state.is_successful(), state
    assert happened, "nothing happened: the run was over before"
    assert state.result[out].result == number * (number - 1) // 2
    (run,) = history.runs(store=database)
    children = run.children("work-1")
    assert sorted(child.index for child in children) == list(range(number))
    assert {child.state for child in children} == {"Success"}
