"""A worker that joins during a run is looked at as those that were there at its start."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from distributed import Client
from real import command_line_scheduler, command_line_worker, meanwhile, note, notes, running, spend, until

from prefectish import Flow, task, unmapped
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


#: Run a worker of another Python: one that says so of itself.
OTHER_PYTHON = """
import sys
from distributed.cli.dask_worker import main
sys.version_info = type("version_info", (tuple,), {"major": 3, "minor": 1})((3, 1, 0, "final", 0))
main()
"""


def late_run(tmp_path, work, code, *options):
    """Map over 24 numbers on one worker, which another one joins; return the state, and where bodies ran."""
    path, late = tmp_path / "notes", []

    def join(address):
        until(lambda: len(notes(path)) >= 2)
        late.append(running(code, address, "--nthreads", "1", "--no-dashboard", "--name", "late", "--no-nanny"))
        late[0].__enter__()

    with Flow("late") as flow:
        out = work.map(range(24), path=unmapped(path))
    with (
        command_line_scheduler(tmp_path) as (address, _),
        command_line_worker(address, "--name", "first", "--no-nanny", *options),
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
    return {line.split()[1] for line in notes(path)}


def body(x, path):
    from distributed import get_worker

    note(path, f"{x} {get_worker().name}")
    spend(0.5)
    return x


def test_late_worker_without_prefectish_costs_no_child(tmp_path):
    assert late_run(tmp_path, task(body), WITHOUT) == {"first"}


def test_late_worker_without_the_resource_is_given_nothing(tmp_path):
    work, plain = task(body, resources={"SEATS": 1}), "from distributed.cli.dask_worker import main; main()"
    assert late_run(tmp_path, work, plain, "--resources", "SEATS=1") == {"first"}


def test_w23_late_worker_of_another_python_is_sent_away_and_named_once(tmp_path, caplog):
    assert late_run(tmp_path, task(body), OTHER_PYTHON) == {"first"}
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR and "joined late" in r.getMessage()]
    assert len(told) == 1, told
    assert told[0].startswith(f"Python is 3.1 there and {sys.version_info[0]}.{sys.version_info[1]} at the client, on")
