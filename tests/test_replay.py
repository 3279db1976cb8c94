"""One recorded child again, here: with its exact inputs, in a debugger, or with what is missing named."""

from __future__ import annotations

import gc
import io
import sys

import pytest
from bodies import add

from prefectish import Flow, Parameter, context, flatten, history, task, unmapped
from prefectish.errors import ResultReleased, ResumeMismatch
from prefectish.executors import LocalDaskExecutor
from prefectish.results import LocalResult

calls = []


@task
def numbers(n):
    return [10 * i for i in range(n)]


@task
def divide(x, by, more=1):
    calls.append((x, by, more, context.map_index, context.task_slug))
    return 100 / (x - by)


@task
def total(values):
    calls.append(values)
    return sum(values)


@pytest.fixture(autouse=True)
def fresh():
    calls.clear()


@pytest.fixture
def kept(tmp_path):
    return {"history": tmp_path / "history.db"}


def flow_of(tmp_path, **options):
    with Flow("division", **options) as flow:
        n = Parameter("n", default=4)
        xs = numbers(n)
        divided = divide.map(add.map(xs, unmapped(n)), by=unmapped(14), more=unmapped(2))
        total(divided, task_args={"trigger": lambda states: True})
    return flow


def recorded(state, kept):
    return history.run(state.context["flow_run_id"], store=kept["history"])


@pytest.fixture
def stored(tmp_path):
    return flow_of(tmp_path, result=LocalResult(dir=str(tmp_path / "results")))


def test_child_runs_again_with_its_inputs_after_its_processes_are_gone(stored, kept):
    state = stored.run(executor=LocalDaskExecutor("processes", num_workers=1), **kept)
    child = recorded(state, kept).child("divide", 1)
    assert (child.state, calls) == ("Failed", [])
    again = child.replay()
    assert again.is_failed()
    assert type(again.result) is ZeroDivisionError
    assert again.result.__traceback__ is not None
    assert calls == [(14, 14, 2, 1, "divide-1")]
    assert recorded(state, kept).child("divide", 2).replay().result == 10.0


def test_child_is_found_by_its_item_key(stored, kept):
    run = recorded(stored.run(**kept), kept)
    key = run.child("divide", 2).item_key
    calls.clear()
    assert run.child("divide", key).replay().result == 10.0
    assert [x for x, *_ in calls] == [24]


def test_corrected_body_is_tried_on_the_child_that_failed(stored, kept, tmp_path):
    run = recorded(stored.run(**kept), kept)

    @task(name="divide")
    def corrected(x, by, more=1):
        return "corrected"

    with Flow("division", result=stored.result) as flow:
        n = Parameter("n", default=4)
        corrected.map(add.map(numbers(n), unmapped(n)), by=unmapped(14), more=unmapped(2))
    assert run.child("divide", 1).replay(flow=flow).result == "corrected"


def test_fan_in_gets_all_its_children(tmp_path, kept):
    with Flow("sums", result=LocalResult(dir=str(tmp_path / "results"))) as flow:
        total(add.map([1, 2, 3], unmapped(1)))
    run = recorded(flow.run(**kept), kept)
    calls.clear()
    assert run.child("total", 0).replay().result == 9
    assert calls == [[2, 3, 4]]


def test_flattened_child_gets_its_element(tmp_path, kept):
    with Flow("flat", result=LocalResult(dir=str(tmp_path / "results"))) as flow:
        lists = numbers.map([1, 2, 3])
        add.map(flatten(lists), y=unmapped(5))
    run = recorded(flow.run(**kept), kept)
    assert [run.child("add", i).replay().result for i in range(6)] == [5, 5, 15, 5, 15, 25]


def test_what_only_puts_inputs_together_is_put_together_again(tmp_path, kept):
    @task(nout=2)
    def pair():
        return [7, 9], {"a": [1]}

    with Flow("pairs", result=LocalResult(dir=str(tmp_path / "results"))) as flow:
        xs, more = pair()
        total(add.map(xs, y=unmapped(1)))
        add(more["a"], [xs[0]])
    run = recorded(flow.run(**kept), kept)
    assert run.child("add-1", 1).replay().result == 10
    assert run.child("add-2", 0).replay().result == [1, 7]


def test_missing_results_are_named_with_the_way_out(kept, tmp_path):
    flow = flow_of(tmp_path)
    run = recorded(flow.run(**kept), kept)
    text = r"divide\[1\] cannot be replayed: add\[1\] has a result that was not stored, or is gone. .*LocalResult"
    with pytest.raises(ResultReleased, match=text):
        run.child("divide", 1).replay()
    assert run.child("numbers", 0).replay().result == [0, 10, 20, 30]


