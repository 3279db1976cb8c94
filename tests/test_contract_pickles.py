"""The contract of the executors that pickle: what cannot be carried fails the child it belongs to, and nothing else.

Tests carry the number of their row in the fault matrix.
"""

from __future__ import annotations

import os
import socket
import threading

import pytest
from bodies import append, give, lines, state_names

from prefectish import Flow, Parameter, context, task, triggers, unmapped
from prefectish.engine.state import Failed, Success, TriggerFailed
from prefectish.errors import FlowDefinitionError, RemoteError, ResultUnpickleError
from prefectish.executors import DaskExecutor, LocalDaskExecutor

elsewhere = pytest.mark.parametrize("executor", ["processes", "dask"], indirect=True)


@task(trigger=triggers.all_finished)
def type_name(x):
    return type(x).__name__


def break_down(text):
    raise ValueError(text)


class Unloadable:
    """Can be pickled, and never loaded."""

    def __reduce__(self):
        return break_down, ("not to be loaded",)


class Unsendable:
    """Cannot be pickled."""

    def __reduce__(self):
        raise ValueError("not to be sent")


class LoadsAtHomeOnly:
    """Can be loaded in the process that made it."""

    def __init__(self):
        self.home = os.getpid()

    def __setstate__(self, state):
        if os.getpid() != state["home"]:
            raise ModuleNotFoundError("No module named 'at_home'")
        self.__dict__.update(state)


def on_other_workers(request):
    """Options that place two tasks on different workers, where there is a choice."""
    if "dask" not in request.node.callspec.id:
        return {}, {}
    first, second = request.getfixturevalue("dask_client").scheduler_info()["workers"]
    return {"workers": [first]}, {"workers": [second]}


@pytest.mark.parametrize(
    "make",
    [threading.Lock, lambda: (n for n in range(3)), socket.socket, Unsendable],
    ids=["lock", "generator", "socket", "own"],
)
@elsewhere
def test_p1_result_that_cannot_be_pickled_fails_its_child(run, request, make):
    here, there = on_other_workers(request)

    @task(**here)
    def produce(x):
        return make() if x == 1 else x

    with Flow("results") as flow:
        children = produce.map([0, 1, 2])
        after = give.copy(**there).map(children)
        whole = give.copy(**there)(children)
        counted = type_name(children)
    state = run(flow)
    assert state_names(state.result[children]) == ["Success", "Failed", "Success"]
    message = state.result[children].map_states[1].message
    assert message.startswith("result of produce-1[1] could not be pickled: ")
    assert message.split(": ")[1] in ("TypeError", "ValueError")
    assert state_names(state.result[after]) == ["Success", "TriggerFailed", "Success"]
    assert type(state.result[whole]) is TriggerFailed
    assert state.result[counted] == Success(None, "list")


@elsewhere
def test_p2_result_that_cannot_be_unpickled_fails_its_consumer(run, request):
    here, there = on_other_workers(request)

    @task(**here)
    def produce(x):
        return Unloadable() if x == 1 else x

    with Flow("results") as flow:
        children = produce.map([0, 1, 2])
        after = give.copy(**there).map(children)
    state = run(flow)
    assert state_names(state.result[children]) == ["Success"] * 3
    assert state_names(state.result[after]) == ["Success", "Failed", "Success"]
    failed = state.result[after].map_states[1]
    assert failed.message == (
        "upstream produce-1[1] could not be unpickled on the worker: ValueError: not to be loaded"
    )
    with pytest.raises(ResultUnpickleError, match=r"produce-1\[1\]"):
        _ = state.result[children].map_states[1].result


@pytest.mark.parametrize("where", ["processes", "dask"])
def test_p2_result_is_loaded_once_more_where_it_was_made_if_asked(where, request):
    if where == "dask":
        executor = DaskExecutor(client=request.getfixturevalue("dask_client"), verify_results=True)
    else:
        executor = LocalDaskExecutor(where, num_workers=1, verify_results=True)

    @task
    def produce(x):
        return Unloadable() if x == 1 else x

    with Flow("results") as flow:
        children = produce.map([0, 1, 2])
    state = flow.run(executor=executor)
    assert state_names(state.result[children]) == ["Success", "Failed", "Success"]
    assert "produce-1[1]" in state.result[children].map_states[1].message


@elsewhere
def test_p3_argument_that_cannot_be_pickled_fails_its_child_before_it_starts(run, tmp_path):
    @task
    def take(x):
        append(tmp_path / "notes", type(x).__name__)
        return x

    with Flow("arguments") as flow:
        out = take.map([0, Unsendable(), 2])
    state = run(flow)
    assert state_names(state.result[out]) == ["Success", "Failed", "Success"]
    message = state.result[out].map_states[1].message
    assert message == "argument 'x' of take-1[1] could not be pickled: ValueError: not to be sent"
    assert lines(tmp_path / "notes") == ["int", "int"]


@elsewhere
def test_p3_shared_argument_that_cannot_be_pickled_fails_every_child(run):
    @task
    def take(x, shared):
        return x

    with Flow("arguments") as flow:
        before = give.map([0, 1])
        out = take.map(before, unmapped(Unsendable()))
        again = take.copy(trigger=triggers.all_finished).map(out, unmapped(Unsendable()))
        after = type_name.map(out)
        other = give(5)
    state = run(flow)
    assert state_names(state.result[before]) == state_names(state.result[after]) == ["Success", "Success"]
    assert state_names(state.result[again]) == ["Failed", "Failed"]
    assert state.result[other] == Success(None, 5)
    assert state_names(state.result[out]) == ["Failed", "Failed"]
    assert "could not be pickled: ValueError: not to be sent" in state.result[out].map_states[0].message


