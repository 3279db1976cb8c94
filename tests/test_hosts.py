"""A client, a scheduler and workers on hosts of their own, between which the network is cut.

What is lost is lost in silence, as where a cable is pulled or a firewall drops: no process ends, and none is told.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import ExitStack

import dask
import hosts
import pytest
from real import kinds, meanwhile, note, notes, until, wait_for_file
from spellings import Spelled

from prefectish import Flow, task
from prefectish.engine.scheduling import crashes
from prefectish.executors import DaskExecutor
from prefectish.results import LocalResult

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.time_limit(90),
    pytest.mark.filterwarnings("ignore:.*unauthenticated scheduler"),
]

#: Seconds after which a connection counts as broken on which nothing arrives: the fewest that Dask takes, for its 30.
PATIENCE = 11
LARGE = 200_000


@pytest.fixture(scope="module")
def allowed():
    if reason := hosts.missing():
        pytest.skip(reason)


@pytest.fixture
def network(allowed, monkeypatch):
    """Hosts, with this test on one of them."""
    wait(monkeypatch, "tcp", PATIENCE)
    wait(monkeypatch, "connect", 4)
    with hosts.Network("client", "scheduler", "w1", "w2", "w3") as network, network.inside("client"):
        yield network


def wait(monkeypatch, what, seconds):
    """Set a time-out of Dask, here and in processes that are started from now on."""
    monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TIMEOUTS__{what.upper()}", f"{seconds}s")
    monkeypatch.setitem(dask.config.get("distributed.comm.timeouts"), what, f"{seconds}s")


def worker_name():
    from distributed import get_worker

    return get_worker().name


def bodies(path):
    """Return on which workers the body of each child began."""
    begun = {}
    for line in notes(path):
        index, worker = line.split()
        begun.setdefault(int(index), []).append(worker)
    return begun


def told(caplog, text, level=logging.WARNING):
    return [r.getMessage() for r in caplog.records if r.levelno >= level and text in r.getMessage()]


# ---------------------------------------------------------------------- between the scheduler and workers

WAYS = {
    "both ways": lambda network, host: network.cut(host, "scheduler"),
    "to it": lambda network, host: network.lose("scheduler", host),
    "from it": lambda network, host: network.lose(host, "scheduler"),
}


@pytest.mark.parametrize(("spelling", "way"), [("graph", "from it"), ("function", "to it")])
def test_w11_children_of_a_worker_that_is_cut_off_run_elsewhere(network, tmp_path, spelling, way):
    path, is_cut = tmp_path / "notes", tmp_path / "cut"

    @task
    def work(x):
        note(path, f"{x} {worker_name()}")
        wait_for_file(is_cut)
        return x

    def cut():
        until(lambda: "w1" in {line.split()[1] for line in notes(path)})
        WAYS[way](network, "w1")
        is_cut.touch()

    with hosts.cluster(network, "w1", "w2") as client:
        with meanwhile(cut):
            run = Spelled(spelling, DaskExecutor(client=client)).states(lambda: {"m": work.map(range(24))})
        assert list(client.scheduler_info()["workers"]) == [f"tcp://{network.address('w2')}:{hosts.WORKER_PORT}"]
    assert run["m"].result == list(range(24))
    begun = bodies(path)
    assert sorted(begun) == list(range(24))
    assert max(map(len, begun.values())) <= 2, begun


# ---------------------------------------------------------------------- between the client and the scheduler


def test_s8_network_that_is_cut_for_a_while_changes_no_state(network, tmp_path, monkeypatch, caplog):
    for what in ("tcp", "connect"):  # as they are by default
        wait(monkeypatch, what, 30)
    path, is_cut = tmp_path / "notes", tmp_path / "cut"

    @task
    def work(x):
        note(path, f"{x} {worker_name()}")
        if x > 4:
            wait_for_file(is_cut)
        return x

    def cut():
        until(lambda: len(notes(path)) > 5)
        network.cut("client", "scheduler")
        is_cut.touch()
        until(lambda: told(caplog, "the cluster has not answered for"))
        network.heal()

    with Flow("a while") as flow:
        children = work.map(range(40))
    with hosts.cluster(network, "w1", "w2") as client, meanwhile(cut):
        state = flow.run(executor=DaskExecutor(client=client), history=False)
    assert state.result[children].result == list(range(40))
    assert {len(workers) for workers in bodies(path).values()} == {1}
    assert len(told(caplog, "the cluster has not answered for")) == 1


@pytest.mark.parametrize("way", ["both ways", "to it", "from it"])
def test_s8_client_that_is_cut_off_ends_its_run_which_can_be_resumed(network, tmp_path, caplog, way):
    path, store, history = tmp_path / "notes", tmp_path / "store", tmp_path / "history.db"
    is_over = tmp_path / "over"
    store.mkdir()

    @task
    def work(x):
        note(path, f"{x} {worker_name()}")
        if x > 8:
            wait_for_file(is_over, 80)
        return x

    @task
    def total(xs):
        return sum(xs)

    with Flow("cut off", result=LocalResult(store)) as flow:
        children = work.map(range(60))
        after = total(children)
    with hosts.cluster(network, "w1", "w2") as client:
        executor = DaskExecutor(client.scheduler.address)
        run = flow.start(executor=executor, history=history)
        until(lambda: run.counts(children).get("Success", 0) > 4)
        WAYS[way](network, "client")
        state = run.wait(80)
        network.heal()
        is_over.touch()
        states = state.result[children].map_states
        assert set(kinds(state.result[children])) == {"Success", "Crashed"}, state
        assert {s.cause for s in states if s.is_failed()} == {"scheduler-lost"}
        assert state.result[after].is_finished()
        assert state.exit_code == 3
        ident = state.context["flow_run_id"]
        assert len(told(caplog, f"flow.resume('{ident}') continues it")) == 1
        done = {x for x, s in enumerate(states) if s.is_successful()}
        again = flow.resume(ident, executor=executor, history=history)
    assert again.result[after].result == sum(range(60))
    begun = bodies(path)
    assert {len(begun[x]) for x in done} == {1}, "what was done ran again"


def test_results_that_the_client_cannot_fetch_itself_come_by_the_scheduler(network, tmp_path):
    @task
    def make(x):
        return bytes([x]) * LARGE

    @task
    def last(x):
        return x[-1]

    network.cut("client", "w1", "w2")
    with Flow("behind a wall") as flow:
        made = make.map(range(8))
        out = last.map(made)
    with hosts.cluster(network, "w1", "w2") as client:
        state = flow.run(executor=DaskExecutor(client=client), history=False, keep_results=True)
        assert state.result[made].result == [bytes([x]) * LARGE for x in range(8)]
    assert state.result[out].result == list(range(8))


# ---------------------------------------------------------------------- between workers


@pytest.mark.parametrize("heals", [False, True], ids=["for good", "for a while"])
def test_w19_input_of_a_worker_that_cannot_reach_another_is_brought_there(network, tmp_path, caplog, heals):
    path = tmp_path / "notes"

    @task
    def make(x):
        note(path, f"{x} {worker_name()}")
        wait_for_file(tmp_path / "both")
        return bytes([x]) * LARGE

    @task
    def total(xs):
        return sum(x[0] for x in xs)

    def go_on():
        until(lambda: {line.split()[1] for line in notes(path)} == {"w1", "w2"})
        (tmp_path / "both").touch()
        if heals:
            until(lambda: told(caplog, " waits for data: "))
            network.heal()

    with Flow("between workers") as flow:
        out = total(make.map(range(6)))
    network.cut("w1", "w2")
    with hosts.cluster(network, "w1", "w2") as client:
        executor = DaskExecutor(client=client, no_workers_timeout=60 if heals else 4, stall_warning=3)
        with meanwhile(go_on):
            state = flow.run(executor=executor, history=False)
    assert state.is_successful(), state
    assert state.result[out].result == 15
    assert bool(told(caplog, "they are brought there")) != heals


def test_w19_input_that_nobody_can_fetch_is_lost_by_name(network, tmp_path, monkeypatch):
    """W19. A firewall lets nobody connect any more to the worker that has it, while the worker lives."""
    monkeypatch.setattr(crashes, "RESENDS", 0)
    gate = tmp_path / "gate"

    @task(workers=["w1"])
    def make(x):
        return bytes([x]) * LARGE

    @task(workers=["w2"])
    def hold():
        wait_for_file(gate)

    @task(workers=["w2"])
    def total(xs, held):
        return len(xs)

    with Flow("nobody") as flow:
        made = make.map(range(3))
        out = total(made, hold())
    with hosts.cluster(network, "w1", "w2") as client:
        run = flow.start(executor=DaskExecutor(client=client, no_workers_timeout=4), history=False)
        until(lambda: run.counts(made).get("Success") == 3)
        network.shut("w1", hosts.WORKER_PORT)
        gate.touch()
        state = run.wait(50)
    assert kinds(state.result[made]) == {"Success": 3}
    lost = state.result[out]
    assert lost.cause == "input-lost", lost
    assert f"tcp://{network.address('w2')}:{hosts.WORKER_PORT} could not fetch make[" in lost.message
    assert state.exit_code == 3


# ---------------------------------------------------------------------- workers that cannot be connected to


def test_w25_result_of_a_worker_that_cannot_be_connected_to_is_lost_by_name(network, caplog):
    @task
    def make(x):
        return x

    network.shut("w1", hosts.WORKER_PORT)
    with hosts.cluster(network, "w1", "w2") as client:
        executor = DaskExecutor(client=client, no_workers_timeout=5)
        state = Spelled("function", executor).states(lambda: {"m": make.map(range(8))})["m"]
    address = f"tcp://{network.address('w1')}:{hosts.WORKER_PORT}"
    lost = [s for s in state.map_states if s.is_failed()]
    assert 0 < len(lost) < 8
    assert {s.cause for s in lost} == {"cluster-error"}
    assert all(f"the scheduler could not connect to {address}, which has its result" in s.message for s in lost)
    assert len(told(caplog, f"the scheduler cannot connect to {address}, which has the result of ")) == 1


# ---------------------------------------------------------------------- workers that join


def test_w23_late_workers_with_disks_of_their_own_are_sent_away(network, tmp_path, caplog):
    store, path = tmp_path / "store", tmp_path / "notes"
    store.mkdir()

    @task
    def work(x):
        note(path, f"{x} {worker_name()}")
        wait_for_file(tmp_path / "gone")
        return bytes([x]) * LARGE

    with Flow("late", result=LocalResult(store)) as flow:
        out = work.map(range(16))
    with ExitStack() as stack:
        client = stack.enter_context(hosts.cluster(network, "w1"))

        def join():
            until(lambda: notes(path))
            late = [stack.enter_context(hosts.worker_on(network, host, hidden=store)) for host in ("w2", "w3")]
            until(lambda: all(process.poll() is not None for process in late))
            (tmp_path / "gone").touch()

        with meanwhile(join):
            state = flow.run(executor=DaskExecutor(client=client), history=False)
        assert state.is_successful(), state
        assert state.result[out].result == [bytes([x]) * LARGE for x in range(16)]
    assert Counter(worker for workers in bodies(path).values() for worker in workers) == {"w1": 16}
    said = told(caplog, "which joined late: it was sent away", logging.ERROR)
    assert all("is not shared: what the client wrote there is not to be found" in text for text in said)
    named = sorted(text.partition("on worker tcp://")[2].partition(":")[0] for text in said)
    assert named == [network.address("w2"), network.address("w3")]
