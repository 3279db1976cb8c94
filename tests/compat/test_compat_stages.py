"""Stages of runners called by themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest


def ends(stage, *args):
    """Return the state with which a stage ends the run."""
    from prefect.engine.runner import ENDRUN

    with pytest.raises(ENDRUN) as ended:
        stage(*args)
    return ended.value.state


def upstream(state, key=None, mapped=False):
    from prefect import Task
    from prefect.core.edge import Edge

    return {Edge(Task("up"), Task("down"), key=key, mapped=mapped): state}


def test_a_task_that_waits_or_has_ended_does_not_run():
    from prefect import Task
    from prefect.engine import TaskRunner
    from prefect.engine.state import Failed, Pending, Retrying, Running, Scheduled, Skipped, Success

    runner, pending = TaskRunner(Task("t")), Pending()
    assert runner.check_upstream_finished(pending, upstream(Success())) is pending
    assert ends(runner.check_upstream_finished, pending, upstream(Running())) is pending
    assert runner.check_upstream_skipped(pending, upstream(Failed())) is pending
    assert ends(runner.check_upstream_skipped, pending, upstream(Skipped())).is_skipped()
    assert TaskRunner(Task(skip_on_upstream_skip=False)).check_upstream_skipped(pending, upstream(Skipped())) is pending
    assert runner.check_task_is_ready(pending) is pending
    assert ends(runner.check_task_is_ready, Success("there")).message == "there"
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert ends(runner.check_task_reached_start_time, Scheduled(start_time=tomorrow)).start_time == tomorrow
    found = runner.initialize_run(Retrying(run_count=2), {})
    assert (found.context["task_run_count"], found.context["task_name"]) == (3, "t")


def test_the_trigger_decides():
    from prefect import Task
    from prefect.engine import TaskRunner
    from prefect.engine.state import Failed, Pending, TriggerFailed
    from prefect.utilities.debug import raise_on_exception

    seen = []
    runner, pending = TaskRunner(Task(state_handlers=[lambda task, old, new: seen.append(new)])), Pending()
    assert runner.check_task_trigger(pending, {}) is pending
    ended = ends(runner.check_task_trigger, pending, upstream(Failed()))
    assert isinstance(ended, TriggerFailed)
    assert seen == [ended]
    raises = TaskRunner(Task(trigger=lambda states: 1 / 0))
    assert isinstance(ends(raises.check_task_trigger, pending, {}).result, ZeroDivisionError)
    with raise_on_exception(), pytest.raises(ZeroDivisionError):
        raises.check_task_trigger(pending, {})


def test_the_body_runs_and_is_retried():
    from prefect import context, task
    from prefect.engine import TaskRunner
    from prefect.engine.result import Result
    from prefect.engine.state import Failed, Looped, Pending, Retrying, Running, Success

    divides = TaskRunner(task(lambda x: 1 / x, name="d", max_retries=1, retry_delay=timedelta(0)))
    inputs = divides.get_task_inputs(Pending(), upstream(Success(result=2), key="x"))
    assert inputs == {"x": Result(2)}
    running = divides.set_task_to_running(Pending(), inputs)
    assert isinstance(running, Running)
    assert divides.get_task_run_state(running, inputs).result == 0.5
    assert ends(divides.get_task_run_state, Pending(), inputs).is_pending()
    failed = divides.get_task_run_state(running, {"x": Result(0)})
    assert isinstance(failed, Failed)
    assert isinstance(divides.check_for_retry(failed, inputs), Retrying)
    with context(task_run_count=2):
        assert divides.check_for_retry(failed, inputs) is failed
    loops = TaskRunner(task(lambda: context.task_loop_result + context.task_loop_count, name="l"))
    assert loops.check_task_is_looping(Looped(result=10, loop_count=1)).result == 12


def test_caches_and_targets(tmp_path):
    from prefect import Task, context
    from prefect.engine import TaskRunner
    from prefect.engine.results import LocalResult
    from prefect.engine.state import Cached, Pending, Success

    later = datetime.now(UTC) + timedelta(days=1)
    runner, pending = TaskRunner(Task("c", cache_for=timedelta(days=1))), Pending()
    cached = runner.cache_result(Success(result=1), {"x": 2})
    assert (type(cached), cached.result, cached.cached_inputs["x"].value) == (Cached, 1, 2)
    assert not TaskRunner(Task()).cache_result(Success(result=1), {}).is_cached()
    stale = Cached(result=3, cached_result_expiration=datetime(2020, 1, 1, tzinfo=UTC))
    assert runner.check_task_is_cached(stale, {}).is_pending()
    kept = Cached(result=3, cached_result_expiration=later)
    with context(caches={"c": [stale, kept]}):
        assert runner.check_task_is_cached(pending, {}) is kept
    stored = LocalResult(str(tmp_path), location="a.txt").write(5)
    target = TaskRunner(Task(result=LocalResult(str(tmp_path)), target="{x}.txt"))
    assert target.check_target(pending, {"x": "a"}).result == stored.value
    assert target.check_target(pending, {"x": "b"}) is pending


def test_stages_of_a_flow():
    from prefect import Flow, Parameter
    from prefect.engine import FlowRunner
    from prefect.engine.state import Failed, Pending, Running, Success

    flow = Flow("stages", tasks=[Parameter("x", default=1), Parameter("y")])
    runner, pending = FlowRunner(flow), Pending()
    found = runner.initialize_run(None, {}, {"a": 1}, {}, {"y": 2})
    assert found.state.is_pending()
    assert (found.context["a"], found.context["parameters"]) == (1, {"x": 1, "y": 2})
    assert runner.check_flow_is_pending_or_running(pending) is pending
    assert ends(runner.check_flow_is_pending_or_running, Success()).is_successful()
    assert runner.set_flow_to_running(pending).is_running()
    assert ends(runner.set_flow_to_running, Failed()).is_failed()
    state = runner.determine_final_state(Running(), {Success()}, {"a": Success()}, {Success()})
    assert state.is_successful()
    assert state.result == {"a": Success()}
    assert runner.determine_final_state(Running(), {Failed()}, {}, {Success()}).is_failed()
    assert runner.determine_final_state(Running(), set(), {}, {pending}).is_running()
