"""The contract of every executor: what a run makes of single tasks, of the flow, and of states from a former run.

Maps, the rules of one task, and faults have files of their own beside this one.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta

import pytest
from bodies import add, fail, give, inc, lines, note

from prefectish import Flow, Parameter, Task, context, get_logger, raise_on_exception, tags, task, triggers
from prefectish.engine import signals
from prefectish.engine.state import (
    Cancelled,
    Failed,
    Mapped,
    Paused,
    Pending,
    Queued,
    Resume,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    Submitted,
    Success,
    TriggerFailed,
)


@task
def end_in(state):
    raise signals.ENDRUN(state)


@task(trigger=triggers.always_run)
def clean_up(x=None):
    return "clean"


@task
def seen(*, names):
    """Return what the context holds under each name; `-` where it holds nothing."""
    return {name: context.get(name, "-") for name in names}


# ---------------------------------------------------------------------- single tasks


def test_empty_flow_succeeds(run):
    state = run(Flow("empty"))
    assert type(state) is Success
    assert state.message == "All reference tasks succeeded."
    assert state.result == {}


def test_bare_task_succeeds_with_none(run):
    flow = Flow("bare", tasks=[bare := Task()])
    state = run(flow)
    assert state.result[bare] == Success()
    assert state.result[bare].message == "Task run succeeded."


def test_results_go_downstream(run):
    with Flow("chain") as flow:
        out = add(inc(1), y=inc(10))
    state = run(flow)
    assert type(state) is Success
    assert state.result[out].result == 13
    assert set(state.result) == set(flow.tasks)


@pytest.mark.parametrize("value", [None, 0, "", {}, [], False], ids=repr)
def test_falsy_results_are_results(run, value):
    with Flow("falsy") as flow:
        out = give(give(value))
    state = run(flow).result[out]
    assert type(state) is Success
    assert state.result == value
    assert type(state.result) is type(value)


def test_imperative_flow_runs_like_a_functional_one(run):
    a, b = inc.copy(), add.copy()
    flow = Flow("imperative")
    flow.set_dependencies(a, keyword_tasks={"x": 1})
    b.bind(a, y=10, flow=flow)
    b.set_upstream(Task("before"), flow=flow)
    assert run(flow).result[b].result == 12


def test_subclass_of_task_runs_its_body(run):
    class Power(Task):
        def __init__(self, exponent, **options):
            self.exponent = exponent
            super().__init__(**options)

        def run(self, x):
            return x**self.exponent

    with Flow("subclass") as flow:
        out = Power(3)(inc(1))
        cubes = Power(3).map([1, 2])
    state = run(flow)
    assert state.result[out].result == 8
    assert state.result[cubes].result == [1, 8]


def test_coroutine_function_is_a_body(run):
    @task
    async def later(x):
        return x + 1

    @task
    async def broken(x):
        raise ValueError("async")

    with Flow("async") as flow:
        out = later.map([1, 2])
        bad = broken(out)
    state = run(flow)
    assert state.result[out].result == [2, 3]
    assert str(state.result[bad].result) == "async"


def test_parameters_are_given_or_take_their_default(run):
    with Flow("parameters") as flow:
        out = add(Parameter("x"), Parameter("y", default=10))
    assert run(flow, parameters={"x": 1}).result[out].result == 11
    assert run(flow, x=1, y=2).result[out].result == 3
    assert run(flow, x=1, context={"parameters": {"y": 5}}).result[out].result == 6


def test_state_of_a_parameter_is_a_success(run):
    with Flow("parameters") as flow:
        give(x := Parameter("x"))
    assert run(flow, x=3).result[x] == Success(result=3)


def test_collections_of_tasks_are_put_together(run):
    with Flow("collections") as flow:
        a, b = inc(1), inc(2)
        out = give({"list": [a, (b, 0)], "set": {a}, a: "key"})
        many = give([inc(i) for i in range(12)])
    state = run(flow)
    assert state.result[out].result == {"list": [2, (3, 0)], "set": {2}, 2: "key"}
    assert state.result[many].result == list(range(1, 13))


def test_operators_and_items_of_tasks(run):
    with Flow("operators") as flow:
        a = give(7)
        out = give([a + 1, 10 - a, a * 2, a > 3, a.is_equal(7), -a])
        item = give({"x": [1, 2]})["x"][a - 6]
    state = run(flow)
    assert state.result[out].result == [8, 3, 14, True, True, -7]
    assert state.result[item].result == 2


def test_unpacked_results(run):
    @task(nout=2)
    def divide(a, b):
        return a // b, a % b

    with Flow("nout") as flow:
        quotient, rest = divide(7, 2)
    state = run(flow)
    assert (state.result[quotient].result, state.result[rest].result) == (3, 1)


def test_plain_dependencies_order_tasks(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("order") as flow:
        first, second, third = (note.copy(name=name) for name in "abc")
        third.bind(str(path), "third", upstream_tasks=[second])
        second.bind(str(path), "second")
        first.bind(str(path), "first").set_downstream(second)
    assert run(flow).is_successful()
    assert lines(path) == ["first", "second", "third"]


def test_wide_and_deep_graph_of_single_tasks(run):
    with Flow("lattice") as flow:
        row = [give(i) for i in range(5)]
        for _ in range(6):
            row = [add(a, b) for a, b in zip(row, row[1:] + row[:1], strict=True)]
        out = give(row)
    expected = list(range(5))
    for _ in range(6):
        expected = [a + b for a, b in zip(expected, expected[1:] + expected[:1], strict=True)]
    assert run(flow).result[out].result == expected


@pytest.mark.parametrize("size", [2, "auto"])
def test_batch_size_changes_nothing_for_a_single_task(run, size):
    with Flow("batch") as flow:
        out = give.copy(batch_size=size)(inc.copy(batch_size=size)(1))
    assert run(flow).result[out].result == 2


@task
def say(x):
    raise signals.SUCCESS(f"said {x}", result=x)


@pytest.mark.parametrize("size", [None, 2])
def test_message_of_a_success_comes_back(run, size):
    with Flow("messages") as flow:
        out = say.copy(batch_size=size).map([1, 2, 3])
    assert [s.message for s in run(flow).result[out].map_states] == ["said 1", "said 2", "said 3"]


@pytest.mark.parametrize("size", [None, 2])
def test_tags_of_a_task_are_in_the_context_of_its_states(run, size):
    with Flow("tags") as flow:
        out = give.copy(tags=["red"], batch_size=size).map([1, 2])
    assert [s.context.get("tags") for s in run(flow).result[out].map_states] == [["red"], ["red"]]


def test_batched_branch_continues_from_the_step_where_it_was(run):
    with Flow("batches") as flow:
        a = inc.copy(batch_size=2).map([1, 2])
        b = inc.copy(batch_size=2).map(a)
    given = Mapped(map_states=[Success(None, 10), None])
    assert run(flow, task_states={a: given}).result[b].result == [11, 4]


def test_executor_can_be_used_again(run):
    with Flow("again") as flow:
        out = inc(Parameter("x"))
    assert [run(flow, x=n).result[out].result for n in range(3)] == [1, 2, 3]


def test_flow_has_its_own_executor(executor):
    with Flow("own", executor=executor) as flow:
        out = inc.map([1, 2])
    assert flow.run().result[out].result == [2, 3]


# ---------------------------------------------------------------------- the flow's state


def test_flow_succeeds_if_its_reference_tasks_do(run):
    with Flow("reference") as flow:
        out = clean_up(fail())
    state = run(flow)
    assert type(state) is Success
    assert state.message == "All reference tasks succeeded."
    assert state.exit_code == 0
    assert state.result[out].result == "clean"


def test_flow_fails_if_a_reference_task_failed(run):
    with Flow("reference") as flow:
        bad = fail()
        clean_up(bad)
    flow.set_reference_tasks([bad])
    state = run(flow)
    assert type(state) is Failed
    assert state.message == "Some reference tasks failed."
    assert state.exit_code == 1


def test_flow_fails_if_a_child_of_a_reference_task_failed(run):
    with Flow("reference") as flow:
        out = give.map([1, 2], upstream_tasks=[inc.map([1, "x"])])
    state = run(flow)
    assert type(state.result[out]) is Mapped
    assert type(state) is Failed


def test_flow_is_cancelled_if_a_reference_task_is(run):
    with Flow("cancelled") as flow:
        out = end_in(Cancelled("enough"))
        give(1)
    state = run(flow)
    assert type(state) is Cancelled
    assert state.message == "Some reference tasks were cancelled."
    assert state.exit_code == 6
    assert state.result[out].message == "enough"


def test_failure_outweighs_cancellation(run):
    with Flow("cancelled") as flow:
        end_in(Cancelled())
        fail()
    assert type(run(flow)) is Failed


def test_cancelled_upstream_is_not_a_success_for_a_trigger(run):
    with Flow("cancelled") as flow:
        out = give(end_in(Cancelled()))
    assert type(run(flow).result[out]) is TriggerFailed


def test_flow_of_skipped_tasks_succeeds(run):
    with Flow("skipped") as flow:
        out = inc(end_in(Skipped()))
    state = run(flow)
    assert state.message == "All reference tasks succeeded."
    assert type(state.result[out]) is Skipped


def test_flow_runs_on_while_a_task_is_unfinished(run):
    with Flow("unfinished") as flow:
        paused = end_in(Paused("wait"))
        behind = give(paused)
        give(2)
    state = run(flow)
    assert type(state) is Running
    assert state.exit_code == 5
    assert state.result[paused] == Paused()
    assert state.result[behind] == Pending()
    assert state.result[behind].message == "not run"


def test_flow_runs_on_while_a_task_that_is_not_a_reference_is_unfinished(run):
    with Flow("unfinished") as flow:
        done = give(1)
        end_in(Paused())
    flow.set_reference_tasks([done])
    assert type(run(flow)) is Running


def test_terminal_state_handler_sees_the_reference_states_and_may_replace_the_flows(run):
    calls = []

    def judge(flow, state, references):
        calls.append((flow.name, type(state), references))
        return Success("one failure is fine")

    with Flow("judged", terminal_state_handler=judge) as flow:
        fail()
        give(3)
    state = run(flow)
    assert type(state) is Success
    assert state.message == "one failure is fine"
    assert set(state.result) == set(flow.tasks)
    ((name, kind, references),) = calls
    assert (name, kind) == ("judged", Failed)
    assert [type(s) for s in references] == [Failed, Success]


def test_terminal_state_handler_that_breaks_fails_the_flow(run):
    def judge(flow, state, references):
        raise ValueError("no verdict")

    with Flow("judged", terminal_state_handler=judge) as flow:
        give(3)
    state = run(flow)
    assert type(state) is Failed
    assert state.message == "Unexpected error while calling the terminal state handler: ValueError('no verdict')"


def test_terminal_state_handler_is_not_asked_about_an_unfinished_flow(run):
    with Flow("judged", terminal_state_handler=lambda *args: pytest.fail("asked")) as flow:
        end_in(Paused())
    assert type(run(flow)) is Running


def test_run_from_a_finished_state_returns_it(run):
    with Flow("finished") as flow:
        fail()
    given = Success("before")
    assert run(flow, state=given) is given


def test_run_has_an_id_of_its_own(run):
    flow = Flow("id", tasks=[Task()])
    ids = {run(flow).context["flow_run_id"] for _ in range(2)}
    assert len(ids) == 2


def test_raise_on_exception_lets_the_error_of_a_task_out(run):
    with Flow("raises") as flow:
        fail("out of here")
    with raise_on_exception(), pytest.raises(ValueError, match="out of here"):
        run(flow)


def break_handler(task, old, new):
    raise ValueError("a handler out of here")


def test_raise_on_exception_lets_the_error_of_a_handler_out(run):
    flow = Flow("raises", tasks=[Task(state_handlers=[break_handler])])
    with raise_on_exception(), pytest.raises(ValueError, match="a handler out of here"):
        run(flow)


def test_raise_on_exception_still_takes_signals(run):
    with Flow("raises") as flow:
        out = end_in(Skipped())
    with raise_on_exception():
        assert type(run(flow).result[out]) is Skipped


# ---------------------------------------------------------------------- states from a former run


def test_finished_states_are_kept_and_feed_what_follows(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("again") as flow:
        a = note(str(path), 1)
        b = inc(a)
    given = Success("before", 10)
    state = run(flow, task_states={a: given})
    assert lines(path) == []
    assert state.result[a] is given
    assert state.result[b].result == 11


@pytest.mark.parametrize("kind", [Submitted, Queued])
def test_state_inside_a_given_one_counts(run, kind):
    """A task that was handed over, or waited for a place, is in the state in which it did."""
    with Flow("again") as flow:
        a, b, c = inc(1), inc.map([1, 2, 3]), give(4)
    children = [kind(state=Success(None, 8)), kind(state=Retrying()), None]
    state = run(flow, task_states={a: kind(state=Success(None, 7)), b: Mapped(map_states=children), c: kind()})
    assert [state.result[task].result for task in (a, b, c)] == [7, [8, 3, 4], 4]


@pytest.mark.parametrize("kind", [Failed, TriggerFailed, Skipped, Cancelled])
def test_other_finished_states_are_kept_too(run, kind):
    with Flow("again") as flow:
        a = give(1)
        b = give(a)
    state = run(flow, task_states={a: kind("before")})
    assert type(state.result[a]) is kind
    assert type(state.result[b]) is (Skipped if kind is Skipped else TriggerFailed)


def test_failed_state_is_not_retried(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("again") as flow:
        a = note.copy(max_retries=2, retry_delay=timedelta(0))(str(path), 1)
    assert type(run(flow, task_states={a: Failed("before")}).result[a]) is Failed
    assert lines(path) == []


def test_running_state_is_left_alone(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("again") as flow:
        a = note(str(path), 1)
        b = give(a)
    given = Running("elsewhere")
    state = run(flow, task_states={a: given})
    assert type(state) is Running
    assert state.result[a] is given
    assert type(state.result[b]) is Pending
    assert lines(path) == []


def test_scheduled_state_of_the_past_runs_now(run):
    with Flow("again") as flow:
        a = give(1)
    past = Scheduled(start_time=datetime.now(UTC) - timedelta(hours=1))
    assert run(flow, task_states={a: past}).result[a] == Success(result=1)


def test_scheduled_state_of_the_near_future_is_waited_for(run):
    soon = datetime.now(UTC) + timedelta(milliseconds=200)

    @task
    def now():
        return datetime.now(UTC)

    with Flow("again") as flow:
        a = now()
    state = run(flow, task_states={a: Scheduled(start_time=soon)})
    assert state.result[a].result >= soon


def test_retrying_state_continues_with_the_next_attempt(run):
    @task(max_retries=3, retry_delay=timedelta(0))
    def attempt():
        return context.task_run_count

    with Flow("again") as flow:
        a = attempt()
    assert run(flow, task_states={a: Retrying(run_count=2)}).result[a].result == 3


def test_paused_state_stays_paused_until_it_is_resumed(run):
    with Flow("again") as flow:
        a = give(1)
        b = inc(a)
    paused = run(flow, task_states={a: Paused("wait")})
    assert paused.result[a] == Paused()
    assert type(paused) is Running
    going_on = {**paused.result, a: Resume()}
    assert run(flow, task_states=going_on).result[b] == Success(result=2)


def test_states_of_a_whole_run_continue_as_they_are(run, tmp_path):
    path = tmp_path / "notes"
    with Flow("again") as flow:
        a = note(str(path), 1)
        b = end_in(Paused("wait"))
        c = give([a, b])
    first = run(flow)
    second = run(flow, task_states=first.result)
    assert lines(path) == ["1"]
    assert second.result[b] == first.result[b]
    assert type(second.result[c]) is Pending


# ---------------------------------------------------------------------- what a body can see


def test_context_in_a_body(run):
    names = ["task_name", "task_slug", "task_full_name", "task_run_count", "map_index", "flow_name", "parameters"]
    with Flow("facts") as flow:
        give(Parameter("x", default=4))
        out = seen.copy(name="look")(names=names)
    facts = run(flow).result[out].result
    assert facts == {
        "task_name": "look",
        "task_slug": "look-1",
        "task_full_name": "look",
        "task_run_count": 1,
        "map_index": None,
        "flow_name": "facts",
        "parameters": {"x": 4},
    }


def test_context_of_children(run):
    with Flow("facts") as flow:
        out = seen.map(names=[["map_index", "task_full_name", "task_tags"]] * 2)
    facts = run(flow).result[out].result
    assert [f["map_index"] for f in facts] == [0, 1]
    assert [f["task_full_name"] for f in facts] == ["seen[0]", "seen[1]"]


def test_context_has_the_key_of_an_item_that_was_asked_for(run):
    with Flow("facts") as flow:
        out = seen.copy(item_key=lambda names: names[1]).map(names=[["item_key", "north"], ["item_key", "south"]])
        plain = seen.map(names=[["item_key"]])
    state = run(flow, history=False)
    assert [facts["item_key"] for facts in state.result[out].result] == ["north", "south"]
    assert state.result[plain].result == [{"item_key": "-"}]


def test_context_of_a_run_is_the_same_for_all_tasks(run):
    names = ["flow_run_id", "flow_run_name", "date", "today", "scheduled_start_time"]
    with Flow("facts") as flow:
        first, second = seen(names=names), seen(names=names)
    state = run(flow, flow_run_name="monday")
    facts = state.result[first].result
    assert facts == state.result[second].result
    assert facts["flow_run_id"] == state.context["flow_run_id"]
    assert facts["flow_run_name"] == "monday"
    assert facts["today"] == f"{facts['date']:%Y-%m-%d}"


def test_context_of_the_caller_reaches_bodies(run):
    with Flow("facts") as flow:
        out = seen(names=["colour", "size", "shape"])
    with context(colour="red", size=1):
        facts = run(flow, context={"size": 2}).result[out].result
    assert facts == {"colour": "red", "size": 2, "shape": "-"}


def test_context_tells_whether_results_are_stored(run, monkeypatch):
    with Flow("facts") as flow:
        out = seen(names=["checkpointing"])
    assert run(flow).result[out].result == {"checkpointing": True}
    assert run(flow, context={"checkpointing": False}).result[out].result == {"checkpointing": False}
    monkeypatch.setenv("PREFECTISH_CHECKPOINTING", "no")
    assert run(flow).result[out].result == {"checkpointing": False}


def test_child_key_is_one_for_each_attempt(run):
    @task(max_retries=1, retry_delay=timedelta(0))
    def key(x):
        if context.task_run_count == 1:
            raise ValueError(context.child_key)
        return context.child_key

    with Flow("keys") as flow:
        out = key.map([1, 2])
    state = run(flow)
    keys = state.result[out].result
    assert len(set(keys)) == 2
    assert all(re.fullmatch(rf"{state.context['flow_run_id']}-key-1-[01]-2", k) for k in keys)


def test_tags_of_a_task_reach_its_body(run):
    with Flow("tags") as flow, tags("red"):
        out = seen.copy(tags=["big"])(names=["task_tags"])
    assert run(flow).result[out].result == {"task_tags": {"red", "big"}}


def test_context_is_empty_after_a_run(run):
    with Flow("facts") as flow:
        seen(names=[])
    run(flow)
    assert "flow_run_id" not in context
    assert "map_index" not in context


def test_logger_of_a_body_is_named_after_the_task(run):
    @task(name="talk")
    def logger_name(x=None):
        return context.logger.name

    with Flow("logs") as flow:
        single = logger_name()
        mapped = logger_name.map([0, 0])
    state = run(flow)
    assert state.result[single].result == "prefectish.talk"
    assert state.result[mapped].result == ["prefectish.talk[0]", "prefectish.talk[1]"]


@pytest.mark.parametrize("executor", ["local", "synchronous", "threads"], indirect=True)
def test_log_of_a_body_and_of_its_failure(run, caplog):
    @task(name="talk")
    def talk(x):
        context.logger.info("dividing by %s", x)
        return 1 / x

    with Flow("logs") as flow:
        talk.map([1, 0])
    with caplog.at_level(logging.INFO, logger="prefectish"):
        run(flow)
    records = [r for r in caplog.records if r.name.startswith("prefectish.talk")]
    said = {(r.name, r.getMessage()) for r in records if r.levelname == "INFO"}
    assert said == {("prefectish.talk[0]", "dividing by 1"), ("prefectish.talk[1]", "dividing by 0")}
    (failure,) = (r for r in records if r.levelname == "ERROR")
    assert failure.name == "prefectish.talk[1]"
    assert "ZeroDivisionError: division by zero" in failure.exc_text


def test_logger_outside_a_run():
    assert context.logger is get_logger()
