"""Pauses in flow functions, on every executor: the run is unfinished, nobody waits in vain, and an approval goes on."""

from __future__ import annotations

import pytest
from bodies import inc

from prefectish import flow, history, pause_task, task
from prefectish.errors import TaskRunFailed
from prefectish.results import LocalResult


@task
def ask(x):
    return x * pause_task("how many?", input=int)


@task
def fine(x):
    return x


READS = {
    "result": (lambda: ask.submit(1).result(), 4),
    "call": (lambda: ask(1), 4),
    "returned": (lambda: ask.submit(1), 4),
    "map": (lambda: ask.map([1, 2]).result(), [4, 8]),
    "unread": (lambda: [ask.submit(1), 3][1], 3),
    "state": (lambda: ask(1, return_state=True), 4),
    "states": (
        lambda: [s.result for s in ask.map([1, 2], return_state=True) if s.is_finished()] or ask.map([3]),
        [4, 8],
    ),
    "reader": (lambda: inc.submit(ask.submit(1)).result(), 5),
    "waits": (lambda: inc.submit(1, wait_for=[ask.map([1])]).result(), 2),
    "map of map": (lambda: inc.map(ask.map([1, 2])).result(), [5, 9]),
    "items": (lambda: inc.map([ask.submit(1), 7]).result(), [5, 8]),
}


@pytest.mark.parametrize("read", READS)
def test_f6_pause_leaves_the_run_unfinished_until_it_is_approved(executor, read, tmp_path):
    function, answer = READS[read]
    told = []

    def asks():
        fine(1)
        return function()

    where = str(tmp_path / "history.db")
    asking = flow(asks, on_failure=lambda *of: told.append(of), result=LocalResult(str(tmp_path)), history=where)
    state = asking.run(executor=executor)
    assert (type(state).__name__, state.exit_code, told) == ("Running", 5, [])
    row = history.run(state.context["flow_run_id"], where)
    assert (row.state, row.exit_code) == ("Running", 5)
    row.approve("ask", input=4)
    resumed = asking.resume(row.id, executor=executor)
    assert (resumed.is_successful(), resumed.result) == (True, answer)


def test_f6_call_of_an_unfinished_flow_says_so():
    @flow(history=False, retries=2)
    def asks():
        return ask(1)

    with pytest.raises(TaskRunFailed, match="asks has no result: it is Running: Flow run is not finished"):
        asks()


def test_f6_function_that_deals_with_a_pause_has_the_last_word():
    @flow(history=False)
    def asks():
        try:
            return ask(1)
        except TaskRunFailed:
            return "later"

    assert asks() == "later"


@task
def may(x):
    pause_task(f"may I {x}?")
    return x


PROMPTED = {
    "result": (lambda: may.submit(1).result(), 1),
    "call": (lambda: may(1), 1),
    "map": (lambda: may.map([1, 2]).result(), [1, 2]),
    "unread": (lambda: [may.submit(1), 3][1], 3),
    "reader": (lambda: inc.submit(may.submit(1)).result(), 2),
    "map of map": (lambda: inc.map(may.map([1, 2])).result(), [2, 3]),
}


@pytest.mark.parametrize("read", PROMPTED)
def test_pauses_are_asked_about_on_the_terminal(executor, read, monkeypatch):
    function, answer = PROMPTED[read]
    asked = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "y")
    state = flow(function, name="asks", history=False).run(executor=executor, on_pause="prompt")
    assert (state.is_successful(), state.result) == (True, answer)
    assert len(asked) == (2 if "map" in read else 1)
    assert all("is paused. Resume it? [y/N] " in text for text in asked)


def test_pause_that_is_not_resumed_leaves_the_run_unfinished(executor, monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or ("y" if "[0]" in text else "n"))
    state = flow(lambda: may.map([1, 2, 3]).result(), name="asks", history=False).run(
        executor=executor, on_pause="prompt"
    )
    assert (type(state).__name__, state.exit_code) == ("Running", 5)
    assert len(asked) == 3
