"""The contract of every executor, of calls in both spellings: what a body is given, and what it gives back."""

from __future__ import annotations

import functools

import pytest
from bodies import total
from real import spend

from prefectish import Flow, Task, context, flow, task, triggers
from prefectish.engine.state import (
    Cancelled,
    Failed,
    Mapped,
    Paused,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    State,
    Success,
    TimedOut,
    TriggerFailed,
)


def kinds(state: State) -> list[type[State]]:
    """Return the classes of the states of a map's children."""
    assert type(state) is Mapped, state
    return [type(child) for child in state.map_states]


# ---------------------------------------------------------------------- what a map waits for


@task
def fails_on_one(n):
    if n == 1:
        raise ValueError("one")
    return n


@task
def follow(n):
    return n


def two_failed(upstream):
    return sum(state.is_failed() for state in upstream.values()) == 2 and len(upstream) == 4


@task(trigger=two_failed)
def count_failed(n):
    return n


@task(trigger=triggers.any_successful)
def one_is_enough(n):
    return n


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1, 0, 0)], ids=str)
def test_f1_each_future_of_one_task_that_a_map_waits_for_counts(spelled, order):
    def program():
        waited = [spelled.call(fails_on_one, n) for n in order]
        return {"x": follow.map([7, 8], **spelled.waited(waited))}

    assert kinds(spelled.states(program)["x"]) == [TriggerFailed, TriggerFailed]


def test_f1_triggers_of_a_map_count_what_it_waits_for(spelled):
    def program():
        waited = [spelled.call(fails_on_one, n) for n in (1, 0, 1)]
        some = [spelled.call(fails_on_one, n) for n in (1, 0)]
        return {
            "two": count_failed.map([7, 8], **spelled.waited(waited)),
            "any": one_is_enough.map([7], **spelled.waited(some)),
        }

    found = spelled.states(program)
    assert kinds(found["two"]) == [Success, Success]
    assert kinds(found["any"]) == [Success]


@pytest.mark.parametrize("form", ["children", "nested", "set", "maps", "several maps"])
def test_f1_a_map_waits_for_futures_in_any_collection(executor, form):
    forms = {
        "children": lambda m, n: list(m),
        "nested": lambda m, n: [[m[1], [m[0]]]],
        "set": lambda m, n: [{m[1], m[0]}],
        "maps": lambda m, n: [m],
        "several maps": lambda m, n: [m, n],
    }

    def program():
        first, other = fails_on_one.map([1, 0]), fails_on_one.map([0, 2])
        waits = follow.map([7, 8], wait_for=forms[form](first, other))
        waits.wait()
        return kinds(waits.state)

    assert flow(program, executor=executor, history=False)() == [TriggerFailed, TriggerFailed]


# ---------------------------------------------------------------------- states that a body returns


class Mine(Failed):
    """A state of the user's."""


@task
def end_in(name):
    made = {
        "failed": Failed("no"),
        "error": Failed("no", ValueError("no")),
        "skipped": Skipped("not today"),
        "success": Success("good", result=[4]),
        "cancelled": Cancelled("stop"),
        "own": Mine("mine", result=3),
    }
    return made[name]


@task(skip_on_upstream_skip=False, trigger=triggers.all_finished)
def read(x):
    return x


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("failed", "Failed", "no"),
        ("error", "Failed", "no"),
        ("skipped", "Skipped", "not today"),
        ("success", "Success", "good"),
        ("cancelled", "Cancelled", "stop"),
        ("own", "Mine", "mine"),
    ],
)
def test_e10_f15_a_body_ends_in_the_state_that_it_returns(spelled, name, kind, message):
    def program():
        one, more = spelled.call(end_in, name), end_in.map([name, name])
        return {"one": one, "map": more, "read": spelled.call(read, one)}

    found = spelled.states(program)
    states = [found["one"], *found["map"].map_states]
    assert [(type(state).__name__, state.message) for state in states] == [(kind, message)] * 3
    if name == "success":
        assert [state.result for state in states] == [[4]] * 3
        assert found["read"].result == [4]


@task(isolation="process")
def skip_apart():
    return Skipped("apart")


@task(timeout=30)
def skip_in_time():
    return Skipped("in time")


@task
async def skip_later():
    return Skipped("later")


def test_e10_a_returned_state_is_one_however_the_body_runs(spelled):
    bodies = [skip_apart, skip_in_time, skip_later]
    found = spelled.states(lambda: {body.name: spelled.call(body) for body in bodies})
    assert [(type(state), state.message) for state in found.values()] == [
        (Skipped, "apart"),
        (Skipped, "in time"),
        (Skipped, "later"),
    ]


@task(retries=1)
def return_failed_first(n):
    return Failed("once more") if context.task_run_count == 1 else n


@task(retries=2)
def return_retrying_first(n):
    return Retrying("once more") if context.task_run_count == 1 else n


def test_e10_a_returned_failure_is_retried_and_a_returned_retry_is_made(spelled):
    found = spelled.states(lambda: {"f": return_failed_first.map([1, 2]), "r": return_retrying_first.map([1, 2])})
    assert [found[name].result for name in "fr"] == [[1, 2], [1, 2]]


@task
def return_running():
    return Running("not yet")


@task
def return_scheduled():
    return Scheduled("not yet")


