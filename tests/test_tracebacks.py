"""Tracebacks begin where the user's code does, and a debugger that is quit in a body ends the run."""

from __future__ import annotations

import asyncio
import bdb
import sys
import traceback
import types

import pytest

from prefectish import Flow, context, history, task
from prefectish.engine.state import Failed
from prefectish.engine.worker import tracebacks
from prefectish.engine.worker.tracebacks import shorten_traceback
from prefectish.executors import LocalDaskExecutor, LocalExecutor


def functions(error):
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def fail(x):
    raise ValueError(x)


@task
def plain(x):
    fail(x)


@task
async def waits(x):
    await asyncio.sleep(0)
    fail(x)


@task
def chained(x):
    try:
        fail(x)
    except ValueError:
        fail("again")


@task(isolation="process")
def isolated(x):
    fail(x)


@pytest.mark.parametrize("limit", [None, 30])
@pytest.mark.parametrize("body", [plain, waits])
def test_traceback_begins_in_the_body(run, body, limit):
    with Flow("fails") as flow:
        failed = body.copy(timeout=limit)(1)
    state = run(flow).result[failed]
    names = [line.split(" in ")[-1] for line in state.traceback.splitlines() if line.startswith("  File")]
    assert names == [body.name, "fail"]


@pytest.mark.parametrize("body", [plain, waits, chained])
def test_frames_of_all_errors_of_a_chain_are_the_users(body):
    with Flow("fails") as flow:
        failed = body(1)
    error = flow.run(history=False).result[failed].result
    while error is not None:
        assert functions(error) == [body.name, "fail"]
        error = error.__cause__ or error.__context__


def test_isolated_body_tells_its_own_frames():
    with Flow("fails") as flow:
        failed = isolated(1)
    state = flow.run(history=False).result[failed]
    assert "in isolated" in state.traceback
    assert "prefectish/engine" not in state.traceback


def test_error_in_the_engine_for_the_body_shows_where_the_body_asked():
    @task
    def asks():
        return context.nothing

    with Flow("fails") as flow:
        failed = asks()
    assert functions(flow.run(history=False).result[failed].result) == ["asks", "__getattr__"]


@pytest.mark.parametrize("value", ["1", "0", ""])
def test_full_tracebacks_are_kept_on_request(monkeypatch, value):
    monkeypatch.setenv("PREFECTISH_FULL_TRACEBACKS", value)
    with Flow("fails") as flow:
        failed = waits(1)
    found = functions(flow.run(history=False).result[failed].result)
    assert found[-2:] == ["waits", "fail"]
    assert ("_stoppable" in found) == (value == "1")


def test_full_tracebacks_can_be_set_in_the_file(monkeypatch, tmp_path):
    (tmp_path / "config.toml").write_text("full_tracebacks = true\n")
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECTISH_FULL_TRACEBACKS", raising=False)
    tracebacks._keeps_all.cache_clear()
    with Flow("fails") as flow:
        failed = waits(1)
    found = functions(flow.run(history=False).result[failed].result)
    tracebacks._keeps_all.cache_clear()
    assert "_stoppable" in found


def test_error_without_a_frame_of_the_user_keeps_its_frames():
    try:
        context.nothing  # noqa: B018  it raises
    except AttributeError as error:
        shortened = shorten_traceback(error.with_traceback(error.__traceback__.tb_next))
        assert functions(shortened) == ["__getattr__"]


def test_chain_that_bites_its_tail_ends():
    one, two = ValueError(), ValueError()
    one.__cause__, two.__cause__ = two, one
    assert shorten_traceback(one) is one


def test_failures_of_the_history_have_short_tracebacks(tmp_path):
    with Flow("fails") as flow:
        waits.map([1, 2])
    run_id = flow.run(history=tmp_path / "history.db").context["flow_run_id"]
    (group,) = history.run(run_id, store=tmp_path / "history.db").failures()
    assert "prefectish/engine" not in group.traceback
    assert "in waits" in group.traceback


# ---------------------------------------------------------------------- debuggers


called = []


@task
def stop(x):
    called.append(x)
    if x == 1:
        raise bdb.BdbQuit
    return x


@pytest.fixture(autouse=True)
def nothing_called():
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


# -- a debugger where there is no terminal ------------------------------------------------------------------------


@task
def stops(x):
    breakpoint()
    return x


@task
def traces(x):
    import pdb

    pdb.set_trace()
    return x


@pytest.mark.parametrize("body", [stops, traces], ids=["breakpoint", "set_trace"])
def test_debugger_without_a_terminal_says_where_to_debug_instead(executor, in_process, body):
    if in_process:
        pytest.skip("bodies run where the terminal is")
    with Flow("stops") as flow:
        body.map([1])
    state = flow.run(executor=executor, history=False)
    child = state[body.name][0]
    assert (
        f"in {body.name}[0]: this process has no terminal; run the flow with LocalExecutor(), or only" in child.message
    )
    run_id = state.context["flow_run_id"]
    assert f"history.run(\"{run_id}\").child('{body.name}', 0).replay(pdb=True)" in str(child.result)


def test_debugger_in_an_isolated_body_says_where_to_debug_instead():
    with Flow("stops") as flow:
        stops.copy(isolation="process")(1)
    state = flow.run(history=False)
    assert "breakpoint() in stops: this process has no terminal" in state["stops"].message


def test_hook_of_the_user_is_left_alone(monkeypatch):
    def mine():
        return None

    for hook, variable in ((mine, None), (sys.__breakpointhook__, "web_pdb.set_trace")):
        monkeypatch.setattr(sys, "breakpointhook", hook)
        if variable is not None:
            monkeypatch.setenv("PYTHONBREAKPOINT", variable)
        tracebacks.refuse_debuggers()
        assert sys.breakpointhook is hook


# -- cells of a notebook -----------------------------------------------------------------------------------------------


def test_traceback_names_the_cell_of_a_notebook(monkeypatch):
    class Compile:
        @staticmethod
        def format_code_name(name):
            return ("Cell", "In[3]") if name.endswith("/77.py") else None

    shell = types.SimpleNamespace(compile=Compile)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    text = '  File "/tmp/ipykernel_1/77.py", line 2, in load\n  File "/tmp/ipykernel_1/mine.py", line 5, in inner\n'
    told = '  File "Cell In[3]", line 2, in load\n  File "/tmp/ipykernel_1/mine.py", line 5, in inner\n'
    assert Failed("no", traceback=text).traceback == told


def test_traceback_is_left_as_it_is_outside_of_notebooks(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert Failed("no", traceback='File "/tmp/ipykernel_1/77.py"').traceback == 'File "/tmp/ipykernel_1/77.py"'
