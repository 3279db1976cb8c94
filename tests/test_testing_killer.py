"""WorkerKiller: real processes of a temporary cluster die, and it tells which."""

from __future__ import annotations

import os

import pytest
from real import meanwhile, note, notes, until, wait_for_file

from prefectish import Flow, task
from prefectish.executors import DaskExecutor, LocalExecutor
from prefectish.testing import WorkerKiller

pytestmark = pytest.mark.time_limit(180)


def own(n_workers=2):
    return DaskExecutor(cluster_kwargs={"n_workers": n_workers, "threads_per_worker": 1})


def working(tmp_path, width=6):
    """Return a flow whose bodies wait for a gate, and the task of them."""
    path, gate = tmp_path / "notes", tmp_path / "gate"

    @task(crash_retries=5)
    def work(x):
        note(path, os.getpid())
        wait_for_file(gate, 120)
        return x

    with Flow("killed") as flow:
        children = work.map(range(width))
    return flow, children


def open_gate_after(killer, kills, tmp_path):
    until(lambda: len(killer.killed) == kills, 90)
    (tmp_path / "gate").touch()


@pytest.mark.fault
@pytest.mark.parametrize("mode", ["kill", "segfault"])
def test_killer_ends_processes_of_workers_and_the_run_survives_it(tmp_path, mode):
    flow, children = working(tmp_path)
    killer = WorkerKiller(own(), mode=mode, most=2, interval=(0.3, 0.6), seed=3)
    with meanwhile(open_gate_after, killer, 2, tmp_path):
        state = flow.run(executor=killer, history=False)
    assert [child.result for child in state.result[children].map_states] == list(range(6))
    assert [kill.mode for kill in killer.killed] == [mode, mode]
    assert killer.killed[0].seconds <= killer.killed[1].seconds
    known = {int(pid) for pid in notes(tmp_path / "notes")} | {kill.pid for kill in killer.killed}
    assert len(known) >= 3, "workers took the place of those that were killed"


@pytest.mark.fault
def test_killer_stops_a_worker_for_a_while(tmp_path):
    flow, children = working(tmp_path, width=4)
    killer = WorkerKiller(own(), mode="stop", most=1, stopped=0.5, interval=(0.1, 0.2))
    with meanwhile(open_gate_after, killer, 1, tmp_path):
        state = flow.run(executor=killer, history=False)
    assert state.result[children].result == list(range(4))
    assert [kill.mode for kill in killer.killed] == ["stop"]
    assert len(set(notes(tmp_path / "notes"))) == 2, "nobody died"


@pytest.mark.fault
def test_killer_of_a_client_kills_in_its_block(tmp_path):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        before = client.run(os.getpid)
        with WorkerKiller(client, most=1, interval=(0, 0)) as killer:
            until(lambda: killer.killed)
        (kill,) = killer.killed
        assert before == {kill.worker: kill.pid}
        client.wait_for_workers(1, timeout=60)
        until(lambda: set(client.scheduler_info()["workers"]) - set(before), 60)
        with pytest.raises(TypeError, match="created with a client"), killer.start(None, {}):
            pass


def test_killer_needs_a_cluster():
    with Flow("local") as flow:
        task(len, name="width")("abc")
    with pytest.raises(TypeError, match="<LocalExecutor> has no cluster with workers to kill; use a DaskExecutor"):
        flow.run(executor=WorkerKiller(LocalExecutor()), history=False)


def test_killer_needs_nannies():
    class Client:
        def scheduler_info(self):
            raise NotImplementedError

        class scheduler:
            identity = None

        def sync(self, call, **options):
            return {"workers": {"inproc://1": {"name": 0, "nanny": None}}}

    with pytest.raises(TypeError, match="have no nannies"), WorkerKiller(Client()):
        pass


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"mode": "poke"}, ValueError, "mode must be one of 'kill', 'stop', 'segfault', 'terminate', got 'poke'"),
        ({"mode": ()}, ValueError, "mode must be one of 'kill', 'stop', 'segfault', 'terminate', got ''"),
        ({"interval": (2, 1)}, ValueError, "interval must be the shortest and the longest time in seconds, >= 0,"),
        ({"interval": (-1, 1)}, ValueError, "interval must be the shortest and the longest time in seconds, >= 0,"),
        ({"most": -1}, ValueError, "most must be >= 0, got -1"),
    ],
)
def test_killer_refuses_what_makes_no_sense(options, error, text):
    with pytest.raises(error, match=text.replace("(", r"\(")):
        WorkerKiller(LocalExecutor(), **options)


def test_killer_refuses_what_has_no_workers():
    with pytest.raises(TypeError, match=r"target must be a DaskExecutor or a Client, got 'tcp://127\.0\.0\.1:8786'"):
        WorkerKiller("tcp://127.0.0.1:8786")


def test_killer_draws_the_same_times_for_the_same_seed():
    def draws(seed):
        killer = WorkerKiller(LocalExecutor(), seed=seed, interval=(1, 9))
        return [killer.pause() for _ in range(5)]

    assert draws(1) == draws(1) != draws(2)
    assert all(1 <= pause <= 9 for pause in draws(1))
