"""What ends a run of Prefect 1, or a branch of it: executors of one's own, constants that wait, inputs of the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest

import prefectish


def a_flow() -> Any:
    """Return a flow of two sums."""
    from prefect import Flow, task

    @task
    def add(x, y=1):
        return x + y

    with Flow("sums") as flow:
        add(add(1), 5)
    return flow


class TestExecutors:
    def test_own_submit_of_a_local_executor_is_called(self):
        from prefect.executors import LocalExecutor

        class Counting(LocalExecutor):
            calls = 0

            def submit(self, fn, *args, **kwargs):
                self.calls += 1
                return super().submit(fn, *args, **kwargs)

        executor = Counting()
        flow = a_flow()
        flow.update(a_flow())  # a chain of tasks is submitted at once
        assert flow.run(executor=executor).is_successful()
        assert executor.calls == 2

    @pytest.mark.parametrize("method", ["submit", "wait", "start"])
    def test_error_of_an_executor_ends_the_run(self, method):
        from prefect.engine.flow_runner import FlowRunner
        from prefect.executors import LocalExecutor

        def broken(self, *args, **kwargs):
            raise OSError("no place")

        def not_ready(self):
            raise OSError("no place")

        broken = not_ready if method == "start" else broken
        executor = type("Broken", (LocalExecutor,), {method: broken})()
        for state in (a_flow().run(executor=executor), FlowRunner(a_flow()).run(executor=executor)):
            assert state.is_failed()
            assert isinstance(state.result, OSError)

    def test_start_without_a_plan_surrounds_the_run(self):
        from prefect.executors import Executor

        told = []

        class Own(Executor):
            def start(self):
                told.append("open")
                return super().start()

            def submit(self, fn, *args, **kwargs):
                return fn(*args, **kwargs)

            def wait(self, futures):
                return futures

        assert a_flow().run(executor=Own()).is_successful()
        assert told == ["open"]


class TestConstants:
    @pytest.mark.parametrize(("given", "wanted"), [(True, 1), (False, 2)])
    def test_constants_are_branches(self, given, wanted):
        from prefect import Flow, Parameter
        from prefect.tasks.control_flow import ifelse, merge
        from prefect.tasks.core.constants import Constant

        one, two = Constant(1), Constant(2)
        with Flow("choice") as flow:
            ifelse(Parameter("x"), one, two)
            chosen = merge(one, two)
        state = flow.run(x=given)
        assert state.result[chosen].result == wanted
        assert [state.result[one].is_skipped(), state.result[two].is_skipped()] == [not given, given]

    def test_constants_are_cases(self):
        from prefect import Flow, Parameter
        from prefect.tasks.control_flow import merge, switch
        from prefect.tasks.core.constants import Constant

        branches = {"a": Constant("A"), "b": Constant("B")}
        with Flow("cases") as flow:
            switch(Parameter("x"), branches)
            chosen = merge(*branches.values())
        assert flow.run(x="b").result[chosen].result == "B"

    def test_a_constant_waits_for_what_comes_before(self):
        from prefect.tasks.core.constants import Constant

        failing, constant = prefectish.task(lambda: 1 / 0, name="failing"), Constant(3)
        flow = prefectish.Flow("after")
        constant.set_upstream(failing, flow=flow)
        assert type(flow.run().result[constant]).__name__ == "TriggerFailed"


class TestSerialize:
    def test_storage_is_built(self, tmp_path):
        from prefect.storage import Local

        flow = a_flow()
        flow.storage = Local(directory=str(tmp_path))
        assert flow.serialize()["storage"]["flows"] == {}
        told = flow.serialize(build=True)
        assert told["storage"]["flows"] == {"sums": str(tmp_path / "sums.prefect")}
        assert flow.serialize(build=True) == told

    def test_nothing_to_build(self):
        with pytest.raises(ValueError, match="no storage to build"):
            a_flow().serialize(build=True)

    def test_hash_tells_what_differs(self):
        from prefect import Flow

        assert Flow("a").serialized_hash() == Flow("a").serialized_hash() != Flow("b").serialized_hash()
        one, other = a_flow(), a_flow()
        other.set_reference_tasks([other.sorted_tasks()[0]])
        assert one.serialized_hash() == a_flow().serialized_hash() != other.serialized_hash()


SCRIPT = """
from prefectish import compat
compat.install()
from prefect import Flow, task
from prefect.run_configs import UniversalRun

@task(tags=["a", "b", "c"])
def f():
    return 1

with Flow("f", run_config=UniversalRun(labels=["d", "e", "g"])) as flow:
    f()
print(flow.version, flow.serialized_hash())
"""


def test_version_and_hash_are_the_same_in_every_process():
    told = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", SCRIPT]
        told.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(told) == 1


def test_cached_state_of_a_runner_has_its_inputs():
    from prefect import Task, task
    from prefect.core.edge import Edge
    from prefect.engine.state import Success
    from prefect.engine.task_runner import TaskRunner

    source, cached = Task("source"), task(lambda x: x, name="cached", cache_for=timedelta(days=1))
    state = TaskRunner(cached).run(upstream_states={Edge(source, cached, key="x"): Success(result=3)})
    assert {name: found.value for name, found in state.cached_inputs.items()} == {"x": 3}


def test_a_loop_begins_in_its_middle():
    import prefect
    from prefect import Task
    from prefect.engine.signals import LOOP
    from prefect.engine.task_runner import TaskRunner

    class Looping(Task):
        def run(self):
            done = prefect.context.get("task_loop_result", 0)
            if prefect.context.get("task_loop_count", 1) < 5:
                raise LOOP(result=done + 1)
            return done

    assert TaskRunner(Looping()).run().result == 4
    assert TaskRunner(Looping()).run(context={"task_loop_count": 4, "task_loop_result": 10}).result == 11
