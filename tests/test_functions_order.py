"""The contract of every executor: calls and maps of a flow function are served as they come."""

from __future__ import annotations

import os
import threading
from collections import Counter
from contextlib import suppress

import pytest
from bodies import inc
from real import note, notes, spend, until

from prefectish import flow, task, unmapped
from prefectish.engine.driver.loop import Run
from prefectish.executors import chain_bytes
from prefectish.functions.function_run import FunctionRun

#: Bodies that the executors of the contract suite run at once.
SLOTS = {"local": 1, "synchronous": 1, "threads": 4, "processes": 2, "dask": 4}
one_by_one = pytest.mark.parametrize("executor", ["local", "synchronous"], indirect=True)
at_once = pytest.mark.parametrize("executor", ["threads", "processes", "dask"], indirect=True)


@pytest.fixture
def slots(request):
    return SLOTS[request.node.callspec.params["executor"]]


@task
def visit(x, path, seconds=0.0):
    note(path, x)
    spend(seconds)
    return x


@task
def other(x, path, seconds=0.0):
    note(path, x)
    spend(seconds)
    return x


@task
def held(x, path, gate):
    note(path, x)
    until(lambda: os.path.exists(gate))


def run_now(function, executor):
    return function.with_options(executor=executor, history=False)()


def test_calls_begin_before_any_child_of_a_later_map(executor, slots, tmp_path):
    path, gate = tmp_path / "begun", tmp_path / "gate"
    if slots == 1:
        gate.touch()

    @flow
    def mixed():
        held.map(range(8), unmapped(os.devnull), unmapped(os.devnull)).wait()  # all workers know the task
        calls = [held.submit(f"call-{n}", path, gate) for n in range(2)]
        children = held.map(range(100), unmapped(path), unmapped(gate))
        until(lambda: {"call-0", "call-1"} <= set(notes(path)))  # or the children have all slots
        gate.touch()
        [call.result() for call in calls]
        children.wait()

    run_now(mixed, executor)
    begun = notes(path)
    assert max(begun.index("call-0"), begun.index("call-1")) < 2 + slots - 1
    assert len(begun) == 102


@one_by_one
def test_calls_and_maps_run_in_the_order_of_submission(executor, tmp_path):
    path = tmp_path / "begun"

    @flow
    def mixed():
        first = visit.submit("a", path)
        children = other.map(range(5), unmapped(path))
        second = visit.submit("b", path)
        follows = other.submit(first, path)
        third = visit.submit("c", path)
        more = visit.map(["x", "y"], unmapped(path))
        return [third.result(), second.result(), follows.result(), children.result(), more.result()]

    run_now(mixed, executor)
    assert notes(path) == ["a", *"01234", "b", "a", "c", "x", "y"]


def is_submitted(run, call):
    with suppress(KeyError):  # nothing is known of it yet
        return "submitted" in run.story(call)
    return False


def open_the_gate(run, path, gate, slots, call):
    """Let go of the bodies that hold all slots, once a call has been submitted."""
    until(lambda: len(notes(path)) >= slots)
    until(lambda: is_submitted(run, call))
    spend(0.5)  # it is on its way
    gate.touch()


@task
def in_turn(x, path, gate, slots):
    """End once the next ones have begun: notes are in the order in which bodies began, on a busy machine, too."""
    note(path, x)
    until(lambda: os.path.exists(gate))
    following = notes(path).index(str(x)) + slots
    until(lambda: len(notes(path)) >= min(following, 41))


@at_once
@pytest.mark.parametrize(
    ("called", "small"),
    [(in_turn, 1 << 20), (other, 1 << 20), (in_turn, 0)],
    ids=["same task", "other task", "with many bytes"],
)
def test_call_during_a_map_begins_after_as_many_children_as_there_are_workers(
    called, small, executor, slots, tmp_path, monkeypatch
):
    monkeypatch.setattr(chain_bytes, "SMALL", small)  # how many bytes a function has depends on the path of its file
    path, gate = tmp_path / "begun", tmp_path / "gate"

    @flow
    def mixed():
        visit.map(range(200), unmapped(os.devnull)).wait()  # how short these are says nothing of others
        children = in_turn.map(range(40), *map(unmapped, (path, gate, slots)))
        until(lambda: len(notes(path)) >= slots)
        call = called.with_options(name="called").submit("call", path, *[gate, slots] * (called is in_turn))
        children.wait()
        return call.result()

    run = mixed.start(executor=executor, history=False, story=True)
    open_the_gate(run, path, gate, slots, "called")
    assert run.wait().is_successful()
    begun = notes(path)
    assert begun.index("call") <= 2 * slots
    assert len(begun) == 41


@at_once
def test_maps_alternate_also_if_one_came_later(executor, slots, tmp_path):
    path, gate = tmp_path / "begun", tmp_path / "gate"

    @flow
    def two():
        first = held.map(["first"] * 50, unmapped(path), unmapped(gate))
        until(lambda: len(notes(path)) >= slots)
        second = other.map(["second"] * 50, unmapped(path), unmapped(0.005))
        return len(first.result() + second.result())

    run = two.start(executor=executor, history=False, story=True)
    open_the_gate(run, path, gate, slots, "other")
    assert run.wait().result == 100
    middle = Counter(notes(path)[2 * slots : 2 * slots + 40])
    assert min(middle["first"], middle["second"]) >= 12


@one_by_one
def test_priority_goes_before_the_order_of_submission(executor, tmp_path):
    path = tmp_path / "begun"

    @flow
    def urgent():
        low = visit.map(["low"] * 3, unmapped(path))
        high = other.with_options(priority=5).map(["high"] * 2, unmapped(path))
        return high.result(), low.result()

    run_now(urgent, executor)
    begun = notes(path)
    assert begun.index("high") <= 1
    assert begun[begun.index("high") :][:2] == ["high", "high"]


@one_by_one
def test_map_over_a_map_still_goes_deep_first(executor, tmp_path):
    path = tmp_path / "begun"

    @flow
    def deep():
        return other.map(visit.map(range(3), unmapped(path)), unmapped(path)).result()

    assert run_now(deep, executor) == [0, 1, 2]
    assert notes(path) == ["0", "0", "1", "1", "2", "2"]


def test_what_is_called_at_the_last_moment_runs(executor, monkeypatch):
    """The function calls, and returns, while the loop looks whether anything is left."""
    looked, returned = threading.Event(), threading.Event()
    is_over, join = Run._is_over, FunctionRun._join

    def look(loop):
        if not looked.is_set():
            looked.set()
            assert returned.wait(60)
        return is_over(loop)

    def joins(run, timeout):
        returned.set()
        return join(run, timeout)

    monkeypatch.setattr(Run, "_is_over", look)
    monkeypatch.setattr(FunctionRun, "_join", joins)
    futures = []

    @flow(executor=executor, history=False)
    def calls():
        assert looked.wait(60)
        futures.extend((inc.submit(1), inc.map([1, 2])))

    calls()
    assert [type(future.state).__name__ for future in futures] == ["Success", "Mapped"]
    assert futures[0].result() == 2
