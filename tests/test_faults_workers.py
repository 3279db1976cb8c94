"""Workers that run out of memory or disk, freeze, lose their link, or have a wrong clock: with real processes.

Tests carry the number of their row in the fault matrix.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta

import dask
import pytest
from bodies import count_good
from distributed import Client, LocalCluster
from proxy import proxy_to
from real import command_line_scheduler, command_line_worker, kinds, meanwhile, note, notes, running, spend, until
from spellings import SPELLINGS, Spelled

from prefectish import Flow, flow, history, task, triggers
from prefectish.engine.state import Crashed, Success
from prefectish.executors import DaskExecutor, LocalDaskExecutor
from prefectish.results import LocalResult
from prefectish.tasks import task_input_hash

pytestmark = [pytest.mark.time_limit(240), pytest.mark.fault]


def counts(path):
    """Return how often the body of each child began."""
    found = {}
    for line in notes(path):
        index = int(line.split()[0])
        found[index] = found.get(index, 0) + 1
    return found


def slow_work(path):
    """Return a task that notes its item and its process."""

    @task
    def work(x):
        note(path, f"{x} {os.getpid()}")
        spend(0.05)
        return x

    return work


@contextmanager
def local_cluster(n_workers=2, **options):
    given = {"n_workers": n_workers, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", **options}
    with LocalCluster(**given) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


# ---------------------------------------------------------------------- memory


@pytest.mark.parametrize("kind", ["temporary", "client"])
def test_w5_child_whose_worker_runs_out_of_memory_crashes_alone(tmp_path, kind):
    path = tmp_path / "notes"

    @task
    def work(x):
        note(path, f"{x} {os.getpid()}")
        grown = []
        while x == 3:
            grown.append(bytearray(10_000_000))
            spend(0.01)
        return x

    with Flow("w5") as flow:
        children = work.map(range(12))
        good = count_good(children)
        strict = count_good.copy(name="strict", trigger=triggers.all_successful)(children)
    flow.set_reference_tasks([strict])
    options = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "400MB"}
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        if kind == "temporary":
            state = flow.run(executor=DaskExecutor(cluster_kwargs=options), history=False)
        else:
            with local_cluster(memory_limit="400MB") as client:
                state = flow.run(executor=DaskExecutor(client=client), history=False)
    states = state.result[children].map_states
    assert kinds(state.result[children]) == {"Success": 11, "Crashed": 1}
    assert states[3].message == "worker died 2 times while running work-1[3] (possibly out of memory)"
    assert states[3].cause == "killed-worker"
    evidence = states[3].evidence
    assert evidence["out_of_memory"]
    assert evidence["memory_limit"] == 400_000_000
    assert evidence["peak_memory"] > 0.9 * 400_000_000
    assert evidence["signal"] in ("SIGTERM", "SIGKILL")
    assert state.result[good].result == 11
    assert state.exit_code == 3
    assert counts(path)[3] == 4, "two deaths among others, two alone"


def test_w5_process_that_the_kernel_kills_is_reported_with_its_memory(tmp_path):
    """On processes nobody watches the memory; the kernel's way to end it is SIGKILL."""

    @task
    def work(x):
        grown = [bytearray(b"x") * 50_000_000 for _ in range(4)]
        spend(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
        return len(grown)

    with Flow("w5") as flow:
        out = work(1)
    state = flow.run(executor=LocalDaskExecutor("processes", num_workers=2), history=False).result[out]
    ended = "killed by signal 9 (SIGKILL), possibly out of memory"
    assert state.message == f"worker died 2 times while running work-1 ({ended})"
    assert state.evidence["exit_code"] == -9
    assert state.evidence["signal"] == "SIGKILL"
    assert state.evidence["peak_memory"] > 200_000_000


def test_l4_results_larger_than_the_memory_of_the_cluster_are_spilled(tmp_path):
    size = 30_000_000

    @task
    def make(x):
        return bytes([x]) * size

    @task
    def measure(data):
        return data[0], len(data)

    with Flow("l4") as flow:
        made = make.map(range(20))
        sizes = measure.map(made)
        again = measure.map(made, upstream_tasks=[sizes])
    options = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "300MB", "local_directory": str(tmp_path)}
    state = flow.run(executor=DaskExecutor(cluster_kwargs=options), history=False)
    wanted = [(x, size) for x in range(20)]
    assert state.is_successful()
    assert state.result[sizes].result == wanted
    assert state.result[again].result == wanted


