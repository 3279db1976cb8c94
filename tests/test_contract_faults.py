"""The contract of every executor: what goes wrong in the user's code stays with the child, and says so in fixed words.

Tests carry the number of their row in the fault matrix: u - user code, d - definitions (p13 to p16 are with the maps).
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from itertools import pairwise

import pytest
from bodies import append, give, lines, state_names, total

from prefectish import Flow, Parameter, Task, flow, raise_on_exception, task, triggers
from prefectish.engine import signals
from prefectish.engine.state import Failed, Retrying, Success, TriggerFailed
from prefectish.errors import FlowDefinitionError, ParameterError

NOW = timedelta(0)
ALL_SUCCESSFUL = 'Trigger was "all_successful" but some of the upstream tasks failed.'


@task
def fail():
    raise ValueError("no")


@task(trigger=triggers.all_finished)
def count_failures(xs):
    return sum(isinstance(x, BaseException) for x in xs)


class Weird(BaseException):
    """An error of a user who means it."""


def faulty(path, make_error, bad=2, number=5, **options):
    """Return a flow that maps a body over numbers, one of which makes it raise, and what reads the map."""

    @task(name="faulty", **options)
    def body(x):
        append(path, f"{x} {os.getpid()}")
        if x == bad:
            raise make_error()
        return x

    with Flow("faulty") as flow:
        children = body.map(range(number))
        reduced = total(children)
        counted = count_failures(children)
    flow.set_reference_tasks([children, reduced])
    return flow, children, reduced, counted


def only_failure(state):
    (failed,) = (child for child in state.map_states if not child.is_successful())
    return failed


# ---------------------------------------------------------------------- faults of user code


def test_u1_child_that_raises_fails_alone(run, tmp_path):
    flow, children, reduced, counted = faulty(tmp_path / "notes", lambda: ValueError("boom"), number=100)
    state = run(flow)
    child = state.result[children].map_states[2]
    assert type(child) is Failed
    assert child.message == "Error during execution of task: ValueError('boom')"
    assert type(child.result) is ValueError
    assert child.result.args == ("boom",)
    assert "in body" in child.traceback
    assert "raise make_error()" in child.traceback
    others = [s for i, s in enumerate(state.result[children].map_states) if i != 2]
    assert [s.result for s in others] == [i for i in range(100) if i != 2]
    assert type(state.result[reduced]) is TriggerFailed
    assert state.result[reduced].message == ALL_SUCCESSFUL
    assert state.result[counted] == Success(result=1)
    assert type(state) is Failed
    assert state.exit_code == 1


@pytest.mark.parametrize(
    ("row", "make_error", "text"),
    [
        ("u2", lambda: SystemExit(3), "SystemExit(3)"),
        ("u3", KeyboardInterrupt, "KeyboardInterrupt()"),
        ("u4", GeneratorExit, "GeneratorExit()"),
        ("u4", StopIteration, "StopIteration()"),
        ("u4", asyncio.CancelledError, "CancelledError()"),
        ("u4", lambda: Weird("odd"), "Weird('odd')"),
        ("u5", MemoryError, "MemoryError()"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_u2_to_u5_whatever_a_child_raises_fails_it_alone(run, tmp_path, row, make_error, text):
    flow, children, reduced, counted = faulty(tmp_path / "notes", make_error)
    before = run(faulty(tmp_path / "before", make_error, bad=None)[0])
    assert before.is_successful()
    state = run(flow)
    assert state_names(state.result[children]) == ["Success", "Success", "Failed", "Success", "Success"]
    assert only_failure(state.result[children]).message == f"Error during execution of task: {text}"
    assert type(only_failure(state.result[children]).result).__name__ == text.partition("(")[0]
    assert type(state.result[reduced]) is TriggerFailed
    assert state.result[counted].result == 1
    assert state.exit_code == 1
    # No body ran twice: nothing died of it.
    assert sorted(line.split()[0] for line in lines(tmp_path / "notes")) == list("01234")


@pytest.mark.parametrize("executor", ["dask"], indirect=True)
def test_u2_worker_processes_outlive_an_exit(run, tmp_path, dask_client):
    before = dask_client.run(os.getpid)
    flow, children, *_ = faulty(tmp_path / "notes", lambda: SystemExit(3))
    assert type(only_failure(run(flow).result[children]).result) is SystemExit
    assert dask_client.run(os.getpid) == before


@pytest.mark.parametrize(
    ("make_error", "text"),
    [
        (lambda: ValueError("boom"), "ValueError('boom')"),
        (lambda: SystemExit(3), "SystemExit(3)"),
        (KeyboardInterrupt, "KeyboardInterrupt()"),
        (GeneratorExit, "GeneratorExit()"),
        (StopIteration, "RuntimeError('coroutine raised StopIteration')"),
        (asyncio.CancelledError, "CancelledError()"),
        (lambda: Weird("odd"), "Weird('odd')"),
    ],
    ids=["ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "CancelledError", "own"],
)
def test_u4_whatever_an_async_child_raises_fails_it_alone(run, make_error, text):
    @task
    async def body(x):
        await asyncio.sleep(0)
        if x == 1:
            raise make_error()
        return x

    with Flow("async") as flow:
        children = body.map(range(3))
    state = run(flow)
    assert state_names(state.result[children]) == ["Success", "Failed", "Success"]
    assert only_failure(state.result[children]).message == f"Error during execution of task: {text}"


def test_u5_memory_error_leaves_its_worker_at_work(run):
    @task
    def hog(x):
        return len(bytearray(1 << 62)) if x == 0 else x

    with Flow("memory") as flow:
        children = hog.map(range(6))
    state = run(flow)
    assert state_names(state.result[children]) == ["Failed"] + ["Success"] * 5
    assert state.result[children].map_states[0].message == "Error during execution of task: MemoryError()"


def test_u6_recursion_error_fails_the_child(run):
    def down(x):
        return down(x + 1)

    @task
    def deep(x):
        return down(x) if x else x

    with Flow("recursion") as flow:
        children = deep.map([0, 1])
    state = run(flow)
    failed = only_failure(state.result[children])
    assert failed.message.startswith("Error during execution of task: RecursionError('maximum recursion depth exceeded")
    assert type(failed.result) is RecursionError
    assert len(failed.traceback) < 11_000


def test_u7_enormous_message_is_cut(run):
    @task
    def shout():
        raise ValueError("z" * 50_000_000)

    with Flow("shout") as flow:
        out = shout()
    failed = run(flow).result[out]
    mark = "… (cut, 50000000 characters)"
    assert failed.message.startswith("Error during execution of task: ValueError('zzz")
    assert failed.message.endswith(f"zzz{mark}")
    assert len(failed.message) == 10_000 + len(mark)


def test_u8_skip_signal_skips_the_child_and_its_chain(run):
    @task
    def choose(x):
        if x == 1:
            raise signals.SKIP("not that one")
        return x

    with Flow("skips") as flow:
        children = choose.map(range(3))
        after = give.map(children)
        kept = give.copy(skip_on_upstream_skip=False, name="kept").map(children)
    state = run(flow)
    assert state_names(state.result[children]) == state_names(state.result[after]) == ["Success", "Skipped", "Success"]
    assert state_names(state.result[kept]) == ["Success", "Success", "Success"]
    assert type(state) is Success
    assert state.exit_code == 0


def test_u9_retry_signal_ends_when_the_retries_are_used_up(run, tmp_path):
    @task(max_retries=2, retry_delay=NOW)
    def insist(x):
        append(tmp_path / "notes", x)
        raise signals.RETRY("once more")

    with Flow("retries") as flow:
        out = insist(0)
        children = insist.map([1, 2])
    state = run(flow)
    for failed in (state.result[out], *state.result[children].map_states):
        assert type(failed) is Failed
        assert failed.message == "RETRY signal, but max_retries=2 is used up"
    assert sorted(lines(tmp_path / "notes")) == ["0"] * 3 + ["1"] * 3 + ["2"] * 3


def again_by_signal(task, old, new):
    if new.is_failed():
        raise signals.RETRY("once more")


def again_by_state(task, old, new):
    return Retrying("once more") if new.is_failed() else None


@pytest.mark.parametrize("front", ["graph", "function"])
@pytest.mark.parametrize("handler", [again_by_signal, again_by_state])
def test_u9_retries_that_a_handler_asks_for_are_counted_too(executor, tmp_path, front, handler):
    @task(name="insist", max_retries=2, retry_delay=NOW, state_handlers=[handler])
    def insist():
        append(tmp_path / "notes", 0)
        raise ValueError("no")

    @flow(history=False)
    def function():
        return insist(return_state=True).message

    with Flow("retries") as graph:
        out = insist()
    if front == "graph":
        message = graph.run(executor=executor, history=False).result[out].message
    else:
        message = function.run(executor=executor).result
    assert message == "RETRY signal, but max_retries=2 is used up"
    assert lines(tmp_path / "notes") == ["0"] * 3


def broken_handler(when):
    def handle(task, old, new):
        if type(new).__name__ == when:
            raise ValueError(f"handler of {when}")

    return handle


@pytest.mark.parametrize(("when", "bodies"), [("Running", 0), ("Success", 1)])
def test_u10_handler_that_raises_fails_the_run_at_once(run, tmp_path, when, bodies):
    def never(task, old, new):
        if type(new).__name__ == when:
            append(tmp_path / "never", "called")

    @task(max_retries=3, retry_delay=NOW, state_handlers=[broken_handler(when), never])
    def body():
        append(tmp_path / "notes", "body")

    with Flow("handlers") as flow:
        out = body()
        other = give(1)
    state = run(flow)
    text = f"Unexpected error while calling state handlers: ValueError('handler of {when}')"
    assert type(state.result[out]) is Failed
    assert state.result[out].message == text
    assert str(state.result[out].result) == f"handler of {when}"
    assert len(lines(tmp_path / "notes")) == bodies
    assert lines(tmp_path / "never") == []
    assert state.result[other].is_successful()


def test_u10_handler_that_raises_for_one_child_leaves_its_siblings(run):
    def handle(task, old, new):
        if new.is_successful() and new.result == 1:
            raise ValueError("one is not allowed")

    with Flow("handlers") as flow:
        children = give.copy(state_handlers=[handle]).map(range(3))
    assert state_names(run(flow).result[children]) == ["Success", "Failed", "Success"]


def test_u10_handler_that_raises_for_the_parent_fails_it(run):
    with Flow("handlers") as flow:
        out = give.copy(state_handlers=[broken_handler("Mapped")]).map(range(3))
        after = give.copy(trigger=triggers.all_failed)("ran", upstream_tasks=[out])
    state = run(flow)
    assert type(state.result[out]) is Failed
    assert state.result[out].message == "Unexpected error while calling state handlers: ValueError('handler of Mapped')"
    assert state.result[after].result == "ran"


def test_u10_handler_that_exits_fails_the_task(run):
    def leave(task, old, new):
        raise SystemExit(4)

    with Flow("handlers") as flow:
        out = give.copy(state_handlers=[leave])(1)
    assert run(flow).result[out].message == "Unexpected error while calling state handlers: SystemExit(4)"


def test_u10_error_of_a_handler_comes_out_under_raise_on_exception(run):
    with Flow("handlers") as flow:
        give.copy(state_handlers=[broken_handler("Success")])(1)
    with raise_on_exception(), pytest.raises(ValueError, match="handler of Success"):
        run(flow)


def test_u10_flow_handler_that_raises_fails_the_flow(run):
    with Flow("handlers", state_handlers=[broken_handler("Success")]) as flow:
        give(1)
    state = run(flow)
    assert type(state) is Failed
    assert state.message == "Unexpected error while calling state handlers: ValueError('handler of Success')"


def test_u11_handler_that_returns_no_state_fails_the_run(run):
    def answer(task, old, new):
        return 42

    with Flow("handlers") as flow:
        out = give.copy(state_handlers=[answer])(1)
        children = give.copy(state_handlers=[answer]).map([1])
    state = run(flow)
    for failed in (state.result[out], state.result[children]):
        assert type(failed) is Failed
        assert failed.message == "state handler answer returned int"
        assert type(failed.result) is TypeError


def test_u12_trigger_that_raises_fails_the_task_without_its_body(run, tmp_path):
    def break_down(upstream):
        raise KeyError("lost")

    @task(trigger=break_down, max_retries=2, retry_delay=NOW)
    def body(x):
        append(tmp_path / "notes", x)

    with Flow("triggers") as flow:
        out = body(1)
        children = body.map([1, 2])
    state = run(flow)
    for failed in (state.result[out], *state.result[children].map_states):
        assert type(failed) is TriggerFailed
        assert failed.message == "Unexpected error while checking task trigger: KeyError('lost')"
        assert type(failed.result) is KeyError
    assert lines(tmp_path / "notes") == []


def test_u12_trigger_that_exits_fails_the_task(run):
    def leave(upstream):
        raise SystemExit(1)

    with Flow("triggers") as flow:
        out = give.copy(trigger=leave)(1)
    assert run(flow).result[out].message == "Unexpected error while checking task trigger: SystemExit(1)"


def test_error_without_a_repr_still_has_a_message(run):
    class Mute(Exception):
        def __repr__(self):
            raise ValueError("mute")

        __str__ = __repr__

    @task
    def body():
        raise Mute

    with Flow("mute") as flow:
        out = body()
    assert run(flow).result[out].message == ("Error during execution of task: <Mute whose repr raises ValueError>")


def test_wrong_arguments_of_a_body_are_the_body_s_own_failure(run):
    @task
    def body(**values):
        return values["x"]

    with Flow("arguments") as flow:
        out = body(y=1)
    failed = run(flow).result[out]
    assert type(failed) is Failed
    assert failed.message == "Error during execution of task: KeyError('x')"


# ---------------------------------------------------------------------- bad definitions


@pytest.fixture
def never(tmp_path):
    """A task that must not run, and the check that it did not."""

    def body():
        append(tmp_path / "ran", "ran")

    yield task(body, name="never")
    assert lines(tmp_path / "ran") == []


def test_d1_cycle_is_refused(run, never):
    a, b, c = (Task(name) for name in "abc")
    flow = Flow("cycle", tasks=[never])
    a.set_upstream(b, flow=flow)
    b.set_upstream(a, flow=flow)
    c.set_upstream(b, flow=flow)
    with pytest.raises(FlowDefinitionError) as error:
        run(flow)
    assert str(error.value) == "cycle: a -> b -> a"
    assert error.value.exit_code == 2


def test_d2_same_function_twice_has_two_slugs(run):
    with Flow("slugs") as flow:
        first, second = give(1), give(2)
    assert (flow.slugs[first], flow.slugs[second]) == ("give-1", "give-2")
    state = run(flow)
    assert (state.result[first].result, state.result[second].result) == (1, 2)


@pytest.mark.parametrize(
    ("given", "text"),
    [({}, "missing: x"), ({"x": 1, "y": 2}, "unknown: y"), ({"y": 1}, "missing: x; unknown: y")],
    ids=["missing", "unknown", "both"],
)
def test_d3_wrong_parameters_are_refused(run, never, given, text):
    with Flow("parameters") as flow:
        give(Parameter("x"), upstream_tasks=[never])
    for options in ({"parameters": given}, given):
        with pytest.raises(ParameterError) as error:
            run(flow, **options)
        assert str(error.value) == text
        assert isinstance(error.value, ValueError)
        assert error.value.exit_code == 2


def test_d4_foreign_reference_task_is_refused():
    flow = Flow("reference", tasks=[Task("mine")])
    with pytest.raises(FlowDefinitionError, match=r"<Task: yours> is not in <Flow: name=reference>"):
        flow.set_reference_tasks([Task("yours")])


@pytest.mark.parametrize(
    "options",
    [
        {"max_retries": 2},
        {"retry_delay": NOW},
        {"max_retries": -1, "retry_delay": NOW},
        {"max_retries": 1, "retry_delay": -1},
        {"max_retries": 1, "retry_delay": float("nan")},
        {"max_retries": 1, "retry_delay": timedelta.max},
        {"max_retries": 1, "retry_delay": timedelta(seconds=-1)},
        {"max_retries": 1, "retry_delay": []},
        {"retries": -1},
    ],
    ids=str,
)
def test_d5_impossible_retries_are_refused_where_they_are_written(options):
    with pytest.raises(ValueError):  # noqa: PT011  the words belong to the options' own tests
        task(**options)(len)


def test_d6_task_outside_a_flow_is_refused():
    for call in (lambda: give(1), lambda: give.map([1]), lambda: give.copy().bind(1)):
        with pytest.raises(FlowDefinitionError, match=r"^no active Flow.*\.run\(\.\.\.\)") as error:
            call()
        assert "@flow" in str(error.value)


slow = [pytest.param(name, marks=pytest.mark.fault) for name in ("processes", "dask")]


@pytest.mark.parametrize("executor", ["local", "synchronous", "threads", *slow], indirect=True)
def test_d7_chain_of_ten_thousand_tasks_runs(run):
    @task
    def step(x):
        return x + 1

    links = [step.copy() for _ in range(10_000)]
    flow = Flow("chain", tasks=reversed(links))  # whoever sorts them begins with the one that waits for all others
    links[0].bind(-1, flow=flow)
    for before, after in pairwise(links):
        flow.add_edge(before, after, key="x")
    state = run(flow)
    assert state.result[links[-1]].result == 9_999
    assert len(state.result) == 10_000


def test_d8_result_of_another_flow_is_refused():
    with Flow("first"):
        there = give(1)
    with Flow("second"), pytest.raises(FlowDefinitionError, match=r"^task give-1 belongs to flow first"):
        give(there)


def test_d10_mapped_task_as_its_own_input_is_refused(run, never):
    mapped = give.copy(name="loop")
    flow = Flow("own input", tasks=[never])
    with pytest.raises(FlowDefinitionError, match=r"^cycle: loop -> loop$"):
        mapped.set_dependencies(flow, keyword_tasks={"value": mapped}, mapped=True)
    a, b = give.copy(name="a"), give.copy(name="b")
    a.set_dependencies(flow, keyword_tasks={"value": b}, mapped=True)
    b.set_dependencies(flow, keyword_tasks={"value": a}, mapped=True)
    with pytest.raises(FlowDefinitionError, match=r"^cycle: a -> b -> a$"):
        run(flow)


def test_run_inside_the_block_of_a_flow_is_refused(run, never):
    with Flow("inside") as flow:
        flow.add_task(never)
        with pytest.raises(RuntimeError, match="<Flow: name=inside>"):
            run(flow)


def test_constant_that_cannot_be_mapped_is_refused():
    with Flow("constants"):
        for value in (5, None, {1, 2}, {"a": 1}):
            with pytest.raises(TypeError, match=r"^give\.map: argument 'value' cannot be mapped over"):
                give.map(value)


def test_handler_that_is_not_callable_is_refused():
    with pytest.raises(TypeError, match="state_handlers"):
        give.copy(state_handlers=["not a function"])
    with pytest.raises(TypeError, match="state_handlers"):
        Flow("handlers", state_handlers=[5])
