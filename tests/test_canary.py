"""X11: canaries in every place where somebody may put a secret, looked for in all that a run leaves behind."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from real import until

import prefectish
from prefectish import Flow, Secret, task
from prefectish.executors import DaskExecutor

#: Values that are arguments or results: in no text, but results are what a result store is for.
DATA = ("ARGUMENT", "CONSTANT", "PARAMETER", "RESULT")
#: Values that came through `Secret`: nowhere.
SECRET = ("TOKEN", "STAND_IN")


@pytest.fixture
def canaries():
    return {name: f"canary-{name.lower().replace('_', '-')}-{secrets.token_hex(8)}" for name in (*DATA, *SECRET)}


@contextmanager
def running(code, output, environment, *arguments):
    with open(output, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdout=file, stderr=subprocess.STDOUT, env=environment
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def cluster(folder, environment):
    """Run a scheduler and two workers of the command line that say all they can; only the workers know the token."""
    file = folder / "scheduler.json"
    loud = {**os.environ, "DASK_LOGGING__DISTRIBUTED": "debug"}
    scheduler = "from distributed.cli.dask_scheduler import main; main()"
    worker = "from distributed.cli.dask_worker import main; main()"
    options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    with running(scheduler, folder / "scheduler.out", loud, *options):
        until(lambda: file.exists() and file.read_text().rstrip().endswith("}"), 60)
        more = ("--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard", "--no-nanny")
        with (
            running(worker, folder / "worker-1.out", {**loud, **environment}, *more),
            running(worker, folder / "worker-2.out", {**loud, **environment}, *more),
        ):
            import json

            yield json.loads(file.read_text())["address"]


def run_flow(folder, canaries, name, address, environment):
    """Run the flow in a process of its own; its outputs are files in the folder."""
    told = {
        **os.environ,
        "PREFECTISH_HOME": str(folder / "home"),
        "CANARIES": ",".join(f"{key}={canaries[key]}" for key in ("ARGUMENT", "CONSTANT", "PARAMETER", "STAND_IN")),
        "CANARY_RESULT": canaries["RESULT"],
        **environment,
    }
    command = [sys.executable, str(Path(__file__).parent / "canary_flow.py"), name, address, str(folder / "store")]
    with open(folder / "client.out", "wb") as out, open(folder / "client.err", "wb") as err:
        subprocess.run(command, stdout=out, stderr=err, env=told, timeout=240, check=False)


def check(folder, canaries, cluster_outputs=()):
    """Look for the canaries in all files of the folder."""
    out = (folder / "client.out").read_text()
    assert "THE END" in out, (folder / "client.err").read_text()[-3000:]
    assert "****" in out
    assert "cannot log in" in (folder / "by-state.html").read_text()
    assert "cannot log in" in (folder / "by-history.html").read_text()
    assert out.count("cannot log in with ****") > 10, "the commands tell of the run"
    assert any("history" in path.name for path in (folder / "home").rglob("*"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        for name in SECRET:
            assert canaries[name].encode() not in content, f"{name} is in {path}"
        if (folder / "store") not in path.parents:
            for name in DATA:
                assert canaries[name].encode() not in content, f"{name} is in {path}"
    for name in cluster_outputs:
        assert (folder / name).stat().st_size > 100, f"{name} says nothing, so nothing was looked at"


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        ("LocalExecutor", "-"),
        ("LocalDaskExecutor", "threads"),
        ("LocalDaskExecutor", "processes"),
    ],
    ids=["local", "threads", "processes"],
)
def test_canaries_x11_are_nowhere_on_one_machine(name, scheduler, canaries, tmp_path):
    environment = {"PREFECTISH__SECRETS__TOKEN": canaries["TOKEN"]}
    run_flow(tmp_path, canaries, name, scheduler, environment)
    check(tmp_path, canaries)


def test_canaries_x11_are_nowhere_on_a_cluster_dask(canaries, tmp_path):
    told = {"PREFECTISH__SECRETS__TOKEN": canaries["TOKEN"], "CANARY_RESULT": canaries["RESULT"]}
    with cluster(tmp_path, told) as address:
        run_flow(tmp_path, canaries, "DaskExecutor", address, {})
    check(tmp_path, canaries, ("scheduler.out", "worker-1.out", "worker-2.out"))


def test_canaries_x11_are_found_where_nothing_is_masked(canaries, tmp_path):
    environment = {"PREFECTISH__SECRETS__TOKEN": canaries["TOKEN"], "UNMASKED": "1"}
    run_flow(tmp_path, canaries, "LocalExecutor", "-", environment)
    found = {
        path.name for path in tmp_path.rglob("*") if path.is_file() and canaries["TOKEN"].encode() in path.read_bytes()
    }
    assert {"client.out", "client.err"} < found, "not in the history, so it was not looked at"


@task
def log_and_die(token):
    prefectish.context.logger.warning("the token is %s", token)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.fault
def test_canary_x11_is_not_in_the_evidence_of_a_crash(canaries, tmp_path):
    path = tmp_path / "history.db"
    with Flow("last words") as flow:
        end = log_and_die(Secret("TOKEN"))
    options = {"distributed.scheduler.allowed-failures": 0}
    with prefectish.context(secrets={"TOKEN": canaries["TOKEN"]}), dask.config.set(options):
        executor = DaskExecutor(cluster_kwargs={"n_workers": 1, "threads_per_worker": 1})
        state = flow.run(executor=executor, history=str(path))
    crashed = state.result[end]
    assert any("the token is ****" in line for line in crashed.evidence["log"])
    assert canaries["TOKEN"] not in f"{crashed!r} {crashed.evidence} {crashed.traceback}"
    assert canaries["TOKEN"].encode() not in path.read_bytes()