def test_e10_a_body_must_not_return_an_unfinished_state(spelled):
    found = spelled.states(lambda: {"a": spelled.call(return_running), "b": spelled.call(return_scheduled)})
    for state, name in zip(found.values(), ("Running", "Scheduled"), strict=True):
        assert type(state) is Failed
        assert f"a state in which a task can end, Retrying or Paused, got {name}" in state.message


@task
def return_paused():
    return Paused("ask me")


def test_e10_a_body_that_returns_paused_pauses(run):
    with Flow("paused") as graph:
        asked = return_paused()
    state = run(graph)
    assert (type(state.result[asked]), state.result[asked].message) == (Paused, "ask me")


# ---------------------------------------------------------------------- generator functions


@task
def count_up(n):
    yield from range(n)


@task(retries=1)
def break_off(n):
    yield n
    if context.task_run_count == 1:
        raise ValueError("mid")
    yield n + 1


@task
def break_always(n):
    yield n
    raise ValueError("mid")


@task(isolation="process")
def count_apart(n):
    yield from range(n)


def decorated(function):
    @functools.wraps(function)
    def inner(first, *others, **more):
        return function(first, *others, **more)

    return inner


@task
@decorated
def count_decorated(n):
    yield from range(n)


class Counter(Task):
    def run(self, n):
        yield from range(n)


class Called:
    def __call__(self, n):
        yield from range(n)


def test_e9_items_of_a_generator_function_are_a_list(spelled):
    tasks = [count_up, count_apart, count_decorated, Counter(name="counter"), task(Called(), name="called")]

    def program():
        made = {each.name: spelled.call(each, 3) for each in tasks}
        return {**made, "map": count_up.map([1, 2]), "sum": spelled.call(total, made["count_up"])} | {
            "over": follow.map(made["count_up"])
        }

    found = spelled.states(program)
    assert [found[each.name].result for each in tasks] == [[0, 1, 2]] * 5
    assert found["map"].result == [[0], [0, 1]]
    assert found["sum"].result == 3
    assert found["over"].result == [0, 1, 2]


def test_e9_an_error_in_a_generator_function_fails_its_attempt(spelled):
    def program():
        broken = spelled.call(break_always, 1)
        return {"retried": break_off.map([1, 5]), "broken": broken, "sum": spelled.call(total, broken)}

    found = spelled.states(program)
    assert found["retried"].result == [[1, 2], [5, 6]]
    assert type(found["broken"]) is Failed
    assert repr(found["broken"].result) == "ValueError('mid')"
    assert type(found["sum"]) is TriggerFailed


@task(timeout=0.3)
def yield_for_long(n):
    yield n
    spend(20)


def test_e9_time_limits_hold_in_a_generator_function(spelled):
    assert type(spelled.states(lambda: {"x": spelled.call(yield_for_long, 1)})["x"]) is TimedOut


@task
def return_generator(n):
    return (x for x in range(n))


def test_e9_a_generator_that_is_returned_is_a_value(spelled, in_process):
    found = spelled.states(lambda: {"x": spelled.call(return_generator, 3)})["x"]
    if in_process:
        assert list(found.result) == [0, 1, 2]
    else:
        assert "could not be pickled" in found.message


# ---------------------------------------------------------------------- what fails after the body


def fail_on_failure(task, old, new):
    if new.is_failed():
        raise RuntimeError("handler")


def no_state_on_failure(task, old, new):
    return 42 if new.is_failed() else None


def fail_in_callback(task, state):
    raise RuntimeError("callback")


def no_delay(attempt):
    return 1 / 0


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"state_handlers": [fail_on_failure]}, RuntimeError, "Unexpected error while calling state handlers"),
        ({"state_handlers": [no_state_on_failure]}, TypeError, "state handler no_state_on_failure returned int"),
        ({"on_failure": fail_in_callback}, RuntimeError, "Unexpected error while calling state handlers"),
        ({"on_failure": fail_in_callback, "retries": 1}, RuntimeError, "Unexpected error while calling state handlers"),
        ({"retries": 1, "retry_delay_seconds": no_delay}, ZeroDivisionError, "retry delay of "),
        ({"on_failure": fail_in_callback, "isolation": "process"}, RuntimeError, "Unexpected error while calling"),
    ],
    ids=["handler", "no state", "on_failure", "on_failure, retries", "delay", "isolated"],
)
def test_e11_what_fails_after_the_body_keeps_its_error(spelled, options, kind, message):
    broken = fails_on_one.copy(**options)
    found = spelled.states(lambda: {"one": spelled.call(broken, 1), "map": broken.map([1, 2])})
    for state in (found["one"], found["map"].map_states[0]):
        assert type(state) is Failed
        assert state.message.startswith(message)
        assert state.message.endswith("; after ValueError('one')")
        assert type(state.result) is kind
        assert repr(state.result.__context__) == "ValueError('one')"
    assert type(found["map"].map_states[1]) is Success


def test_e11_what_fails_after_a_flow_keeps_its_error(executor):
    @flow(executor=executor, history=False, on_failure=fail_in_callback)
    def broken():
        raise ValueError("one")

    state = broken.run()
    assert state.message.endswith("; after ValueError('one')")
    assert repr(state.result.__context__) == "ValueError('one')"