@pytest.mark.parametrize("batch", [None, 4])
def test_w3_child_that_must_not_run_twice_begins_once(tmp_path, batch):
    path = tmp_path / "notes"

    @task(rerun_on_loss=False, batch_size=batch)
    def send(x):
        note(path, f"{x} {os.getpid()}")
        if x == 3:
            os._exit(7)
        return x

    with Flow("once", result=LocalResult(tmp_path / "results")) as flow:
        sent = send.map(range(8))
        good = count_good(sent)
    state = flow.run(executor=DaskExecutor(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}), history=False)
    states = state.result[sent].map_states
    assert kinds(state.result[sent]) == {"Success": 7, "Crashed": 1}
    assert states[3].cause == "attempt-lost"
    assert states[3].message.startswith("send[3] was lost: it was started on ")
    assert counts(path) == dict.fromkeys(range(8), 1)
    assert state.result[good].result == 7


# ---------------------------------------------------------------------- freezes and cut links


def test_w8_frozen_worker_is_given_up_and_what_it_says_later_is_dropped(tmp_path):
    path = tmp_path / "notes"
    database = tmp_path / "history.db"

    work = slow_work(path)
    with Flow("w8") as flow:
        children = work.map(range(80))
        good = count_good(children)
    frozen = []

    def freeze():
        until(lambda: len(notes(path)) >= 20)
        frozen.append(int(notes(path)[-1].split()[1]))
        os.kill(frozen[0], signal.SIGSTOP)

    with dask.config.set({"distributed.scheduler.worker-ttl": "3s"}), local_cluster() as client:
        with meanwhile(freeze):
            state = flow.run(executor=DaskExecutor(client=client), history=str(database))
        if os.path.exists(f"/proc/{frozen[0]}"):
            os.kill(frozen[0], signal.SIGCONT)
    assert state.is_successful()
    assert state.result[children].result == list(range(80))
    assert state.result[good].result == 80
    assert set(counts(path)) == set(range(80))
    (run,) = history.runs(store=str(database))
    recorded = run.children("work-1")
    assert sorted(child.index for child in recorded) == list(range(80))
    assert {child.state for child in recorded} == {"Success"}
    assert {child.attempts for child in recorded} == {1}


def test_w8_without_a_limit_on_silence_the_run_waits_for_the_frozen_worker(tmp_path):
    """The protection switched off: with Dask's five minutes the run is not over by the time it was above."""
    path = tmp_path / "notes"

    work = slow_work(path)
    with Flow("w8") as flow:
        children = work.map(range(40))
    with local_cluster() as client:
        run = flow.start(executor=DaskExecutor(client=client), history=False)
        until(lambda: len(notes(path)) >= 10, 60)
        pid = int(notes(path)[-1].split()[1])
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            run.wait(10)
        os.kill(pid, signal.SIGCONT)
        assert run.wait(90).result[children].result == list(range(40))


def test_w11_worker_that_loses_its_link_is_as_dead(tmp_path):
    path = tmp_path / "notes"

    work = slow_work(path)
    with Flow("w11") as flow:
        children = work.map(range(80))
        good = count_good(children)
    with (
        command_line_scheduler(tmp_path) as (address, _),
        proxy_to(address) as (proxy, near),
        command_line_worker(near, "--name", "cut") as cut,
        command_line_worker(address, "--name", "whole"),
        Client(address, set_as_default=False) as client,
    ):
        client.wait_for_workers(2, 60)

        def sever():
            until(lambda: len({line.split()[1] for line in notes(path)}) == 2 and len(notes(path)) >= 40, 60)
            proxy.cut(refuse=True)
            cut.wait(60)  # a worker does not come back, and its nanny ends too

        with meanwhile(sever):
            state = flow.run(executor=DaskExecutor(client=client), history=False)
    assert state.is_successful()
    assert state.result[children].result == list(range(80))
    assert state.result[good].result == 80
    twice = sum(count - 1 for count in counts(path).values())
    assert twice <= 12, "more than what was open there ran again: it had half of forty values"


