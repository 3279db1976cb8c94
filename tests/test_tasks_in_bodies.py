"""Tasks that are called in the bodies of tasks: functions, in both front ends and on every executor."""

from __future__ import annotations

import pytest
from bodies import inc, later

from prefectish import Flow, flow, task
from prefectish.errors import FlowDefinitionError


@task
def twice(x):
    return inc(inc(x))


@task(isolation="process")
def apart(x):
    return inc(x)


@task
async def soon(x):
    return await later(x) + inc(x)


@task
def runs_a_flow(x):
    @flow(history=False)
    def inner():
        return inc.map([x, inc.submit(x)]).result()

    return inner()


@task
def submits(x):
    return inc.submit(x)


@task
def maps(x):
    return inc.map([x])


@task
def wants_a_state(x):
    return inc(x, return_state=True)


BODIES = [twice, apart, soon, runs_a_flow, submits, maps, wants_a_state]
RESULTS = [3, 2, 4, [2, 3]]


def check(results, in_process, caplog):
    *values, submitted, mapped, state = results
    assert values == RESULTS
    assert isinstance(submitted, FlowDefinitionError)
    assert str(submitted).startswith("inc.submit(...) was called in the body of submits, which has no tasks of its own")
    assert str(mapped).startswith("inc.map(...) was called in the body of maps, which has no tasks of its own")
    assert str(state).startswith(
        "inc(..., return_state=True) in the body of wants_a_state: it runs there as a function"
    )
    told = [r.getMessage() for r in caplog.records if "inc was called in the body of" in r.getMessage()]
    assert told
    assert told[0].endswith("or call a @flow in the body")
    if in_process:
        assert len({text for text in told if "body of twice" in text}) <= 1


def test_task_called_in_a_body_runs_as_a_function_in_a_flow_function(executor, in_process, caplog):
    @flow(executor=executor, history=False)
    def calls():
        return [f.result(raise_on_failure=False) for f in [body.submit(1) for body in BODIES]]

    check(calls(), in_process, caplog)


def test_task_called_in_a_body_runs_as_a_function_in_a_flow(run, in_process, caplog):
    with Flow("calls") as recorded:
        made = [body(1) for body in BODIES]
    states = run(recorded).result
    check([states[task].result for task in made], in_process, caplog)


def test_warning_comes_once_in_a_run(caplog):
    @flow(history=False)
    def calls():
        return [twice(i) for i in range(3)]

    assert calls() == [2, 3, 4]
    assert sum("inc was called in the body of twice" in r.getMessage() for r in caplog.records) == 1
    calls()
    assert sum("inc was called in the body of twice" in r.getMessage() for r in caplog.records) == 2


def test_call_outside_of_everything_is_still_refused():
    with pytest.raises(FlowDefinitionError, match="no active Flow"):
        inc(1)
