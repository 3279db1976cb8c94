"""Flows that are called by flow functions, when the flow around them is resumed: each continues its own run."""

from __future__ import annotations

import asyncio

import pytest
from real import note, notes

from prefectish import flow, history, pause_task, task
from prefectish.results import LocalResult


@pytest.fixture
def stored(tmp_path):
    return {"history": str(tmp_path / "history.db"), "result": LocalResult(str(tmp_path / "results"))}


def runs_of(stored, name):
    return history.runs(flow=name, store=stored["history"])


@task
def noted(path, x):
    note(path, x)
    return x * 2


@task
def picky(path, x):
    note(path, x)
    if not path.with_name("mended").exists():
        raise OSError(x)
    return x


@task
def ask(x):
    return pause_task("how many?", input=int) + x


def test_called_flows_are_continued(executor, tmp_path, stored):
    ran = tmp_path / "ran"

    @flow(executor=executor, **stored)
    def child(x):
        return noted(ran, x), picky(ran, 10 + x)

    @flow(executor=executor, **stored)
    def parent():
        return [child(x, return_state=True).result for x in (1, 2)]

    state = parent.run()
    run_id = state.context["flow_run_id"]
    ran.with_name("mended").touch()
    assert parent.resume(run_id, retry_failed=True).result == [(2, 11), (4, 12)]
    assert sorted(notes(ran)) == ["1", "11", "11", "12", "12", "2"]
    assert [(run.parent, run.part) for run in runs_of(stored, "child")] == [(run_id, 1)] * 2
    assert parent.resume(run_id).result == [(2, 11), (4, 12)]
    assert len(notes(ran)) == 6


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_pause_in_a_called_flow_is_approved_there(executor, stored, is_async):
    def plain(x):
        return ask.submit(x).result()

    async def asynchronous(x):
        return await ask.submit(x)

    child = flow(asynchronous if is_async else plain, name="child", executor=executor, **stored)

    @flow(executor=executor, **stored)
    def parent():
        return [asyncio.run(child(x)) if is_async else child(x) for x in (1, 2)]

    state = parent.run()
    run_id = state.context["flow_run_id"]
    assert type(state).__name__ == "Running"
    for count, answer in ((1, 10), (2, 20)):
        (paused,) = [run for run in runs_of(stored, "child") if run.paused()]
        paused.approve(ask, input=answer)
        state = parent.resume(run_id)
        assert len(runs_of(stored, "child")) == 2
        assert state.is_successful() == (count == 2)
    assert state.result == [11, 22]


def test_call_that_was_not_made_before_is_a_new_run(tmp_path, stored):
    ran = tmp_path / "ran"

    @flow(**stored)
    def child(x):
        return noted(ran, x)

    @flow(history=False)
    def unrecorded(x):
        return noted(ran, x)

    @flow(retries=1, **stored)
    def again(x):
        return noted(ran, x)

    @flow(**stored)
    def parent(xs):
        return [child(x) for x in xs], unrecorded(0), again(9)

    run_id = parent.run(xs=[1]).context["flow_run_id"]
    assert parent.resume(run_id, xs=[1, 2]).result == ([2, 4], 0, 18)
    assert notes(ran) == ["1", "0", "9", "2", "0", "9"]
    assert len(runs_of(stored, "child")) == 2
