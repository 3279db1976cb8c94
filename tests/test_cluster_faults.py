"""Workers and schedulers that die under a run: with real processes, which are really killed.

Tests carry the number of their row in the fault matrix: w - workers, s - schedulers, p - data, e - Dask itself.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager

import dask
import pytest
from bodies import count_good
from distributed import Client, LocalCluster
from real import command_line_scheduler, command_line_worker, kinds, meanwhile, note, notes, spend, until, wait_for_file

from prefectish import Flow, task, triggers, unmapped
from prefectish.engine.scheduling import crashes
from prefectish.engine.state import Crashed, TriggerFailed
from prefectish.executors import DaskExecutor
from prefectish.executors.connect import connect

pytestmark = [pytest.mark.time_limit(120), pytest.mark.fault]


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
        spend(seconds)
        return x

    with Flow("deadly") as flow:
        children = work.map(range(number))
        good = count_good(children)
        strict = count_good.copy(name="strict", trigger=triggers.all_successful)(children)
    flow.set_reference_tasks([children, strict])
    return flow, children, good, strict


@pytest.mark.parametrize(
    ("how", "words", "known"),
    [
        (lambda: os._exit(7), "exit code 7", {"exit_code": 7}),
        (lambda: ctypes.string_at(0), "killed by signal 11 (SIGSEGV)", {"exit_code": -11, "signal": "SIGSEGV"}),
        (
            lambda: os.kill(os.getpid(), 9),
            "killed by signal 9 (SIGKILL)",
            {"exit_code": -9, "signal": "SIGKILL"},
        ),
    ],
    ids=["default-exit", "segfault", "sigkill"],
)
def test_w3_w4_child_that_kills_its_process_crashes_alone(tmp_path, how, words, known, request):
    path = tmp_path / "notes"
    flow, children, good, strict = deadly(path, how)
    state = flow.run(executor=own())
    states = state.result[children].map_states
    assert kinds(state.result[children]) == {"Success": 23, "Crashed": 1}
    crashed = states[3]
    deaths = 4 if "default" in request.node.name else 2
    assert crashed.message == f"worker died {deaths} times while running work-1[3] ({words})"
    assert known.items() <= crashed.evidence.items()
    assert crashed.evidence["worker"].startswith("tcp://127.0.0.1:")
    assert crashed.evidence["pid"] in pids(path)
    if "signal" in known and known["signal"] == "SIGSEGV":
        assert any("in <lambda>" in line for line in crashed.evidence["log"]), "where it crashed is not told"
    assert crashed.cause == "killed-worker"
    assert str(crashed.result) == f"KilledWorker: {crashed.message}"
    assert [s.result for i, s in enumerate(states) if i != 3] == [i for i in range(24) if i != 3]
    assert state.result[good].result == 23
    assert type(state.result[strict]) is TriggerFailed
    assert state.is_failed()
    assert state.exit_code == 3
    assert bodies(path)[3] == 2 * deaths


def test_w3_end_of_a_worker_is_told_though_its_nanny_is_late(tmp_path):
    """On a busy machine a nanny may see the end of its worker seconds after the scheduler has."""

    def die():
        nanny = os.getppid()
        subprocess.Popen(["sh", "-c", f"sleep 4; kill -CONT {nanny}"], start_new_session=True)
        os.kill(nanny, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGKILL)

    flow, children, *_ = deadly(tmp_path / "notes", die, number=6)
    crashed = flow.run(executor=own()).result[children].map_states[3]
    assert crashed.message == "worker died 2 times while running work-1[3] (killed by signal 9 (SIGKILL))"


def test_e4d_fast_poison_among_many_threads_does_not_hang(tmp_path):
    path = tmp_path / "notes"
    flow, children, good, _ = deadly(path, lambda: os._exit(7), bad=0, number=7, seconds=0.05)
    state = flow.run(executor=own(2, 4))
    assert kinds(state.result[children]) == {"Success": 6, "Crashed": 1}
    assert type(state.result[children].map_states[0]) is Crashed
    assert state.result[good].result == 6


def test_w1_lost_worker_of_an_own_cluster_is_restarted():
    """Dask drops a worker for good that is away when it looks for it, some time after a death."""
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"}),  # so it is away when Dask looks
        connect(cluster_kwargs={"n_workers": 1, "threads_per_worker": 1}) as connection,
    ):
        workers = [connection.client.submit(os.getpid, pure=False).result(60)]
        for _ in range(2):
            os.kill(workers[-1], signal.SIGKILL)
            until(lambda: workers[-1] != connection.client.submit(os.getpid, pure=False).result(60))
            workers.append(connection.client.submit(os.getpid, pure=False).result(60))
        assert len(set(workers)) == 3


def test_neighbour_of_a_poison_is_not_charged(tmp_path):
    """What merely ran beside a child that kills its worker ends as it would have, however often Dask gave it up."""
    path = tmp_path / "notes"

    @task
    def work(x):
        note(path, f"{x} {os.getpid()}")
        if x == 0:
            until(lambda: len(bodies(path)) == 4)
            os._exit(7)
        spend(1.0)
        return x

    with Flow("neighbours") as flow:
        children = work.map(range(4))
    state = flow.run(executor=own(1, 4))
    assert [type(s).__name__ for s in state.result[children].map_states] == ["Crashed"] + ["Success"] * 3


def test_crash_retries_give_a_child_further_runs_alone(tmp_path):
    path = tmp_path / "notes"

    @task(crash_retries=2)
    def work(x):
        note(path, f"{x} {os.getpid()}")
        if x == 1 and bodies(path)[1] <= 5:
            os._exit(7)
        return x

    with Flow("crash retries") as flow:
        children = work.map(range(3))
    state = flow.run(executor=own())
    assert [s.result for s in state.result[children].map_states] == [0, 1, 2]
    assert bodies(path)[1] == 6, "two deaths at first, two in the first run alone, one in the second"


def test_child_of_a_batch_that_kills_its_process_crashes_alone(tmp_path):
    path = tmp_path / "notes"

    @task(batch_size=6)
    def work(x):
        note(path, f"{x} {os.getpid()}")
        if x == 3:
            os._exit(7)
        return x

    with Flow("batch") as flow:
        children = work.map(range(12))
        good = count_good(children)
    state = flow.run(executor=own())
    assert [type(s).__name__ for s in state.result[children].map_states] == ["Success"] * 3 + ["Crashed"] + [
        "Success"
    ] * 8
    assert state.result[good].result == 11


def test_step_of_a_branch_that_kills_its_process_is_the_one_that_crashes(tmp_path):
    path = tmp_path / "notes"

    @task
    def first(x):
        note(path, f"{x} {os.getpid()}")
        return x

    @task
    def second(x):
        if x == 2:
            os._exit(7)
        return x

    @task(trigger=triggers.all_finished)
    def third(x):
        return isinstance(x, BaseException)

    with Flow("steps") as flow:
        ones = first.map(range(5))
        twos = second.map(ones)
        threes = third.map(twos)
    state = flow.run(executor=own())
    assert kinds(state.result[ones]) == {"Success": 5}
    assert type(state.result[twos].map_states[2]) is Crashed
    assert state.result[twos].map_states[2].message == "worker died 2 times while running second-1[2] (exit code 7)"
    assert kinds(state.result[twos]) == {"Success": 4, "Crashed": 1}
    assert state.result[threes].result == [False, False, True, False, False]


@task(trigger=triggers.all_finished)
def seen(x):
    return type(x).__name__


def test_single_task_that_kills_its_process_crashes(tmp_path):
    @task
    def work():
        os._exit(7)

    with Flow("single") as flow:
        out = work()
        good = seen(out)
    state = flow.run(executor=own())
    assert state.result[out].message == "worker died 2 times while running work-1 (exit code 7)"
    assert state.result[good].result == "RemoteError"
    assert state.is_successful()


# ---------------------------------------------------------------------- workers that leave


@contextmanager
def local_cluster(n_workers):
    options = {"n_workers": n_workers, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**options) as cluster, Client(cluster, set_as_default=False) as client:
        yield cluster, client


def slow_map(path, number=60, seconds=0.05):
    @task
    def work(x):
        note(path, f"{x} {os.getpid()}")
        spend(seconds)
        return x

    with Flow("slow") as flow:
        children = work.map(range(number))
    return flow, children


def test_w6_retired_worker_costs_nothing(tmp_path):
    path = tmp_path / "notes"
    flow, children = slow_map(path)
    with local_cluster(2) as (_, client):

        def retire():
            until(lambda: len(notes(path)) >= 20)
            worker, *_ = client.scheduler_info()["workers"]
            client.retire_workers([worker])

        with meanwhile(retire):
            state = flow.run(executor=DaskExecutor(client=client))
    assert state.result[children].result == list(range(60))
    assert set(bodies(path)) == set(range(60))
    assert len(notes(path)) <= 61, "more ran again than the body that was running there"


def test_w7_cluster_that_is_scaled_down_costs_no_child(tmp_path):
    path = tmp_path / "notes"
    flow, children = slow_map(path, seconds=0.1)
    with local_cluster(3) as (cluster, client):

        def scale():
            until(lambda: len(notes(path)) >= 40)
            cluster.scale(1)

        with meanwhile(scale):
            state = flow.run(executor=DaskExecutor(client=client))
    assert state.result[children].result == list(range(60))
    assert len(notes(path)) <= 72, "what was recorded has run again: two of three workers had forty values"


def test_w9_run_without_workers_ends_crashed(tmp_path):
    path = tmp_path / "notes"
    gate = tmp_path / "gate"

    @task
    def work(x):
        note(path, f"{x} {os.getpid()}")
        if x >= 2:
            wait_for_file(gate)
        return x

    with Flow("w9") as flow:
        children = work.map(range(6))
        good = count_good(children)
    with command_line_scheduler(tmp_path) as (address, _), command_line_worker(address, "--no-nanny") as worker:
        run = flow.start(executor=DaskExecutor(address, no_workers_timeout=1))
        until(lambda: len(notes(path)) >= 3 and run.counts(children).get("Success") == 2)
        worker.kill()
        state = run.wait(90)
    states = state.result[children].map_states
    assert [type(s).__name__ for s in states] == ["Success"] * 2 + ["Crashed"] * 4
    assert {s.cause for s in states[2:]} == {"no-workers"}
    assert states[3].message == "work[3] was lost: the cluster had no workers for 1 s"
    assert state.result[good].is_finished()
    assert state.is_failed()
    assert state.message == "The run was cut short: the cluster had no workers for 1 s."
    assert state.exit_code == 3


def test_w9_cluster_that_never_gets_a_worker_ends_the_run(tmp_path):
    flow, children = slow_map(tmp_path / "notes", 3)
    with command_line_scheduler(tmp_path) as (address, _):
        state = flow.run(executor=DaskExecutor(address, no_workers_timeout=1))
    assert kinds(state.result[children]) == {"Crashed": 3}
    assert state.exit_code == 3


def test_w9_without_a_limit_on_waiting_the_run_stands_still(tmp_path):
    """The protection switched off."""
    flow, _ = slow_map(tmp_path / "notes", 3)
    with command_line_scheduler(tmp_path) as (address, _):
        run = flow.start(executor=DaskExecutor(address, no_workers_timeout=1e6), history=False)
        with pytest.raises(TimeoutError):
            run.wait(8)
        run.cancel()
        assert run.wait(60).is_finished()


def test_w10_children_whose_resource_left_crash_and_others_run(tmp_path, caplog):
    path, gate = tmp_path / "notes", tmp_path / "gate"

    @task(resources={"GPU": 1})
    def on_gpu(x):
        note(path, f"{x} {os.getpid()}")
        wait_for_file(gate)
        return x

    @task
    def anywhere(x):
        until(lambda: notes(path))
        return x

    with Flow("w10") as flow:
        special = on_gpu.map(range(3))
        others = anywhere.map(range(10))
    with (
        command_line_scheduler(tmp_path) as (address, _),
        command_line_worker(address, "--no-nanny"),
        command_line_worker(address, "--no-nanny", "--resources", "GPU=1") as gpu,
        Client(address, set_as_default=False) as client,
    ):
        client.wait_for_workers(2, 30)

        def kill():
            until(lambda: notes(path))
            gpu.kill()

        with meanwhile(kill):
            state = flow.run(executor=DaskExecutor(client=client, no_workers_timeout=2, stall_warning=0.5))
    assert "wait for a worker with a resource or a name that they ask for: on_gpu[" in caplog.text
    assert kinds(state.result[others]) == {"Success": 10}
    assert kinds(state.result[special]) == {"Crashed": 3}
    assert {s.cause for s in state.result[special].map_states} == {"no-workers"}


# ---------------------------------------------------------------------- schedulers


@pytest.mark.parametrize("again", [False, True], ids=["s1-gone", "s2-restarted"])
def test_s1_s2_lost_scheduler_ends_the_run_with_a_state_for_every_child(tmp_path, again, caplog):
    path, gate = tmp_path / "notes", tmp_path / "gate"

    @task
    def work(x):
        note(path, f"{x} {os.getpid()}")
        if x >= 10:
            wait_for_file(gate)
        return x

    @task
    def follow(x):
        return x

    with Flow("lost") as flow:
        children = work.map(range(40))
        after = follow.map(children)
        good = count_good(after)
    with ExitStack() as stack:
        address, scheduler = stack.enter_context(command_line_scheduler(tmp_path))
        stack.enter_context(command_line_worker(address, "--no-nanny"))
        run = flow.start(executor=DaskExecutor(address, max_branches=20))
        until(lambda: len(notes(path)) >= 11 and run.counts(children).get("Success") == 10)
        scheduler.kill()
        scheduler.wait()
        killed = time.monotonic()
        if again:
            stack.enter_context(command_line_scheduler(tmp_path, int(address.rpartition(":")[2])))
        state = run.wait(90)
        took = time.monotonic() - killed
    assert took < 10
    assert state.is_failed()
    assert state.message == "The run was cut short: the scheduler was lost."
    hints = [r.getMessage() for r in caplog.records if "flow.resume(" in r.getMessage()]
    assert hints == [
        f"the scheduler was lost; if the run is recorded, flow.resume('{state.context['flow_run_id']}') continues it"
    ]
    assert state.exit_code == 3
    states = state.result[children].map_states
    assert [type(s).__name__ for s in states] == ["Success"] * 10 + ["Crashed"] * 30
    assert {s.cause for s in states[10:]} == {"scheduler-lost"}
    assert all(s.is_finished() for s in state.result[after].map_states)
    assert state.result[good].is_finished()


def test_s5_restart_by_another_client_crashes_what_was_open(tmp_path):
    path, gate = tmp_path / "notes", tmp_path / "gate"

    @task
    def work(x):
        note(path, f"{x} {os.getpid()}")
        if x >= 4:
            wait_for_file(gate)
        return x

    with Flow("s5") as flow:
        children = work.map(range(8))
        good = count_good(children)
    with local_cluster(2) as (_, client):
        run = flow.start(executor=DaskExecutor(client=client))
        until(lambda: len(notes(path)) >= 6 and run.counts(children).get("Success") == 4)
        with Client(client.scheduler.address, set_as_default=False) as other:
            other.restart()
        gate.touch()
        state = run.wait(90)
    states = state.result[children].map_states
    assert [type(s).__name__ for s in states] == ["Success"] * 4 + ["Crashed"] * 4
    assert {s.cause for s in states[4:]} == {"cancelled-by-cluster"}
    assert state.result[good].result == 4


def test_s5_restart_blames_no_consumer_and_says_in_one_line_what_was_lost(tmp_path, caplog):
    """The trigger of the consumer is lost with the children: its body cannot have run."""
    path = tmp_path / "notes"

    @task
    def work(x):
        note(path, f"{x} {os.getpid()}")
        spend(60 if x >= 4 else 0)
        return x

    with Flow("s5 blame") as flow:
        children = work.map(range(24))
        total = task(sum, name="total")(children)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        local_cluster(2) as (_, client),
    ):
        run = flow.start(executor=DaskExecutor(client=client))
        until(lambda: len(notes(path)) >= 6 and run.counts(children).get("Success") == 4)
        with Client(client.scheduler.address, set_as_default=False) as other:
            other.restart()
        state = run.wait(90)
    states = state.result[children].map_states
    assert [type(s).__name__ for s in states] == ["Success"] * 4 + ["Crashed"] * 20
    assert type(state.result[total]).__name__ == "TriggerFailed"
    lines = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and "cancelled" in r.getMessage()]
    assert len(lines) <= 3, lines
    assert any("19 more failures were not logged one by one" in x and "(20 in all)" in x for x in lines), lines


def test_s5_restart_with_crash_retries_runs_again(tmp_path):
    path = tmp_path / "notes"

    @task(crash_retries=1)
    def work(x):
        note(path, f"{x} {os.getpid()}")
        if x < 2 and bodies(path)[x] == 1:
            spend(60)
        return x

    with Flow("s5 again") as flow:
        children = work.map(range(4))
    with local_cluster(2) as (_, client):

        def restart():
            until(lambda: len(notes(path)) >= 2)
            with Client(client.scheduler.address, set_as_default=False) as other:
                other.restart()

        with meanwhile(restart):
            state = flow.run(executor=DaskExecutor(client=client))
    assert state.result[children].result == [0, 1, 2, 3]


# ---------------------------------------------------------------------- inputs that are lost


@pytest.mark.parametrize("kind", ["object", "bytes", "body"])
def test_p11_shared_input_that_is_lost_with_its_worker_is_sent_again(tmp_path, kind):
    path = tmp_path / "notes"
    large = os.urandom(3_000_000)

    def own_ballast(x, y):
        return len(large if kind == "body" else y)

    @task
    def use(x, y):
        note(path, f"{x} {os.getpid()}")
        spend(0.02)
        return own_ballast(x, y)

    given = {"object": [large], "bytes": large, "body": None}[kind]
    with Flow("p11") as flow:
        children = use.map(range(100), y=unmapped(given))

    def kill():
        until(lambda: len(notes(path)) >= 20)
        for pid in dict.fromkeys(pids(path)):  # all at once: whoever has run a body of it has a copy
            os.kill(pid, signal.SIGKILL)

    with meanwhile(kill):
        state = flow.run(executor=own())
    assert len(dict.fromkeys(pids(path))) > 2
    assert set(state.result[children].result) == {1 if kind == "object" else 3_000_000}


def test_p11_without_sending_it_again_who_reads_it_is_lost(tmp_path, monkeypatch):
    """The protection switched off: a scattered value is gone with its worker, and Dask cannot make it again."""
    monkeypatch.setattr(crashes, "RESENDS", 0)
    path = tmp_path / "notes"
    large = os.urandom(3_000_000)

    @task
    def use(x, y):
        note(path, f"{x} {os.getpid()}")
        spend(0.02)
        return len(y)

    with Flow("p11 off") as flow:
        children = use.map(range(100), y=unmapped(large))

    def kill():
        until(lambda: len(notes(path)) >= 20)
        for pid in dict.fromkeys(pids(path)):
            os.kill(pid, signal.SIGKILL)

    with meanwhile(kill):
        state = flow.run(executor=own())
    lost = [child for child in state.result[children].map_states if not child.is_successful()]
    assert lost
    assert {child.cause for child in lost} == {"input-lost"}


def test_large_result_that_is_lost_with_its_worker_is_made_again(tmp_path):
    """Children that read an array whose worker is killed end as if it had not been; its body runs once more."""
    path = tmp_path / "notes"

    @task
    def make(x):
        note(tmp_path / "made", f"{x} {os.getpid()}")
        return [bytes([x]) * 300_000]

    @task
    def gather(values):
        note(path, f"0 {os.getpid()}")
        return len(values)

    @task
    def use(value, _):
        return value[0][0]

    @task
    def hold(n):
        note(path, "holding")
        until(lambda: notes(tmp_path / "killed"))
        return n

    def kill():
        until(lambda: "holding" in notes(path))
        holder = int(next(line for line in reversed(notes(path)) if line.startswith("0 ")).split()[1])
        victim = next((pid for pid in pids(tmp_path / "made") if pid != holder), holder)
        os.kill(victim, signal.SIGKILL)
        note(tmp_path / "killed", victim)

    with Flow("remade") as flow:
        made = make.map(range(10))
        count = gather(made)
        held = hold(count)
        used = use.map(made, unmapped(held))
    with meanwhile(kill):
        state = flow.run(executor=own())
    assert state.result[used].result == list(range(10))
