"""The contract of every executor: `timeout` bounds the whole attempt, also what it calls around the body."""

from __future__ import annotations

import time

import pytest
from real import note, notes, spend, until

from prefectish import Flow, context, flow, task
from prefectish.engine.state import Success, TimedOut
from prefectish.tasks.task import Task

pytestmark = pytest.mark.time_limit(90)

LIMIT = 0.5
#: Much longer than any test waits; a thread that is left behind ends by itself.
LONG = 8.0


class SlowText(Exception):
    def __repr__(self):
        spend(LONG)
        return "late"

    __str__ = __repr__


class SlowPickle:
    def __reduce__(self):
        spend(LONG)
        return SlowPickle, ()


def hang_at_two(*args, **kwargs):
    if context.get("map_index") == 2 or 2 in args or kwargs.get("x") == 2:
        spend(LONG)
    return True


def body(x):
    return x


def raises(x):
    if x == 2:
        raise SlowText
    return x


def fails(x):
    if x == 2:
        raise ValueError("no")
    return x


def gives(x):
    return SlowPickle() if x == 2 else x


def handle(task, old, new):
    hang_at_two()
    return new


HANGING = {
    "item_key": lambda: task(body, timeout=LIMIT, item_key=lambda x: str(hang_at_two(x) and x), target="${item_key}"),
    "trigger": lambda: task(body, timeout=LIMIT, trigger=lambda upstream: hang_at_two()),
    "handler": lambda: task(body, timeout=LIMIT, state_handlers=[handle]),
    "repr": lambda: task(raises, timeout=LIMIT),
    "name": lambda: task(body, timeout=LIMIT, task_run_name=lambda **fields: str(hang_at_two())),
    "cache": lambda: task(
        body, timeout=LIMIT, cache_key_fn=lambda ctx, inputs: f"{time.time()} {hang_at_two(*inputs.values())}"
    ),
    "retry": lambda: task(
        fails, timeout=LIMIT, max_retries=1, retry_delay=0, retry_condition_fn=lambda *about: hang_at_two()
    ),
    "pickle": lambda: task(gives, timeout=LIMIT),
}


@pytest.fixture(params=["graph", "function"])
def children(request, executor):
    """Return the states of the children of a map over four items."""

    def in_graph(mapped: Task):
        with Flow("limits") as graph:
            out = mapped.map(range(4))
        return graph.run(executor=executor, history=False).result[out].map_states

    def in_function(mapped: Task):
        @flow(name="limits", executor=executor, history=False)
        def calls():
            called = mapped.map(range(4))
            called.wait()
            states.extend(called.state.map_states)

        states: list = []
        calls()
        return states

    return in_graph if request.param == "graph" else in_function


@pytest.mark.parametrize("kind", HANGING)
def test_t11_whatever_hangs_around_a_body_is_timed_out_with_its_child_alone(children, in_process, tmp_path, kind):
    if kind == "pickle" and in_process:
        pytest.skip("results are not pickled there")
    mapped = HANGING[kind]()
    if kind == "item_key":
        from prefectish.results import LocalResult

        mapped = mapped.copy(result=LocalResult(tmp_path))
    began = time.monotonic()
    states = children(mapped)
    assert time.monotonic() - began < LONG
    assert type(states[2]) is TimedOut, states
    if states[2].message != "Task timed out during execution.":  # by the body, where its error is masked
        assert states[2].message.startswith("Task timed out during execution: ")
        assert states[2].message.endswith(f" did not end within timeout={LIMIT:g} s")
    assert [s.result for i, s in enumerate(states) if i != 2] == [0, 1, 3]


def test_t11_no_handler_sees_the_end_of_an_attempt_that_overran(children, tmp_path):
    path = tmp_path / "notes"

    def tell(task, old, new):
        if context.get("map_index") == 2:
            note(path, f"{type(new).__name__}")
        if type(new).__name__ == "Success":
            hang_at_two()

    states = children(task(body, timeout=LIMIT, state_handlers=[tell], on_failure=lambda *about: note(path, "failure")))
    assert type(states[2]) is TimedOut
    assert notes(path) == ["Running", "Success"]


def test_t11_handlers_of_a_body_that_timed_out_have_their_time(children, tmp_path):
    path = tmp_path / "notes"

    def slow(x):
        if x == 2:
            spend(LONG)
        return x

    def tell(task, old, new):
        if context.get("map_index") == 2:
            note(path, type(new).__name__)

    states = children(task(slow, timeout=LIMIT, state_handlers=[tell]))
    assert states[2].message == "Task timed out during execution."
    assert notes(path) == ["Running", "TimedOut"]


def test_t11_handlers_of_a_map_that_hang_end_at_its_timeout(spelled):
    """The thread of the run calls them: nothing else would move."""

    def hang(task, old, new):
        if new.is_mapped():
            spend(LONG)

    hanging = task(body, name="hanging", timeout=LIMIT, state_handlers=[hang])
    other = task(body, name="other")
    began = time.monotonic()
    states = spelled.states(lambda: {"hanging": hanging.map(range(4)), "other": other.map([0, 1])})
    assert time.monotonic() - began < LONG
    assert type(states["hanging"]) is TimedOut
    assert states["hanging"].message == (
        f"Task timed out during execution: state handlers of hanging did not end within timeout={LIMIT:g} s"
    )
    assert [state.result for state in states["other"].map_states] == [0, 1]


def test_t11_priority_that_hangs_counts_for_nothing(spelled, caplog):
    mapped = task(body, name="ranked", timeout=LIMIT, priority=lambda x: hang_at_two(x))
    began = time.monotonic()
    states = spelled.states(lambda: {"ranked": mapped.map(range(4))})
    assert time.monotonic() - began < LONG
    assert [state.result for state in states["ranked"].map_states] == [0, 1, 2, 3]
    assert "priority did not end within timeout=0.5 s; rows start in map order" in caplog.text


def test_handlers_that_hold_up_the_run_are_reported(monkeypatch, caplog):
    monkeypatch.setattr("prefectish.engine.driver.handler_calls.WARN_AFTER", 0.1)

    def slow(flow, old, new):
        until(lambda: "state handlers of the flow have not ended" in caplog.text)

    with Flow("held up", state_handlers=[slow]) as graph:
        task(abs, name="one")(-1)
    assert graph.run(history=False).is_successful()
    assert caplog.text.count("have not ended") == 1


def test_body_that_goes_on_after_the_time_of_its_map_is_timed_out(children, in_process):
    if not in_process:
        pytest.skip("its processes may take longer to start than the map may take")

    @task(map_timeout=LIMIT)
    def slow(x):
        if x == 1:
            spend(LONG)
        return x

    began = time.monotonic()
    states = children(slow)
    assert time.monotonic() - began < LONG
    assert type(states[0]) is Success, states
    assert repr(states[1]) == f'TimedOut("slow took longer than its map_timeout of {LIMIT:g} s")', states