# ---------------------------------------------------------------------- disks and clocks


def limit_file_size(nbytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, resource.RLIM_INFINITY))


@pytest.mark.parametrize("full", [True, False], ids=["full", "with-room"])
def test_w12_result_that_cannot_be_stored_fails_its_child_and_no_worker(tmp_path, full):
    path = tmp_path / "notes"

    @task
    def work(x):
        note(path, f"{x} {os.getpid()}")
        return bytes(2_000_000 if x == 2 else 10)

    with Flow("w12", result=LocalResult(tmp_path / "results")) as flow:
        children = work.map(range(6))
        good = count_good(children)
    with local_cluster() as client:
        before = set(client.run(os.getpid).values())
        if full:
            client.run(limit_file_size, 1_000_000)
        state = flow.run(executor=DaskExecutor(client=client), history=False)
        assert set(client.run(os.getpid).values()) == before, "a worker did not survive"
    states = state.result[children].map_states
    if full:
        assert kinds(state.result[children]) == {"Success": 5, "Failed": 1}
        assert states[2].message == "result could not be stored: OSError [Errno 27] File too large"
        assert state.result[good].result == 5
    else:
        assert kinds(state.result[children]) == {"Success": 6}
    assert counts(path) == dict.fromkeys(range(6), 1)
    left = [name for _, _, files in os.walk(tmp_path / "results") for name in files if name.endswith(".tmp")]
    assert left == []


#: A worker whose clock has always been wrong: what reads the time in Python, and what attempts ask.
WRONG_CLOCK = """
import datetime, sys, time
real, seconds = time.time, float(sys.argv.pop(1))
time.time = lambda: real() + seconds

class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(real() + seconds, tz)

from prefectish.engine.worker import attempt
attempt.datetime = Shifted
from distributed.cli.dask_worker import main
main()
"""


@pytest.mark.parametrize("hours", [1, -1])
def test_w13_clock_of_a_worker_that_is_wrong_moves_no_time_of_the_run(tmp_path, hours):
    path = tmp_path / "notes"
    database = tmp_path / "history.db"

    @task(max_retries=1, retry_delay=1)
    def work(x):
        note(path, f"{x} {time.monotonic()}")
        note(tmp_path / "clocks", time.time())
        if counts(path)[x] == 1:
            raise ValueError("first")
        spend(0.1)
        return x

    with Flow("w13") as flow:
        children = work.map(range(4))
    options = ("--no-nanny", "--nthreads", "1", "--no-dashboard")
    with (
        command_line_scheduler(tmp_path) as (address, _),
        running(WRONG_CLOCK, str(hours * 3600), address, *options),
    ):
        before = datetime.now(UTC)
        state = flow.run(executor=DaskExecutor(address), history=str(database))
        after = datetime.now(UTC)
    assert state.result[children].result == list(range(4))
    assert all(abs(float(line) - before.timestamp()) > 3000 for line in notes(tmp_path / "clocks")), "it was right"
    for x in range(4):
        first, second = (float(line.split()[1]) for line in notes(path) if line.startswith(f"{x} "))
        assert 1.0 <= second - first < 90, "the wait for the retry followed the worker's clock"
    (run,) = history.runs(store=str(database))
    for child in run.children("work-1"):
        assert before.timestamp() - 1 <= _seconds(child.at) <= after.timestamp() + 1
        assert 0.09 <= child.duration < 60
        assert child.attempts == 2


