"""The contract of every executor: calls and maps of a flow function are served as they come."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from real import note, notes, spend, until

from prefectish import flow, task, unmapped

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


def run(function, executor):
    return function.with_options(executor=executor, history=False)()


def test_calls_begin_before_any_child_of_a_later_map(executor, slots, tmp_path):
    path = tmp_path / "begun"

    @flow
    def mixed():
        visit.map(range(8), unmapped(os.devnull), unmapped(0.05)).wait()  # all workers know the task
        calls = [visit.submit(f"call-{n}", path) for n in range(2)]
        children = visit.map(range(100), unmapped(path), unmapped(0.01))
        [call.result() for call in calls]
        children.wait()

    run(mixed, executor)
    begun = notes(path)
    # Bodies that begin together may leave their notes in any order.
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

    run(mixed, executor)
    assert notes(path) == ["a", *"01234", "b", "a", "c", "x", "y"]


@at_once
@pytest.mark.parametrize("called", [visit, other], ids=["same task", "other task"])
def test_call_during_a_map_begins_after_as_many_children_as_there_are_workers(called, executor, slots, tmp_path):
    path, gate = tmp_path / "begun", tmp_path / "gate"

    @task
    def held(x, path, gate):
        note(path, x)
        until(lambda: os.path.exists(gate))

    @flow
    def mixed():
        children = held.map(range(60), unmapped(path), unmapped(gate))
        until(lambda: len(notes(path)) >= slots)
        call = called.submit("call", path)
        spend(0.5)  # it is on its way, and all workers are held
        gate.touch()
        children.wait()
        return call.result()

    run(mixed, executor)
    begun = notes(path)
    assert begun.index("call") <= 2 * slots
    assert len(begun) == 61


@at_once
def test_maps_alternate_also_if_one_came_later(executor, slots, tmp_path):
    path, gate = tmp_path / "begun", tmp_path / "gate"

    @task
    def held(x, path, gate):
        note(path, x)
        until(lambda: os.path.exists(gate))

    @flow
    def two():
        first = held.map(["first"] * 50, unmapped(path), unmapped(gate))
        until(lambda: len(notes(path)) >= slots)
        second = other.map(["second"] * 50, unmapped(path), unmapped(0.005))
        spend(0.5)
        gate.touch()
        return len(first.result() + second.result())

    assert run(two, executor) == 100
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

    run(urgent, executor)
    begun = notes(path)
    assert begun.index("high") <= 1
    assert begun[begun.index("high") :][:2] == ["high", "high"]


@one_by_one
def test_map_over_a_map_still_goes_deep_first(executor, tmp_path):
    path = tmp_path / "begun"

    @flow
    def deep():
        return other.map(visit.map(range(3), unmapped(path)), unmapped(path)).result()

    assert run(deep, executor) == [0, 1, 2]
    assert notes(path) == ["0", "0", "1", "1", "2", "2"]