def test_missing_results_of_a_fan_in_are_counted(kept):
    with Flow("sums") as flow:
        total(add.map(list(range(9)), unmapped(1)))
    run = recorded(flow.run(**kept), kept)
    with pytest.raises(ResultReleased, match=r"add\[0\], add\[1\], add\[2\] and 6 others has a result"):
        run.child("total", 0).replay()


def test_result_that_was_deleted_is_missing(stored, kept, tmp_path):
    run = recorded(stored.run(**kept), kept)
    (tmp_path / "results" / run.child("add", 1).location).unlink()
    with pytest.raises(ResultReleased, match=r"add\[1\] has a result that was not stored, or is gone"):
        run.child("divide", 1).replay()
    assert run.child("divide", 2).replay().is_successful()


def test_parameters_are_asked_for_where_they_were_others(stored, kept):
    run = recorded(stored.run(n=3, **kept), kept)
    with pytest.raises(ResumeMismatch, match=r"numbers was given other .* the flow has n"):
        run.child("numbers", 0).replay()
    assert run.child("numbers", 0).replay(parameters={"n": 3}).result == [0, 10, 20]


def test_another_item_in_the_place_of_the_childs_is_refused(kept):
    with Flow("items") as flow:
        divide.copy(item_key="x").map(Parameter("xs"), by=unmapped(1))
    run = recorded(flow.run(xs=[3, 5], **kept), kept)
    with pytest.raises(ResumeMismatch, match=r"divide\[1\] had another item in run .*: 5, now 7; mapped values"):
        run.child("divide", 1).replay(parameters={"xs": [3, 7]})
    assert run.child("divide", 1).replay(parameters={"xs": [3, 5]}).result == 25.0


def test_replay_calls_no_handler_and_stores_and_retries_nothing(tmp_path, kept):
    seen = []

    @task(max_retries=2, retry_delay=0, state_handlers=[lambda *args: seen.append(args)])
    def fail():
        calls.append("fail")
        raise ValueError

    with Flow("fails", result=LocalResult(dir=str(tmp_path / "results"))) as flow:
        fail()
    run = recorded(flow.run(**kept), kept)
    before = sorted((tmp_path / "results").rglob("*"))
    seen.clear()
    calls.clear()
    state = run.child("fail", 0).replay()
    assert (type(state).__name__, calls, seen) == ("Failed", ["fail"], [])
    assert sorted((tmp_path / "results").rglob("*")) == before


def test_flow_that_is_gone_has_to_be_passed(tmp_path, kept):
    def leave():
        with Flow("gone") as flow:
            numbers(2)
        return flow.run(**kept).context["flow_run_id"]

    run = history.run(leave(), store=kept["history"])
    gc.collect()
    with pytest.raises(ValueError, match=r"this process, and the history has no code: pass \.replay\(flow=flow\)"):
        run.child("numbers", 0).replay()
    with Flow("other") as other:
        add(1, 2)
    with pytest.raises(ValueError, match="flow 'other' has no task 'numbers'"):
        run.child("numbers", 0).replay(flow=other)


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_debugger_stops_at_the_first_line_and_where_the_body_fails(tmp_path, kept, monkeypatch, capsys, isolation):
    @task(isolation=isolation, timeout=1)
    def fail(x):
        y = x + 1
        raise ValueError(y)

    with Flow("debugged", result=LocalResult(dir=str(tmp_path / "results"))) as flow:
        fail.map([6, 7])
    run = recorded(flow.run(**kept), kept)
    monkeypatch.setattr(sys, "stdin", io.StringIO("p x\nc\np y\nq\n"))
    gc.disable()  # a debugger stops in its callbacks, too, and hypothesis has one
    try:
        state = run.child("fail", 1).replay(pdb=True)
    finally:
        gc.enable()
    shown = capsys.readouterr().out
    assert "y = x + 1" in shown
    assert "(Pdb) 7" in shown
    assert "(Pdb) 8" in shown
    assert str(state.result) == "8"


def test_debugger_that_is_quit_leaves_the_body(kept, monkeypatch, capsys):
    with Flow("quit") as flow:
        add(1, 2)
    run = recorded(flow.run(**kept), kept)
    monkeypatch.setattr(sys, "stdin", io.StringIO("q\n"))
    state = run.child("add", 0).replay(pdb=True)
    assert (type(state).__name__, state.message) == ("Cancelled", "the debugger was quit")


def test_debugger_stops_where_an_async_body_fails(kept, monkeypatch, capsys):
    @task
    async def fail(x):
        raise ValueError(x)

    with Flow("debugged") as flow:
        fail(3)
    run = recorded(flow.run(**kept), kept)
    monkeypatch.setattr(sys, "stdin", io.StringIO("c\np x\nq\n"))
    state = run.child("fail", 0).replay(pdb=True)
    assert "(Pdb) 3" in capsys.readouterr().out
    assert type(state.result) is ValueError
