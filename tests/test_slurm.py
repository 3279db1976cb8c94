"""Workers and drivers as jobs of a real SLURM, and the page "On SLURM and other queues", word for word."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from consoles import console, matches
from real import kinds, note, notes, spend, until, wait_for_file
from slurm import Slurm, missing, slurm

import prefectish
from prefectish import Flow, flow, history, task
from prefectish.engine.state import Crashed, Success
from prefectish.environments import CommandEnvironment
from prefectish.executors import DaskExecutor
from prefectish.flow_loading import load_flow
from prefectish.registry import queue as requests

LIMIT = 60.0
REASON = missing()
PAGE = (Path(__file__).parent.parent / "docs" / "queues.md").read_text()
#: The line of the page; this SLURM may be too old to say by itself when a job ends.
ENDS = "export PREFECTISH_WORKER_ENDS=$(squeue -h -j $SLURM_JOB_ID -o %e)"
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.time_limit(110),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]


@pytest.fixture(scope="module")
def queue() -> Iterator[Slurm]:
    with slurm() as started, pytest.MonkeyPatch.context() as patch:
        for name, value in started.environment.items():
            patch.setenv(name, value)
        yield started


def workers(folder: Path, *prologue: str, adapt: dict[str, int] | None = None, **options: Any) -> DaskExecutor:
    """Return an executor whose workers are jobs: two of one thread, unless their number adapts."""
    return DaskExecutor(
        cluster_class="dask_jobqueue.SLURMCluster",
        cluster_kwargs={
            "n_workers": 0 if adapt else 2,
            "cores": 1,
            "memory": "500MB",
            "walltime": "00:10:00",
            "interface": "lo",
            "log_directory": str(folder / "logs"),
            "local_directory": str(folder / "local"),
            "scheduler_options": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            "job_script_prologue": list(prologue),
        },
        adapt_kwargs=adapt,
        **options,
    )


def begun(path: Path) -> list[tuple[int, str]]:
    """Return the children whose bodies began, each with the number of the job."""
    return [(int(line.split()[1]), line.split()[2]) for line in notes(path) if line.startswith("+")]


def end_job(queue: Slurm, path: Path, job: str, killed: bool) -> None:
    """Cancel a job, or kill its processes that a body has noted: `scancel --signal=KILL` begins with SIGTERM, too."""
    if not killed:
        queue.call("scancel", job)
        return
    noted = next(line.split()[3:] for line in notes(path) if line.startswith("+") and line.split()[2] == job)
    for pid in noted:
        os.kill(int(pid), signal.SIGKILL)


def ended(path: Path) -> Counter[int]:
    return Counter(int(line.split()[1]) for line in notes(path) if line.startswith("-"))


def test_no_body_is_cut_by_the_end_of_its_job(queue: Slurm, tmp_path: Path) -> None:
    """Jobs of 25 s: SLURM counts walltimes in minutes, but an end can be brought forward to the second."""
    path, seconds, number = tmp_path / "notes", 7.0, 8  # four of them do not fit into a job

    @task(expected_duration=seconds)
    def work(x):
        note(path, f"+ {x} {os.environ['SLURM_JOB_ID']}")
        spend(seconds)
        note(path, f"- {x}")
        return x

    with Flow("walltimes") as graph:
        out = work.map(range(number))
    short = "scontrol update JobId=$SLURM_JOB_ID EndTime=now+25"
    executor = workers(tmp_path, short, ENDS, adapt={"minimum": 2, "maximum": 2})
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}):
        state = graph.run(executor=executor, history=False)
    assert state.result[out].result == list(range(number))
    assert Counter(x for x, _ in begun(path)) == ended(path) == dict.fromkeys(range(number), 1), "a body was cut"
    assert len({job for _, job in begun(path)}) > 2, "all of them fit into the first jobs"


@pytest.mark.parametrize("style", ["graph", "function"])
def test_children_run_in_jobs_and_no_job_is_left(queue: Slurm, tmp_path: Path, style: str) -> None:
    path = tmp_path / "notes"

    @task
    def work(x):
        note(path, f"+ {x} {os.environ['SLURM_JOB_ID']}")
        until(lambda: len({job for _, job in begun(path)}) == 2)
        return 2 * x

    executor = workers(tmp_path)
    if style == "graph":
        with Flow("jobs") as graph:
            out = work.map(range(8))
        state = graph.run(executor=executor, history=False)
        assert state.result[out].result == list(range(0, 16, 2))
    else:

        @flow(executor=executor, history=False)
        def calls():
            return work.map(range(8)).result()

        assert calls() == list(range(0, 16, 2))
    assert sorted(x for x, _ in begun(path)) == list(range(8))
    until(lambda: not queue.jobs())


def test_jobs_are_submitted_as_there_is_work(queue: Slurm, tmp_path: Path) -> None:
    path = tmp_path / "notes"

    @task
    def work(x):
        note(path, f"+ {x} {os.environ['SLURM_JOB_ID']}")
        until(lambda: len({job for _, job in begun(path)}) == 3)
        return x

    @task
    def total(values):
        return sum(values)

    with Flow("adaptive") as graph:
        out = total(work.map(range(12)))
    state = graph.run(executor=workers(tmp_path, adapt={"minimum": 0, "maximum": 3}), history=False)
    assert state.result[out].result == sum(range(12))
    assert sorted(x for x, _ in begun(path)) == list(range(12))
    until(lambda: not queue.jobs())


@pytest.mark.parametrize("killed", [False, True], ids=["cancelled", "killed"])
def test_job_that_is_cancelled_in_mid_run_takes_no_child_with_it(queue: Slurm, tmp_path: Path, killed: bool) -> None:
    path, gate = tmp_path / "notes", tmp_path / "gate"

    @task
    def work(x):
        note(path, f"+ {x} {os.environ['SLURM_JOB_ID']} {os.getppid()} {os.getpid()}")
        wait_for_file(gate)
        note(path, f"- {x}")
        return x

    with Flow("cancelled") as graph:
        out = work.map(range(8))
    run = graph.start(executor=workers(tmp_path), history=False)
    until(lambda: len({job for _, job in begun(path)}) == 2, 40)
    lost, victim = begun(path)[0]
    end_job(queue, path, victim, killed)
    until(lambda: victim not in queue.jobs())
    gate.touch()
    state = run.wait(LIMIT)
    assert state.result[out].result == list(range(8))
    assert Counter(x for x, _ in begun(path)) == {x: 2 if x == lost else 1 for x in range(8)}
    assert ended(path) == dict.fromkeys(range(8), 1)


def test_run_whose_jobs_are_all_cancelled_ends(queue: Slurm, tmp_path: Path) -> None:
    path = tmp_path / "notes"

    @task
    def work(x):
        note(path, f"+ {x} {os.environ['SLURM_JOB_ID']}")
        wait_for_file(tmp_path / "never")

    with Flow("gone") as graph:
        out = work.map(range(8))
    run = graph.start(executor=workers(tmp_path, no_workers_timeout=10), history=False)
    until(lambda: len({job for _, job in begun(path)}) == 2, 40)
    queue.call("scancel", *queue.jobs())
    state = run.wait(LIMIT)
    assert kinds(state.result[out]) == {"Crashed": 8}
    first = state.result[out].map_states[0]
    assert isinstance(first, Crashed)
    assert first.cause == "no-workers"


# -- drivers ---------------------------------------------------------------------------------------------------------

SOURCE = """
import os
from pathlib import Path
from prefectish import Flow, task
from prefectish.results import LocalResult

