"""Injected faults by the name of a task, in flow functions, on every executor."""

from __future__ import annotations

import pytest
from bodies import inc

from prefectish import flow, task
from prefectish.engine.state import Crashed, Success
from prefectish.executors import LocalExecutor
from prefectish.testing import FaultySession


@task
def load(x):
    return x


def run(executor, function):
    return flow(function, executor=executor, history=False)()


@pytest.mark.parametrize("which", [load, "load"])
def test_faults_of_a_task_hold_for_its_calls_and_maps(executor, which):
    faulty = FaultySession(executor, {(which, 1): "killed-worker", ("inc", 0): ["killed-worker"]})

    def loads():
        called = [load.submit(i) for i in range(3)]
        mapped = load.map(range(3))
        return [type(f.wait() and f.state) for f in (*called, *mapped)], inc(1)

    assert run(faulty, loads) == ([Success, Crashed, Success] * 2, 2)
    assert {event.label for event in faulty.happened} == {"load[1]", "load-2[1]", "inc[0]"}


def test_fault_of_one_map_is_named_by_its_slug():
    faulty = FaultySession(LocalExecutor(), {"load-2": "killed-worker"})

    def loads():
        return [[type(f.wait() and f.state) for f in load.map([x])] for x in (1, 2)]

    assert run(faulty, loads) == [[Success], [Crashed]]


def test_name_that_is_never_called_is_refused_at_the_end():
    def calls():
        return load(1)

    with pytest.raises(ValueError, match="faults name 'laod', which was not called in the flow 'calls'"):
        run(FaultySession(LocalExecutor(), {"laod": "killed-worker"}), calls)
