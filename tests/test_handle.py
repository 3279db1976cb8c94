"""Runs in the background, and what can be asked of them from outside."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from real import until

from prefectish import Flow, task, triggers
from prefectish.engine.state import Cancelled, Failed, Running, Success
from prefectish.errors import ParameterError
from prefectish.executors import LocalDaskExecutor, LocalExecutor

LIMIT = 20.0


@pytest.fixture(params=["local", "threads"])
def executor(request: pytest.FixtureRequest) -> Any:
    return LocalExecutor() if request.param == "local" else LocalDaskExecutor(num_workers=2)


class Gate:
    """Holds bodies until it is opened, and says when the first has come."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, value: Any) -> Any:
        self.reached.set()
        assert self.open.wait(LIMIT)
        return value


@pytest.fixture
def gate() -> Any:
    gate = Gate()
    yield gate
    gate.open.set()


def gated(gate: Gate, width: int = 8) -> tuple[Flow, Any, Any]:
    @task
    def hold(x: int) -> int:
        return int(gate(x))

    @task(trigger=triggers.all_finished, skip_on_upstream_skip=False)
    def total(values: list[Any]) -> int:
        return len(values)

    with Flow("gated") as flow:
        held = hold.map(list(range(width)))
        end = total(held)
    return flow, held, end


def test_start_returns_at_once_and_wait_gives_the_state(executor: Any, gate: Gate) -> None:
    flow, held, end = gated(gate)
    run = flow.start(executor=executor)
    assert gate.reached.wait(LIMIT)
    assert type(run.state) is Running
    with pytest.raises(TimeoutError, match="did not finish within"):
        run.wait(timeout=0.01)
    gate.open.set()
    state = run.wait(LIMIT)
    assert type(state) is Success
    assert run.state is state
    assert state.result[held].result == list(range(8))
    assert state.context["flow_run_id"] == run.id
    assert state.result[end].result == 8


def test_counts_tell_the_states_of_children(executor: Any, gate: Gate) -> None:
    flow, held, _ = gated(gate)
    run = flow.start(executor=executor)
    assert gate.reached.wait(LIMIT)
    running = 1 if isinstance(executor, LocalExecutor) else 2
    until(lambda: run.counts(held) == {"Running": running, "Pending": 8 - running}, LIMIT)
    gate.open.set()
    run.wait(LIMIT)
    assert run.counts(held) == {"Success": 8}
    assert run.counts() == {"Success": 10}


def test_counts_refuse_what_does_not_exist(gate: Gate) -> None:
    gate.open.set()
    flow, held, _ = gated(gate, width=2)
    run = flow.start()
    with pytest.raises(ValueError, match=r"is not in <Flow: name=gated>: no task is called 'held' in .*'hold'"):
        run.counts("held")
    run.wait(LIMIT)
    assert run.counts("hold") == run.counts(held) == {"Success": 2}


def test_cancel_ends_a_run_with_a_state_for_every_child(executor: Any, gate: Gate) -> None:
    flow, held, end = gated(gate, width=2000)
    run = flow.start(executor=executor)
    assert gate.reached.wait(LIMIT)
    run.cancel()
    gate.open.set()
    state = run.wait(LIMIT)
    assert type(state) is Cancelled
    assert state.exit_code == 6
    children = state.result[held].map_states
    assert len(children) == 2000
    assert {type(child) for child in children} <= {Cancelled, Success}
    assert {child.message for child in children if type(child) is Cancelled} == {"cancelled", "never started"}
    assert state.result[end] == Cancelled()
    assert state.result[end].message == "never started"


def test_cancel_with_drain_keeps_what_runs(executor: Any, gate: Gate) -> None:
    flow, held, end = gated(gate, width=2000)
    run = flow.start(executor=executor)
    assert gate.reached.wait(LIMIT)
    run.cancel(drain=True)
    gate.open.set()
    state = run.wait(LIMIT)
    children = state.result[held].map_states
    assert any(type(child) is Success for child in children)
    assert {child.message for child in children if type(child) is Cancelled} == {"never started"}
    assert type(state.result[end]) is Cancelled


def test_cancel_one_child_leaves_its_siblings(gate: Gate) -> None:
    flow, held, end = gated(gate, width=4)
    run = flow.start(executor=LocalDaskExecutor(num_workers=2))
    assert gate.reached.wait(LIMIT)
    run.cancel(held, index=0)
    gate.open.set()
    state = run.wait(LIMIT)
    assert [type(child) for child in state.result[held].map_states] == [Cancelled, Success, Success, Success]
    assert state.result[end].result == 4


def test_cancel_a_task_lets_its_followers_decide(gate: Gate) -> None:
    flow, held, end = gated(gate, width=2000)
    run = flow.start(executor=LocalDaskExecutor(num_workers=2))
    assert gate.reached.wait(LIMIT)
    run.cancel(held)
    gate.open.set()
    state = run.wait(LIMIT)
    assert {type(child) for child in state.result[held].map_states} <= {Cancelled, Success}
    assert type(state.result[end]) is Success
    assert state.result[end].result == 2000


def test_cancel_refuses_what_does_not_exist(gate: Gate) -> None:
    flow, held, _ = gated(gate, width=2)
    run = flow.start()
    with pytest.raises(ValueError, match="requires task=: an index selects one child"):
        run.cancel(index=3)
    with pytest.raises(ValueError, match="is not in"):
        run.cancel(task(lambda: 1, name="stranger"))
    with pytest.raises(TypeError, match="index must be an int, the position of a child, got '1'"):
        run.cancel(held, "1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="index must be >= 0, got -1: children are counted"):
        run.cancel(held, -1)
    gate.open.set()
    assert type(run.wait(LIMIT)) is Success


def test_start_refuses_bad_parameters_in_the_calling_thread() -> None:
    with pytest.raises(ParameterError, match="unknown: x"):
        Flow("none").start(x=1)


def test_wait_raises_what_made_the_run_break_off() -> None:
    class Broken:
        def start(self, plan: Any, run: Any) -> Any:
            raise ConnectionError("nobody there")

    with pytest.raises(ConnectionError, match="nobody there"):
        Flow("broken").start(executor=Broken()).wait(LIMIT)


def test_failed_run_is_a_state_and_no_error(executor: Any) -> None:
    @task
    def fail() -> None:
        raise ValueError("boom")

    with Flow("fails") as flow:
        fail()
    assert type(flow.start(executor=executor).wait(LIMIT)) is Failed
