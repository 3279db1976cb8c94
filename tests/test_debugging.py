"""A debugger in a body."""

from __future__ import annotations

import bdb

import pytest

from prefectish import Flow, task
from prefectish.executors import LocalDaskExecutor, LocalExecutor

called = []


@task
def stop(x):
    called.append(x)
    if x == 1:
        raise bdb.BdbQuit
    return x


@pytest.fixture(autouse=True)
def fresh():
    called.clear()


def flow_of(**options):
    with Flow("stops") as flow:
        stop.copy(**options).map([0, 1, 2])
    return flow


@pytest.mark.parametrize("options", [{}, {"max_retries": 3, "retry_delay": 0}, {"timeout": 60}])
def test_quitting_the_debugger_ends_a_local_run(options):
    flow = flow_of(**options)
    with pytest.raises(KeyboardInterrupt) as stopped:
        flow.run(executor=LocalExecutor(), history=False)
    assert called == [0, 1]
    states = stopped.value.state["stop"].map_states
    assert [type(state).__name__ for state in states] == ["Success", "Cancelled", "Cancelled"]


def test_quitting_the_debugger_elsewhere_fails_the_child():
    state = flow_of().run(executor=LocalDaskExecutor(num_workers=1), history=False)["stop"]
    assert [type(child).__name__ for child in state.map_states] == ["Success", "Failed", "Success"]


def test_flow_in_a_body_on_threads_is_not_in_the_users_thread():
    @task
    def outer():
        state = flow_of().run(executor=LocalDaskExecutor(num_workers=1), history=False)
        return type(state).__name__

    with Flow("outer") as flow:
        out = outer()
    assert flow.run(executor=LocalExecutor(), history=False).result[out].result == "Failed"


def test_q_in_pdb_ends_the_run(monkeypatch, capsys):
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.StringIO("p x\nq\n"))

    @task
    def body(x):
        import pdb

        pdb.Pdb(stdin=sys.stdin, stdout=sys.stdout).set_trace()
        return x

    with Flow("debugged") as flow:
        body.map([7, 8])
    with pytest.raises(KeyboardInterrupt):
        flow.run(executor=LocalExecutor(), history=False)
    shown = capsys.readouterr().out
    assert "(Pdb) 7" in shown
    assert shown.count("(Pdb)") == 2