HERE = Path(__file__).parent
print("loaded by a job")

@task
def work(x):
    from threading import Event
    with open(HERE / "notes", "a") as file:
        file.write(f"+ {x} {os.environ['SLURM_JOB_ID']} {os.getpid()}\\n")
    while x == 2 and (HERE / "gate").exists():
        Event().wait(0.02)
    return x

with Flow("chores", result=LocalResult(str(HERE / "results"))) as chores:
    work.map(range(4))
"""


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "cancelled"])
def test_run_whose_job_is_killed_is_continued_by_another_job(
    queue: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """One that is cancelled, too: its driver has SIGTERM, and hands the run on."""
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "chores.py").write_text(SOURCE)
    gate, path = tmp_path / "gate", tmp_path / "notes"
    gate.touch()
    command = ["sbatch", "--wait", "--time=10", "--output=/dev/null", "--wrap={command}"]
    deployment = load_flow(str(tmp_path / "chores.py")).deploy("house", environment=CommandEnvironment(command))
    run_id = deployment.run()
    code = "from prefectish.registry.agent import Agent; Agent().start()"
    agent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    try:
        first = until(lambda: [job for x, job in begun(path) if x == 2], LIMIT)
        end_job(queue, path, first[0], killed)
        until(lambda: first[0] not in queue.jobs())
        gate.unlink()
        state = prefectish.attach(run_id).wait(LIMIT)
        row = until(lambda: (r := requests.row_of(deployment._store, run_id)).output and r, 30)
    finally:
        agent.terminate()
        agent.wait(LIMIT)
        del sys.modules["chores"]
    assert "loaded by a job" in row.output
    assert isinstance(state, Success)
    assert history.run(run_id).part == 1
    assert Counter(x for x, _ in begun(path)) == {0: 1, 1: 1, 2: 2, 3: 1}
    assert {job for x, job in begun(path) if x > 2} & set(first) == set()


# -- the page --------------------------------------------------------------------------------------------------------


def test_page_does_what_it_says(queue: Slurm, tmp_path: Path) -> None:
    """Word for word, but for the interface and a folder of the site."""
    programs = re.findall(r"^```\{code-block\} python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    for name, program in zip(("simulations.py", "nightly.py"), programs, strict=True):
        (tmp_path / name).write_text(program)
    (site,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "dask").mkdir()
    site = site.replace("ib0", "lo").replace("/scratch/me", str(tmp_path))
    (tmp_path / "dask" / "jobqueue.yaml").write_text(site)
    settings = {"PREFECTISH_HOME": str(tmp_path / "home"), "DASK_CONFIG": str(tmp_path / "dask"), "COLUMNS": "200"}
    scripts = os.path.dirname(sys.executable)
    environment = {**os.environ, **settings, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    commands = console(PAGE)
    assert len(commands) == 5
    for command, shown in commands:
        done = subprocess.run(
            command.split(), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout)
        assert matches(shown, done.stdout), f"{command}\nshown:\n{shown}\nprinted:\n{done.stdout}"
    assert ENDS in PAGE
    until(lambda: not queue.jobs())
