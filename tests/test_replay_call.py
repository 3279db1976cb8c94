"""One recorded call of a flow function again (F17): its inputs come from the store, and nothing else runs."""

from __future__ import annotations

import io
import sys

import pytest
from bodies import inc

from prefectish import flow, history, task, unmapped
from prefectish.errors import ParameterError, ResultReleased, ResumeMismatch
from prefectish.results import LocalResult

calls = []


@task
def load(x):
    return 10 * x


@task
def divide(x, by=1):
    calls.append((x, by))
    return by / (x - 20)


@task
def total(xs, start):
    calls.append((xs, start))
    return sum(xs) + start


@pytest.fixture(autouse=True)
def fresh():
    calls.clear()


def divisions(tmp_path, **options):
    """Return a flow whose third child of a map, and third call, fail."""

    @flow(history=str(tmp_path / "history.db"), **options)
    def divided(n):
        mapped = divide.map(load.map(range(n)), by=unmapped(3))
        called = [divide.submit(load.submit(i)) for i in range(n)]
        good = [future for future in (*mapped, *called) if future.wait() and future.state.is_successful()]
        return total.submit(good, start=load(1)).result()

    return divided


def recorded(state, tmp_path):
    return history.run(state.context["flow_run_id"], store=str(tmp_path / "history.db"))


@pytest.fixture
def stored(tmp_path):
    return LocalResult(str(tmp_path / "results"))


def test_f17_call_and_child_run_again_with_their_inputs_on_every_executor(executor, tmp_path, stored):
    divided = divisions(tmp_path, result=stored)
    run = recorded(divided.run(n=4, executor=executor), tmp_path)
    before = [dict(task) for task in run.tasks()]
    calls.clear()
    child = run.child("divide-1", 2)
    state = child.replay(parameters={"n": 4})
    assert isinstance(state.result, ZeroDivisionError)
    call = next(c for c in run.children("divide-2") if c.state == "Failed")
    assert isinstance(call.replay(flow=divided, parameters={"n": 4}).result, ZeroDivisionError)
    assert run.child("divide-1", 3).replay(parameters={"n": 4}).result == 0.3
    assert calls == [(20, 3), (20, 1), (30, 3)]
    assert run.child("total-1", 0).replay(parameters={"n": 4}).result == pytest.approx(9.8)
    assert calls[3][1] == 10
    again = recorded(divided.run(n=1), tmp_path)
    assert (recorded_part(run, tmp_path), [dict(task) for task in run.tasks()]) == (0, before)
    assert again.id != run.id


def recorded_part(run, tmp_path):
    return history.run(run.id, store=str(tmp_path / "history.db")).part


def fixes(body, tmp_path, **options):
    """Return a flow whose task has this body."""

    @flow(name="fixes", history=str(tmp_path / "history.db"), result=LocalResult(str(tmp_path)), **options)
    def fixed():
        return task(body, name="fix", max_retries=2, retry_delay=0, on_failure=told).submit(inc(-1)).result()

    return fixed


def told(*of):
    calls.append("told")


def test_f17_corrected_body_is_tried_without_handlers_stores_and_retries(tmp_path):
    run = recorded(fixes(lambda x: 1 / x, tmp_path).run(), tmp_path)
    calls.clear()
    still = fixes(lambda x: calls.append(x) or 1 / x, tmp_path, on_failure=told, retries=3)
    assert run.child("fix-1", 0).replay(flow=still).is_failed()
    corrected = fixes(lambda x: x + 7, tmp_path)
    assert run.child("fix-1", 0).replay(flow=corrected).result == 7
    assert (calls, run.child("fix-1", 0).attempts) == ([0], 3)


def test_f17_missing_results_are_named_and_what_is_not_needed_is_not_missed(tmp_path):
    divided = divisions(tmp_path)
    run = recorded(divided.run(n=4), tmp_path)
    with pytest.raises(ResultReleased, match=r"divide\[2\] cannot be replayed: load\[2\] has no recorded end, or a"):
        run.child("divide-1", 2).replay(parameters={"n": 4})

    @flow(history=str(tmp_path / "history.db"))
    def apart():
        futures = [divide.submit(load.submit(1)), divide.submit(20)]
        return [future.wait() and type(future.state) for future in futures]

    run = recorded(apart.run(), tmp_path)
    failed = next(c for c in run.children("divide-2") if c.state == "Failed")
    assert isinstance(failed.replay().result, ZeroDivisionError)


def test_f17_result_that_the_function_reads_itself_is_named(tmp_path):
    @flow(history=str(tmp_path / "history.db"))
    def reads():
        return divide(load(2) + 0)

    run = recorded(reads.run(), tmp_path)
    with pytest.raises(ResultReleased, match=r"divide\[0\] cannot be replayed: load\[0\] has no recorded end"):
        run.child("divide-1", 0).replay()


def test_f17_what_is_called_otherwise_now_is_refused(tmp_path, stored):
    divided = divisions(tmp_path, result=stored)
    run = recorded(divided.run(n=4), tmp_path)
    child = run.child("divide-1", 3)
    with pytest.raises(ParameterError, match=r"missing: n; .*parameters are not recorded: pass them, \.replay"):
        child.replay()
    with pytest.raises(ResumeMismatch, match=r"divide\[3\] is not called with what it was given in run"):
        child.replay(parameters={"n": 2})
    with pytest.raises(TypeError, match="flow must be a Flow or a @flow function, got 3"):
        child.replay(flow=3)


def test_f17_async_flows_and_calls_in_them(executor, tmp_path, stored):
    @task
    async def slow_divide(x):
        return 1 / x

    @flow(history=str(tmp_path / "history.db"), result=stored)
    async def apart(n):
        first = await slow_divide(inc(n))
        return first, await slow_divide.submit(inc(-1))

    run = recorded(apart.run(n=1, executor=executor), tmp_path)
    (child,) = run.failures()[0].children
    assert isinstance(child.replay(parameters={"n": 1}).result, ZeroDivisionError)


def test_f17_debugger_stops_at_the_first_line_of_the_call(tmp_path, stored, monkeypatch, capsys):
    run = recorded(divisions(tmp_path, result=stored).run(n=4), tmp_path)
    divided = divisions(tmp_path, result=stored)
    monkeypatch.setattr(sys, "stdin", io.StringIO("p x, by\ncontinue\np by\nquit\n"))
    run.child("divide-1", 2).replay(pdb=True, flow=divided, parameters={"n": 4})
    shown = capsys.readouterr().out
    assert "(20, 3)" in shown


def test_f17_what_is_called_after_the_call_is_known_too(tmp_path, stored):
    """The call is posted before the map that it waits for."""

    @flow(history=str(tmp_path / "history.db"), result=stored)
    def waits():
        first = divide.submit(21, wait_for=[load.submit(1)])
        return divide.submit(22, wait_for=[first, load.map([1, 2])]).result()

    run = recorded(waits.run(), tmp_path)
    calls.clear()
    assert [child.replay().result for task in run.tasks() for child in run.children(task["slug"])].count(0.5) == 1
    assert sorted(calls) == [(21, 1), (22, 1)]
