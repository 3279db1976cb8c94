"""A worker that joins during a run is looked at as those that were there at its start."""

from __future__ import annotations

import logging
import subprocess

import pytest
from distributed import Client
from real import command_line_scheduler, command_line_worker, meanwhile, note, notes, running, spend, until

from prefectish import Flow, task
from prefectish.executors import DaskExecutor
from prefectish.results import LocalResult

pytestmark = [pytest.mark.time_limit(180), pytest.mark.fault]


def has_namespaces():
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


#: Run a worker that sees another folder in the place of the store.
ELSEWHERE = """
import subprocess, sys
own, shared, *command = sys.argv[1:]
subprocess.run(["mount", "--bind", own, shared], check=True)
sys.argv[1:] = command
from distributed.cli.dask_worker import main; main()
"""


@pytest.mark.skipif(not has_namespaces(), reason="needs mount namespaces (root on Linux)")
def test_w23_late_worker_with_a_disk_of_its_own_is_sent_away(tmp_path, caplog):
    store, own, path = tmp_path / "store", tmp_path / "own", tmp_path / "notes"
    store.mkdir()
    own.mkdir()

    @task
    def work(x):
        from distributed import get_worker

        note(path, f"{x} {get_worker().name}")
        spend(0.5)
        return b"x" * 400_000

    def join(address):
        until(lambda: len(notes(path)) >= 2)
        command = f"['unshare', '-m', sys.executable, '-c', {ELSEWHERE!r}, *sys.argv[1:]]"
        code = f"import os, sys; os.execvp('unshare', {command})"
        options = ("--nthreads", "1", "--no-dashboard", "--name", "late", "--no-nanny")
        late.append(running(code, str(own), str(store), address, *options))
        late[0].__enter__()

    late: list = []
    with Flow("late", result=LocalResult(store)) as flow:
        out = work.map(range(24))
    with (
        command_line_scheduler(tmp_path) as (address, _),
        command_line_worker(address, "--name", "first", "--no-nanny"),
        Client(address, set_as_default=False) as client,
    ):
        client.wait_for_workers(1, 60)
        with meanwhile(join, address):
            state = flow.run(executor=DaskExecutor(client=client), history=False)
        late[0].__exit__(None, None, None)
        assert state.is_successful(), state
        assert state.result[out].result == [b"x" * 400_000] * 24
    assert {line.split()[1] for line in notes(path)} == {"first"}
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR and "joined late" in r.getMessage()]
    assert len(told) == 1, told
    assert "is not shared: what the client wrote there is not to be found" in told[0]
    assert not list(store.rglob("probe*")), "what the client wrote is left behind"


#: Run a worker that has no prefectish.
WITHOUT = """
import sys
class NotThere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "prefectish":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NotThere())
from distributed.cli.dask_worker import main; main()
"""


def test_late_worker_without_prefectish_costs_no_child(tmp_path):
    path = tmp_path / "notes"

    @task
    def work(x):
        from distributed import get_worker

        note(path, f"{x} {get_worker().name}")
        spend(0.5)
        return x

    def join(address):
        until(lambda: len(notes(path)) >= 2)
        late.append(running(WITHOUT, address, "--nthreads", "1", "--no-dashboard", "--name", "late", "--no-nanny"))
        late[0].__enter__()

    late: list = []
    with Flow("late") as flow:
        out = work.map(range(24))
    with (
        command_line_scheduler(tmp_path) as (address, _),
        command_line_worker(address, "--name", "first", "--no-nanny"),
        Client(address, set_as_default=False) as client,
    ):
        client.wait_for_workers(1, 60)
        with meanwhile(join, address):
            state = flow.run(executor=DaskExecutor(client=client), history=False)
        seen = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler._workers_added_total)
        late[0].__exit__(None, None, None)
    assert seen == 2, "it has not joined"
    assert state.is_successful(), state
    assert state.result[out].result == list(range(24))
    assert {line.split()[1] for line in notes(path)} == {"first"}
