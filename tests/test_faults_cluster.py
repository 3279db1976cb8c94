"""Schedulers that stall, links that are cut, clients that sleep, keys that others touch: with real processes.

Tests carry the number of their row in the fault matrix.
"""

from __future__ import annotations

import http.server
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from bodies import count_good
from distributed import Client, Future, LocalCluster, get_client
from proxy import proxy_to
from real import command_line_scheduler, command_line_worker, kinds, meanwhile, note, notes, spend, until

from prefectish import Flow, task
from prefectish.engine.state import Crashed, TimedOut
from prefectish.errors import SchedulerLost
from prefectish.executors import DaskExecutor

pytestmark = [pytest.mark.time_limit(240), pytest.mark.fault]


@contextmanager
def local_cluster(n_workers=2, threads=1):
    options = {"n_workers": n_workers, "threads_per_worker": threads, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**options) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


def warnings_of(caplog, text):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and text in r.getMessage()]


# ---------------------------------------------------------------------- schedulers


def test_s3_scheduler_that_does_not_exist_is_an_error_of_its_own_when_the_time_is_up(tmp_path):
    path = tmp_path / "notes"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with Flow("s3") as flow:
        task(lambda: note(path, "ran"), name="work")()
    executor = DaskExecutor(f"tcp://127.0.0.1:{port}", client_kwargs={"timeout": 1})
    with pytest.raises(SchedulerLost, match=rf"no Dask scheduler at tcp://127.0.0.1:{port} after 1 s") as caught:
        flow.run(executor=executor, history=False)
    assert isinstance(caught.value, ConnectionError)
    assert caught.value.exit_code == 3
    assert not notes(path)


def test_s7_web_server_is_distinguished_from_a_scheduler_at_once(caplog):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Flow("s7") as flow:
            task(lambda: 1, name="work")()
        began = time.monotonic()
        try:
            with pytest.raises(SchedulerLost, match=r"no Dask scheduler at .*which is not Dask") as caught:
                flow.run(executor=DaskExecutor(f"tcp://127.0.0.1:{server.server_port}"), history=False)
        finally:
            server.shutdown()
    assert caught.value.exit_code == 3
    assert time.monotonic() - began < 20, "it waited the thirty seconds of a scheduler that is not there yet"
    assert "Traceback" not in caplog.text


def test_s4_slow_scheduler_is_reported_once_and_changes_nothing(tmp_path, caplog):
    path = tmp_path / "notes"

    @task
    def work(x):
        note(path, x)
        spend(0.05)
        return x

    with Flow("s4") as flow:
        children = work.map(range(60))
    with command_line_scheduler(tmp_path) as (address, _), command_line_worker(address, "--no-nanny"):

        def block():
            with Client(address, set_as_default=False) as other:
                until(lambda: len(notes(path)) >= 10)
                other.run_on_scheduler(spend, 12)

        with meanwhile(block):
            state = flow.run(executor=DaskExecutor(address), history=False)
    assert state.result[children].result == list(range(60))
    assert sorted(map(int, notes(path))) == list(range(60))
    assert len(warnings_of(caplog, "the cluster has not answered for")) == 1


def test_frozen_scheduler_is_given_up_when_the_time_is_up(tmp_path):
    path, gate = tmp_path / "notes", tmp_path / "gate"

    @task
    def work(x):
        note(path, x)
        until(gate.exists, 120)
        return x

    with Flow("frozen") as flow:
        children = work.map(range(4))
    with command_line_scheduler(tmp_path) as (address, scheduler), command_line_worker(address, "--no-nanny"):

        def freeze():
            until(lambda: notes(path))
            scheduler.send_signal(signal.SIGSTOP)

        with meanwhile(freeze):
            state = flow.run(executor=DaskExecutor(address, no_workers_timeout=3), history=False)
        scheduler.send_signal(signal.SIGCONT)
        gate.touch()
    assert kinds(state.result[children]) == {"Crashed": 4}
    assert {child.cause for child in state.result[children].map_states} == {"scheduler-lost"}
    assert state.exit_code == 3


@pytest.mark.parametrize("retries", [0, 1])
def test_s6_key_that_another_client_cancels_is_lost_alone(tmp_path, retries):
    path, gate = tmp_path / "notes", tmp_path / "gate"

    @task(crash_retries=retries)
    def work(x):
        note(path, x)
        if x == 2:
            until(gate.exists, 120)
        return x

    with Flow("s6") as flow:
        children = work.map(range(6))
        good = count_good(children)
    with local_cluster() as client:

        def cancel():
            until(lambda: "2" in notes(path))
            with Client(client.scheduler.address, set_as_default=False) as other:
                keys = other.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))
                key = next(k for k in keys if isinstance(k, tuple) and k[0].startswith("work-1-") and k[1] == 2)
                other.cancel([Future(key, other)], force=True)
                until(lambda: key not in other.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks)))
            gate.touch()

        with meanwhile(cancel):
            state = flow.run(executor=DaskExecutor(client=client), history=False)
    states = state.result[children].map_states
    assert [s.result for i, s in enumerate(states) if i != 2] == [0, 1, 3, 4, 5]
    if retries:
        assert states[2].result == 2
        assert notes(path).count("2") == 2
    else:
        assert type(states[2]) is Crashed
        assert states[2].cause == "cancelled-by-cluster"
        assert states[2].message.startswith("work[2] was lost: the cluster cancelled it")
        assert state.result[good].result == 5
        assert state.result[good].is_successful()


