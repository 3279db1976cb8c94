"""Nothing waits for ever on a cluster, and what is said of a wait is true: with real processes.

Workers that pause, that leave again and again, that cannot reach one another, that do not answer.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
from contextlib import contextmanager

import dask
import pytest
from distributed import Client, LocalCluster, Status
from real import command_line_scheduler, command_line_worker, kinds, meanwhile, note, notes, spend, until, wait_for_file

from prefectish import Flow, flow, task
from prefectish.executors import DaskExecutor, scheduler_view

pytestmark = [pytest.mark.time_limit(180), pytest.mark.fault]


@task
def inc(x):
    return x + 1


def told(caplog, text):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and text in r.getMessage()]


@contextmanager
def cluster(**options):
    given = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", **options}
    with LocalCluster(**given) as made, Client(made, set_as_default=False) as client:
        yield client


def test_w17_paused_workers_end_what_waits_for_them(caplog):
    """A worker whose memory leaks takes nothing any more, and lives on."""

    @task
    def leak(x):
        import builtins

        builtins.leaked = [*getattr(builtins, "leaked", ()), b"x" * 60_000_000]
        spend(0.3)
        return x

    settings = {
        "distributed.worker.memory.pause": 0.6,
        "distributed.worker.memory.terminate": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.target": False,
    }
    with dask.config.set(settings), cluster(memory_limit="420MB") as client:
        with Flow("paused") as flow:
            out = leak.map(range(12))
        executor = DaskExecutor(client=client, no_workers_timeout=6, stall_warning=3)
        state = flow.run(executor=executor, history=False)
    mapped = state.result[out]
    assert set(kinds(mapped)) == {"Success", "Crashed"}, state
    lost = next(s for s in mapped.map_states if s.is_failed())
    assert lost.cause == "no-workers"
    assert "all workers are paused: tcp://127.0.0.1:" in lost.message
    assert "(memory " in lost.message
    assert "% of 401 MiB)" in lost.message
    (warning,) = told(caplog, "nothing has ended for")
    assert "0 run; all workers are paused" in warning, warning
    assert state.exit_code == 3


def test_w18_body_that_outlives_its_workers_again_and_again_is_given_up(tmp_path, caplog):
    path = tmp_path / "notes"

    @task
    def work(x):
        from distributed import get_worker

        note(path, get_worker().address)
        spend(100)

    def retire(client):
        for count in range(1, 6):
            until(lambda count=count: len(notes(path)) == count)
            spend(1.5)  # until a heartbeat has told the scheduler that it runs
            client.retire_workers([notes(path)[-1]], close_workers=True)

    with Flow("outlives") as flow:
        out = work.map([1])
    with cluster(n_workers=6) as client:
        executor = DaskExecutor(client=client, stall_warning=None)
        with meanwhile(retire, client):
            state = flow.run(executor=executor, history=False)
    (lost,) = state.result[out].map_states
    assert lost.cause == "workers-retired"
    assert "work[0] was lost: it was begun 5 times, and each time its worker" in lost.message
    assert len(notes(path)) in (5, 6)
    assert told(caplog, "work[0] was begun 2 times on workers that left on purpose")


def set_status(status, dask_worker=None):
    dask_worker.status = Status[status]


def test_w17_workers_that_are_about_to_leave_end_what_waits_for_them(caplog):
    """They say so, and never leave: what would have them leave has died, or waits itself."""
    with cluster(n_workers=2) as client:

        @flow(executor=DaskExecutor(client=client, no_workers_timeout=5, stall_warning=2), history=False)
        def leaving():
            assert inc(1) == 2
            client.run(set_status, "closing_gracefully")
            return inc(2)

        state = leaving.run()
    assert "for 5 s no worker takes anything: tcp://127.0.0.1:" in state.message
    assert state.message.count("is about to leave") == 2
    assert state.exit_code == 3
    (warning,) = told(caplog, "nothing has ended for")
    assert "0 run; no worker takes anything" in warning, warning


def test_w17_worker_that_is_silent_ends_what_waits_for_it(monkeypatch):
    """It was stopped while it had nothing to do, so that no body is thought to run."""
    monkeypatch.setattr(scheduler_view, "SILENT", 3.0)
    with cluster() as client:
        (pid,) = client.run(os.getpid).values()

        @flow(executor=DaskExecutor(client=client, no_workers_timeout=5, stall_warning=None), history=False)
        def silent():
            assert inc(1) == 2
            os.kill(pid, signal.SIGSTOP)
            return inc(2)

        try:
            state = silent.run()
        finally:
            os.kill(pid, signal.SIGCONT)
    assert "for 5 s no worker takes anything: tcp://127.0.0.1:" in state.message
    assert "does not answer" in state.message
    assert state.exit_code == 3


def test_s1_scheduler_that_ends_itself_when_it_has_no_task_is_named(tmp_path, caplog):
    """As cloud providers start theirs; a retry that waits is no task of the cluster."""
    path = tmp_path / "notes"

    @task(max_retries=1, retry_delay=15)
    def flaky(x):
        note(path, x)
        spend(2.5)  # until the run has looked how the cluster is
        if x == 1:
            raise OSError("at the first try")
        return x

    with command_line_scheduler(tmp_path, more=("--idle-timeout", "4s")) as (address, scheduler):
        with (
            command_line_worker(address, "--no-nanny"),
            command_line_worker(address, "--no-nanny"),
            Client(address, set_as_default=False) as client,
        ):
            client.wait_for_workers(2, 60)
            with Flow("idle") as graph:
                out = flaky.map(range(2))
            state = graph.run(executor=DaskExecutor(client=client, stall_warning=None), history=False)
        assert scheduler.wait(60) == 0, "it was not ended by its own"
    kept, lost = state.result[out].map_states
    assert kept.result == 0
    assert lost.cause == "scheduler-lost"
    assert state.exit_code == 3
    assert sorted(notes(path)) == ["0", "1"]
    (error,) = told(caplog, "flow.resume(")
    assert "the scheduler was lost (it ends itself after 4 s without a task)" in error, error


#: A worker that reaches nobody but its scheduler.
ALONE = """
import distributed.core