@pytest.mark.parametrize("row", ["p4", "p5"])
@elsewhere
def test_p4_p5_argument_that_cannot_be_unpickled_fails_its_child(run, request, row):
    make, error = {
        "p4": (Unloadable, "ValueError: not to be loaded"),
        "p5": (LoadsAtHomeOnly, "ModuleNotFoundError: No module named 'at_home'"),
    }[row]
    with Flow("arguments") as flow:
        out = type_name.map([0, make(), 2])
        single = type_name(make())
        after = give.map(out)
    state = run(flow)
    assert state_names(state.result[out]) == ["Success", "Failed", "Success"]
    assert state_names(state.result[after]) == ["Success", "TriggerFailed", "Success"]
    for failed in (state.result[out].map_states[1], state.result[single]):
        assert type(failed) is Failed
        assert f"could not be unpickled on the worker: {error}" in failed.message
    assert [state.result[out].map_states[i].result for i in (0, 2)] == ["int", "int"]
    if "dask" in request.node.callspec.id:
        assert len(request.getfixturevalue("dask_client").scheduler_info()["workers"]) == 2


class HoldsALock(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class CannotBeReduced(Exception):
    def __reduce__(self):
        raise ValueError("no")


class TakesTwo(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: HoldsALock("has a lock"), "has a lock"),
        (lambda: CannotBeReduced("stays"), "stays"),
        (lambda: TakesTwo("one", "two"), "one and two"),
    ],
    ids=["lock", "reduce", "two arguments"],
)
@elsewhere
def test_p7_exception_that_cannot_be_carried_keeps_its_name_text_and_traceback(run, make, text):
    @task
    def fail(x):
        try:
            raise KeyError("first cause")
        except KeyError as cause:
            raise make() from cause

    with Flow("exceptions") as flow:
        out = fail.map([0])
        seen = type_name.map(out)
    state = run(flow)
    (failed,) = state.result[out].map_states
    kind = type(make()).__name__
    assert failed.message == f"Error during execution of task: {make()!r}"
    if isinstance(failed.result, RemoteError):
        assert (failed.result.type_name, failed.result.message) == (kind, text)
        assert str(failed.result) == f"{kind}: {text}"
    else:
        assert (type(failed.result).__name__, str(failed.result)) == (kind, text)
    for part in ("KeyError: 'first cause'", "raise make() from cause", f"{kind}: {text}"):
        assert part in failed.traceback
    assert state_names(state.result[seen]) == ["Success"]


@elsewhere
def test_p8_body_that_cannot_be_pickled_is_refused_before_anything_is_submitted(run, tmp_path):
    with socket.socket() as held:

        @task
        def talk(x):
            return held.fileno()

        @task
        def first():
            append(tmp_path / "notes", "ran")

        with Flow("bodies") as flow:
            talk.map([1, 2], upstream_tasks=[unmapped(first())])
        with pytest.raises(FlowDefinitionError, match=r"^task talk-1 cannot be pickled: ") as error:
            run(flow)
    assert error.value.exit_code == 2
    assert lines(tmp_path / "notes") == []


@elsewhere
def test_handler_and_trigger_that_cannot_be_pickled_are_refused_too(run):
    lock = threading.Lock()

    def trigger(upstream):
        return lock is not None

    with Flow("bodies") as flow:
        give.copy(trigger=trigger, name="picky")(1)
    with pytest.raises(FlowDefinitionError, match=r"^task picky-1 cannot be pickled: "):
        run(flow)


@elsewhere
def test_parameter_that_cannot_be_pickled_fails_the_tasks_that_read_it_only(run):
    with Flow("parameters") as flow:
        out = give(1)
        lock = Parameter("lock")
        reads = give(lock)
        waits = give(2, upstream_tasks=[lock])
    state = run(flow, parameters={"lock": threading.Lock()})
    assert state.result[out] == Success(None, 1)
    assert type(state.result[reads]) is Failed
    assert state.result[reads].message.startswith("argument 'value' of give-2 could not be pickled: TypeError: ")
    assert state.result[waits] == Success(None, 2)


@elsewhere
def test_fact_of_the_context_that_cannot_be_pickled_is_absent_elsewhere(run):
    @task
    def look():
        return context.get("colour"), context.get("lock"), "lock" in context

    with Flow("context") as flow:
        out = look()
    state = run(flow, context={"lock": threading.Lock(), "colour": "red"})
    assert state.result[out].result == ("red", None, False)


@elsewhere
def test_results_come_back_as_copies(run):
    original = {"a": [1, 2]}
    with Flow("copies") as flow:
        out = give(original)
    result = run(flow).result[out].result
    assert result == original
    assert result is not original


@elsewhere
def test_bodies_of_main_and_closures_travel(run):
    factor = 7

    class Local:
        def __init__(self, value):
            self.value = value

        def __eq__(self, other):
            return self.value == other.value

        __hash__ = None

    @task
    def wrap(x):
        return Local(x * factor)

    with Flow("closures") as flow:
        out = wrap.map([1, 2])
    assert run(flow).result[out].result == [Local(7), Local(14)]