def test_s6_keys_of_two_runs_of_one_flow_never_meet(tmp_path):
    path, gate = tmp_path / "notes", tmp_path / "gate"

    @task
    def work(x):
        note(path, x)
        until(gate.exists, 120)
        return x

    with Flow("s6") as flow:
        children = work.map(range(4))
    with local_cluster(threads=8) as client:
        executor = DaskExecutor(client=client)
        runs = [flow.start(executor=executor, history=False) for _ in range(2)]
        try:
            until(lambda: len(notes(path)) == 8, 60)  # at once: the cluster knows the keys of both
        finally:
            gate.touch()
        states = [run.wait(60) for run in runs]
    assert [state.result[children].result for state in states] == [[0, 1, 2, 3]] * 2
    assert sorted(notes(path)) == sorted("0123" * 2)


# ---------------------------------------------------------------------- stalls


def nested(path, **options):
    """Return a flow whose body waits for a task of its own on a worker that has no thread left for it."""

    @task(**options)
    def outer(x):
        note(path, x)
        inner = get_client().submit(abs, -x, pure=False)
        return inner.result(timeout=60 if options else None)

    with Flow("u15") as flow:
        out = outer(1)
    return flow, out


def test_u15_body_that_waits_for_its_own_worker_is_reported(tmp_path, caplog):
    path = tmp_path / "notes"
    flow, _ = nested(path)
    with local_cluster(1) as client:
        handle = flow.start(executor=DaskExecutor(client=client, stall_warning=1), history=False)
        (text,) = until(lambda: warnings_of(caplog, "nothing has ended for"), 60)
        assert "of 1 open tasks 1 run: outer on tcp://" in text
        assert "distributed.worker_client()" in text
        spend(3)
        assert len(warnings_of(caplog, "nothing has ended for")) == 1, "it was told again"
        handle.cancel()
        assert handle.wait(60).is_finished()


def test_u15_stall_warning_can_be_disabled(tmp_path, caplog):
    """The protection switched off: the run stands still in silence."""
    flow, _ = nested(tmp_path / "notes")
    with local_cluster(1) as client:
        handle = flow.start(executor=DaskExecutor(client=client, stall_warning=None), history=False)
        with pytest.raises(TimeoutError):
            handle.wait(6)
        assert not warnings_of(caplog, "nothing has ended for")
        handle.cancel()
        assert handle.wait(60).is_finished()


def test_u15_body_that_waits_for_its_own_worker_ends_at_its_limit(tmp_path):
    flow, out = nested(tmp_path / "notes", timeout=1)
    with local_cluster(1) as client:
        state = flow.run(executor=DaskExecutor(client=client), history=False)
    assert type(state.result[out]) is TimedOut
    assert state.result[out].message == "Task timed out during execution."


def test_no_stall_is_reported_while_children_end(tmp_path, caplog):
    @task
    def work(x):
        spend(0.3)
        return x

    with Flow("steady") as flow:
        children = work.map(range(10))
    with local_cluster(1) as client:
        state = flow.run(executor=DaskExecutor(client=client, stall_warning=2), history=False)
    assert state.result[children].result == list(range(10))
    assert not warnings_of(caplog, "nothing has ended")


# ---------------------------------------------------------------------- clients

SLEEPER = """
import sys, time
from pathlib import Path
import dask
from prefectish import Flow, task
from prefectish.executors import DaskExecutor
address, folder = sys.argv[1], Path(sys.argv[2])
sys.path.append(sys.argv[3])
from real import note, wait_for_file

@task
def work(x):
    note(folder / "notes", x)
    if x >= 5:
        wait_for_file(folder / "gate")
    return x

with Flow("sleeper") as flow:
    children = work.map(range(10))
with dask.config.set({"distributed.comm.timeouts.tcp": "11s", "distributed.comm.timeouts.connect": "4s"}):
    state = flow.run(executor=DaskExecutor(address), history=str(folder / "history.db"))
kinds = [type(s).__name__ for s in state.result[children].map_states]
(folder / "kinds").write_text(" ".join(kinds))
print(state)
sys.exit(state.exit_code)
"""


@contextmanager
def killed_at_last(process):
    try:
        yield
    finally:
        process.kill()


@pytest.mark.parametrize("cut", [False, True], ids=["c6-slept", "c6-slept-and-was-cut-off"])
def test_c6_suspended_client_continues_or_has_lost_its_scheduler(tmp_path, cut):
    """A client that sleeps for long finds everything as it was, or its link cut: then it is as without a scheduler."""
    (tmp_path / "home").mkdir()
    with (
        command_line_scheduler(tmp_path) as (address, _),
        command_line_worker(address, "--no-nanny"),
        proxy_to(address) as (proxy, near),
    ):
        tests = os.path.dirname(__file__)
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        path = [*filter(None, [os.environ.get("PYTHONPATH")]), tests]
        environment = {**os.environ, "PREFECTISH_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(path)}
        command = [sys.executable, "-c", SLEEPER, near, str(tmp_path), tests]
        with subprocess.Popen(command, env=environment, **options) as client, killed_at_last(client):
            until(lambda: len(notes(tmp_path / "notes")) >= 6, 60)
            spend(1)  # the first five records reach the client
            client.send_signal(signal.SIGSTOP)
            spend(2 if cut else 13)  # longer than the timeouts of its links
            if cut:
                proxy.cut(refuse=True)
            (tmp_path / "gate").touch()
            client.send_signal(signal.SIGCONT)
            out, err = client.communicate(timeout=90)
    states = (tmp_path / "kinds").read_text().split()
    if cut:
        assert client.returncode == 3, err
        assert states == ["Success"] * 5 + ["Crashed"] * 5
        assert "The run was cut short: the scheduler was lost." in out
        assert "flow.resume(" in err
    else:
        assert client.returncode == 0, err
        assert states == ["Success"] * 10
        assert sorted(map(int, notes(tmp_path / "notes"))) == list(range(10))