@pytest.mark.parametrize("hours", [1, -1])
def test_w13_clock_of_a_worker_that_is_wrong_moves_no_expiration(tmp_path, hours):
    lifetime = timedelta(minutes=30)

    @task(cache_for=lifetime)
    def timed(x):
        note(tmp_path / "clocks", time.time())
        return x

    @task(cache_key_fn=task_input_hash, cache_expiration=lifetime)
    def keyed(x):
        return x

    def program():
        return {"timed": timed.map(range(3)), "keyed": keyed.map(range(3))}

    options = ("--no-nanny", "--nthreads", "1", "--no-dashboard")
    with (
        command_line_scheduler(tmp_path) as (address, _),
        running(WRONG_CLOCK, str(hours * 3600), address, *options),
    ):
        executor = DaskExecutor(address)
        before = datetime.now(UTC)
        first = Spelled("graph", executor).states(program)
        after = datetime.now(UTC)
        again = [Spelled(spelling, executor).states(program) for spelling in SPELLINGS]
    for child in first["timed"].map_states:
        assert before + lifetime - timedelta(seconds=61) <= child.cached_result_expiration
        assert child.cached_result_expiration <= after + lifetime + timedelta(seconds=61)
    for states in again:
        for name in ("timed", "keyed"):
            assert [child.why_not_cached() for child in states[name].map_states] == [None] * 3
    assert all(abs(float(line) - before.timestamp()) > 3000 for line in notes(tmp_path / "clocks")), "it was right"


def _seconds(at):
    return at.timestamp() if isinstance(at, datetime) else float(at)


def test_crashed_child_of_one_run_leaves_the_next_run_alone(tmp_path):
    """Keys hold the run: what erred in one run is unknown to the next."""
    gone = tmp_path / "gone"

    @task
    def work(x):
        if x == 1 and not gone.exists():
            os._exit(7)
        return x

    with Flow("twice") as flow:
        children = work.map(range(3))
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), local_cluster() as client:
        first = flow.run(executor=DaskExecutor(client=client), history=False)
        gone.touch()
        second = flow.run(executor=DaskExecutor(client=client), history=False)
    assert [type(s) for s in first.result[children].map_states] == [Success, Crashed, Success]
    assert second.result[children].result == [0, 1, 2]


# ---------------------------------------------------------------------- a poison child in a batch


@pytest.mark.parametrize("front_end", ["graph", "function"])
@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_w21_neighbours_in_the_batch_of_a_poison_child_run_at_most_twice_more(tmp_path, kind, front_end):
    path = tmp_path / "notes"

    @task(batch_size=3)
    def work(x):
        note(path, x)
        if x == 2:
            os._exit(7)
        return x

    with local_cluster() if kind == "dask" else nullcontext() as client:
        executor = DaskExecutor(client=client) if client else LocalDaskExecutor("processes", num_workers=2)
        states = []
        if front_end == "graph":
            with Flow("f19") as graph:
                children = work.map(range(6))
            states += graph.run(executor=executor, history=False).result[children].map_states
        else:

            @flow(name="f19", executor=executor, history=False)
            def calls():
                children = work.map(range(6))
                children.wait()
                states.extend(children.state.map_states)

            calls()
    assert [type(state).__name__ for state in states] == ["Success", "Success", "Crashed", *["Success"] * 3]
    assert states[2].message.startswith(f"worker died {4 if kind == 'dask' else 3} times while running work-1[2]")
    began = counts(path)
    assert max(began[n] for n in range(6) if n != 2) <= 3
    assert began[2] <= 6


# ---------------------------------------------------------------------- results that are lost again


@pytest.mark.parametrize("deaths", [1, 9], ids=["once", "always"])
def test_w14_result_that_is_made_again_may_lose_its_workers_too(tmp_path, deaths):
    begun, gate = tmp_path / "begun", tmp_path / "gate"

    @task(crash_retries=2)
    def work(x):
        note(begun, os.getpid())
        if 1 < len(notes(begun)) <= 1 + deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return bytes(1_000_000)

    @task
    def wait_for_gate():
        until(gate.exists)

    @task
    def total(xs, _):
        return sum(map(len, xs))

    with Flow("lost again") as flow:
        worked = work.map([0])
        out = total(worked, wait_for_gate())

    with local_cluster() as client:
        run = flow.start(executor=DaskExecutor(client=client), history=False)
        until(lambda: run.counts("work").get("Success") == 1)
        os.kill(int(notes(begun)[0]), signal.SIGKILL)
        until(lambda: len(notes(begun)) > 1)
        gate.touch()
        state = run.wait()
    if deaths == 1:
        assert state.result[out].result == 1_000_000
    else:  # what reads it has killed nobody
        assert type(state.result[out]) is Crashed
        assert "work[0], which it reads, was lost with its worker" in state.result[out].message
        assert "while running" not in state.result[out].message
