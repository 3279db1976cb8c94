"""The lifetime of workers is respected: no body begins that its worker would not see the end of."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from distributed import Client
from real import command_line_scheduler, note, notes, running, spend

from prefectish import Flow, flow, task
from prefectish.executors import DaskExecutor

pytestmark = [pytest.mark.time_limit(240), pytest.mark.fault]

CODE = "from distributed.cli.dask_worker import main; main()"


def begun_and_ended(path):
    lines = [line.split() for line in notes(path)]
    return (
        Counter(int(x) for what, x in lines if what == "+"),
        Counter(int(x) for what, x in lines if what == "-"),
    )


@pytest.mark.parametrize("style", ["graph", "function"])
def test_w22_no_body_is_cut_by_the_end_of_its_worker(tmp_path, style):
    """Bodies of 4 s on workers of 10 s: two fit into each life."""
    path, seconds, number = tmp_path / "notes", 4.0, 8

    @task
    def work(x):
        note(path, f"+ {x}")
        spend(seconds)
        note(path, f"- {x}")
        return x

    options = ("--nthreads", "1", "--no-dashboard", "--lifetime", "10s", "--lifetime-restart", "--nanny")
    with (
        command_line_scheduler(tmp_path) as (address, _),
        running(CODE, address, "--nworkers", "2", *options),
        Client(address, set_as_default=False) as client,
    ):
        client.wait_for_workers(2, 60)
        executor = DaskExecutor(client=client)
        if style == "graph":
            with Flow("lifetimes") as graph:
                out = work.map(range(number))
            state = graph.run(executor=executor, history=False)
            assert state.result[out].result == list(range(number))
        else:

            @flow(executor=executor, history=False)
            def calls():
                return work.map(range(number)).result()

            assert calls() == list(range(number))
    begun, ended = begun_and_ended(path)
    assert begun == ended, "a body was cut"
    assert set(begun.values()) == {1}


@pytest.mark.parametrize("variable", ["SLURM_JOB_END_TIME", "PREFECTISH_WORKER_ENDS"])
def test_worker_that_is_about_to_end_by_its_environment_is_given_nothing_long(tmp_path, monkeypatch, variable):
    path = tmp_path / "notes"

    @task(expected_duration=5)
    def work(x):
        from distributed import get_worker

        note(path, f"{x} {get_worker().name}")
        spend(0.2)
        return x

    options = ("--nthreads", "1", "--no-dashboard", "--no-nanny")
    with command_line_scheduler(tmp_path) as (address, _), Client(address, set_as_default=False) as client:
        monkeypatch.setenv(variable, str(time.time() + 9))
        with running(CODE, address, "--name", "short", *options):
            monkeypatch.delenv(variable)
            with running(CODE, address, "--name", "long", *options):
                client.wait_for_workers(2, 60)
                spend(4)  # of nine seconds too few are left, though there were enough
                with Flow("ends") as graph:
                    out = work.map(range(10))
                state = graph.run(executor=DaskExecutor(client=client), history=False)
    assert state.result[out].result == list(range(10))
    assert {line.split()[1] for line in notes(path)} == {"long"}


def test_body_that_fits_nowhere_runs_all_the_same(tmp_path):
    @task(expected_duration=3600)
    def work(x):
        return x

    options = ("--nthreads", "1", "--no-dashboard", "--no-nanny", "--lifetime", "60s")
    with (
        command_line_scheduler(tmp_path) as (address, _),
        running(CODE, address, *options),
        Client(address, set_as_default=False) as client,
    ):
        client.wait_for_workers(1, 60)
        with Flow("too-long") as graph:
            out = work.map(range(3))
        assert graph.run(executor=DaskExecutor(client=client), history=False).result[out].result == [0, 1, 2]