connect = getattr(distributed.core.connect, "before", distributed.core.connect)  # it is preloaded twice

async def only_the_scheduler(addr, *args, **kwargs):
    if addr != {scheduler!r}:
        raise OSError("no route to host " + addr)
    return await connect(addr, *args, **kwargs)

only_the_scheduler.before = connect
distributed.core.connect = only_the_scheduler
"""


def test_w19_input_that_no_worker_can_fetch_is_brought_there(tmp_path, caplog):
    @task(workers="one")
    def make(x):
        return bytes([x]) * 200_000

    @task(workers="two")
    def total(xs):
        return [x[0] for x in xs]

    with Flow("unreachable") as flow:
        out = total(make.map(range(4)))
    with command_line_scheduler(tmp_path) as (address, _):
        preload = tmp_path / "alone.py"
        preload.write_text(ALONE.format(scheduler=address))
        with (
            command_line_worker(address, "--name", "one", "--no-nanny"),
            command_line_worker(address, "--name", "two", "--no-nanny", "--preload", str(preload)),
            Client(address, set_as_default=False) as client,
        ):
            client.wait_for_workers(2, 60)
            executor = DaskExecutor(client=client, no_workers_timeout=8, stall_warning=5)
            state = flow.run(executor=executor, history=False)
    assert state.is_successful(), state
    assert state.result[out].result == [0, 1, 2, 3]
    *_, warning = told(caplog, "nothing has ended for")  # a busy machine may stall before
    assert "0 run; 1 waits for data: total on tcp://" in warning, warning
    assert "for make[" in warning
    assert told(caplog, "they are brought there")


def test_w20_worker_that_does_not_answer_is_not_taken_for_one_out_of_memory():
    @task
    def hold():
        ctypes.PyDLL(None).sleep(100)

    settings = {"distributed.scheduler.worker-ttl": "2s", "distributed.scheduler.allowed-failures": 0}
    with dask.config.set(settings), cluster() as client:
        with Flow("ttl") as flow:
            out = hold()
        state = flow.run(executor=DaskExecutor(client=client), history=False).result[out]
    assert state.message.startswith("worker died 1 time while running hold-1 (did not answer for worker-ttl "), state
    assert "memory" not in state.message
    assert state.evidence["silent_seconds"] >= 2
    assert state.cause == "killed-worker"


def test_stall_names_the_bodies_that_run_and_not_what_waits_for_them(tmp_path, caplog):
    gate = tmp_path / "gate"

    @task
    def hang(x):
        wait_for_file(gate)
        return x

    @task
    def after(x):
        return x

    with Flow("stall") as flow:
        out = after.map(hang.map(range(4)))
    executor = DaskExecutor(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}, stall_warning=3)
    run = flow.start(executor=executor, history=False)
    (warning,) = until(lambda: told(caplog, "nothing has ended for"))
    gate.touch()
    assert run.wait(90).result[out].result == [0, 1, 2, 3]
    assert "of 4 open tasks 2 run: hang[" in warning, warning
    assert "after[" not in warning
