"""Runners of Prefect 1: one attempt, and what they take and return."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest


def test_a_retry_that_is_due_waits_for_the_next_call():
    from prefect import Flow, task
    from prefect.engine import FlowRunner, TaskRunner
    from prefect.engine.state import Retrying

    seen = []
    fails = task(lambda: 1 / 0, name="fails", max_retries=1, retry_delay=timedelta(0))
    state = TaskRunner(fails, state_handlers=[lambda runner, old, new: seen.append((runner.task, new))]).run()
    assert isinstance(state, Retrying)
    assert state.start_time <= datetime.now(UTC)
    assert state.context.keys() <= {"task_run_count", "tags"}
    assert [type(new).__name__ for _, new in seen] == ["Running", "Failed", "Retrying"]
    assert seen[0][0] is fails
    assert TaskRunner(fails).run(state=state).is_failed()

    with Flow("retries") as flow:
        failing, mapped = fails(), task(lambda x: 1 / x, name="m", max_retries=1, retry_delay=timedelta(0)).map([1, 0])
    first = FlowRunner(flow).run(return_tasks=[failing, mapped])
    assert first.is_running()
    assert first.result[failing].start_time <= datetime.now(UTC)
    assert [type(child).__name__ for child in first.result[mapped].map_states] == ["Success", "Retrying"]
    assert first.result[mapped].map_states[1].start_time <= datetime.now(UTC)
    assert FlowRunner(flow).run(task_states=first.result).is_failed()


def test_a_parameter_that_is_missing_fails():
    from prefect import Flow, Parameter, task
    from prefect.engine import FlowRunner
    from prefect.engine.state import Failed, TriggerFailed

    with Flow("needs") as flow:
        x, y = Parameter("x"), Parameter("y", default=2)
        added = task(lambda x, y: x + y, name="added")(x, y)
    state = FlowRunner(flow).run(return_tasks=[x, y, added])
    assert state.is_failed()
    assert type(state.result[x]) is Failed
    assert state.result[x].message == 'Parameter "x" was required but not provided.'
    assert isinstance(state.result[added], TriggerFailed)
    for given in ({"parameters": {"x": 1}}, {"context": {"parameters": {"x": 1}}}):
        assert FlowRunner(flow).run(return_tasks=[added], **given).result[added].result == 3
    with pytest.raises(ValueError, match="x"):
        flow.run()


def test_tasks_get_contexts_of_their_own():
    from prefect import Flow, Task, context, task
    from prefect.engine import FlowRunner

    class Reads(Task):
        def run(self):
            return context.get("special")

    with Flow("contexts") as flow:
        a, b = Reads()(), task(lambda: context.get("special"), name="b")()
    contexts = {a: {"special": 42}, b: {"special": 43}}
    state = FlowRunner(flow).run(return_tasks=[a, b], task_contexts=contexts)
    assert [state.result[task].result for task in (a, b)] == [42, 43]
    state = flow.run(task_contexts=contexts, history=False)
    assert [state.result[task].result for task in (a, b)] == [42, 43]
    assert flow.run(history=False).result[a].result is None


def test_a_stored_result_has_a_value_and_a_location(tmp_path):
    from prefect import Task
    from prefect.engine import TaskRunner
    from prefect.engine.results import LocalResult

    class Five(Task):
        def run(self):
            return 5

    state = TaskRunner(Five(result=LocalResult(str(tmp_path), location="q"))).run(context={"checkpointing": True})
    assert (state._result.value, state._result.location) == (5, "q")


def test_a_run_that_is_not_due_does_not_begin():
    from prefect import Flow, Task
    from prefect.engine import FlowRunner
    from prefect.engine.state import Scheduled

    flow = Flow("later", tasks=[Task()])
    later = Scheduled(start_time=datetime.now(UTC) + timedelta(days=1))
    assert FlowRunner(flow).run(state=later) is later
    assert FlowRunner(flow).run(state=Scheduled()).is_successful()


def test_the_settings_name_the_classes_of_runners():
    from collections import OrderedDict

    from prefect.engine import FlowRunner, TaskRunner, get_default_flow_runner_class, get_default_task_runner_class
    from prefect.utilities.configuration import set_temporary_config

    assert (get_default_flow_runner_class(), get_default_task_runner_class()) == (FlowRunner, TaskRunner)
    with set_temporary_config({"engine.flow_runner.default_class": "collections.OrderedDict"}):
        assert get_default_flow_runner_class() is OrderedDict
    with (
        set_temporary_config({"engine.task_runner.default_class": "no.such.Runner"}),
        pytest.warns(UserWarning, match=r"no\.such"),
    ):
        assert get_default_task_runner_class() is TaskRunner


def test_a_run_has_the_identifier_that_it_is_given():
    from prefect import Flow, context, task

    with Flow("named") as flow:
        known = task(lambda: (context.flow_run_id, "prefect_flow_run_id" in context), name="known")()
    assert flow.run(flow_run_id="abc", history=False).result[known].result == ("abc", False)
    assert flow.run(history=False).result[known].result != ("abc", False)


def test_runners_call_handlers():
    from prefect import Flow, Task
    from prefect.engine import FlowRunner, TaskRunner
    from prefect.engine.signals import ENDRUN
    from prefect.engine.state import Failed, Pending, Running, Success

    seen = []
    target = Task(state_handlers=[lambda task, old, new: seen.append(task)])
    runner = TaskRunner(target, state_handlers=[lambda runner, old, new: Success()])
    assert runner.call_runner_target_handlers(Pending(), Running()) == Running()
    assert runner.handle_state_change(Pending(), Running()) == Success()
    assert seen == [target, target]
    with pytest.raises(ENDRUN) as ended:
        TaskRunner(Task(), state_handlers=[lambda *args: 1 / 0]).handle_state_change(Pending(), Running())
    assert isinstance(ended.value.state, Failed)

    told = []
    flow = Flow("told", tasks=[Task()])
    by = FlowRunner(flow, state_handlers=[lambda *args: told.append(args)])
    assert by.run().is_successful()
    assert [(who, type(old).__name__, type(new).__name__) for who, old, new in told] == [
        (by, "Pending", "Running"),
        (by, "Running", "Success"),
    ]


def test_edges_of_a_task_runner_may_end_in_anything():
    from prefect import task
    from prefect.core import Edge
    from prefect.engine import TaskRunner
    from prefect.engine.state import Success

    add = task(lambda x, y: x + y, name="add")
    states = {Edge(1, 2, key="x"): Success(result=1), Edge(1, 2, key="y"): Success(result=2)}
    assert TaskRunner(add).run(upstream_states=states).result == 3


def test_a_flow_runs_by_the_runner_that_it_is_given():
    from prefect import Flow, Parameter
    from prefect.engine import FlowRunner, TaskRunner

    class Mine(FlowRunner):
        def run(self, *args, **kwargs):
            return super().run(*args, **kwargs).replace(message="mine")

    flow, x = Flow("own"), Parameter("x")
    flow.add_task(x)
    state = flow.run(x=3, runner_cls=Mine)
    assert (state.message, state.result[x].result) == ("mine", 3)
    assert FlowRunner(flow).task_runner_cls is TaskRunner


def test_results_are_stored_where_checkpointing_is_on(tmp_path):
    from prefect import Flow, context, task
    from prefect.engine import TaskRunner
    from prefect.engine.results import LocalResult
    from prefect.utilities.configuration import set_temporary_config

    one = task(lambda: 1, name="one", result=LocalResult(str(tmp_path)), target="{task_name}.txt")
    with Flow("stores") as flow:
        made = one()
    place = tmp_path / "one.txt"
    assert flow.run(history=False).result[made].result == 1
    TaskRunner(one).run()
    assert not place.exists()
    for on in (set_temporary_config({"flows.checkpointing": True}), context(checkpointing=True)):
        with on:
            assert flow.run(history=False).is_successful()
        assert place.exists()
        assert flow.run(history=False).result[made].is_cached()  # a target is looked for anyway
        place.unlink()


def test_cached_states_are_those_of_the_context():
    from prefect import Flow, Task, context
    from prefect.engine import TaskRunner
    from prefect.engine.state import Cached

    class Once(Task):
        def run(self):
            return 1

    once = Once("cached-by-context", cache_for=timedelta(days=1))
    stale = Cached(result=5, cached_result_expiration=datetime(2020, 1, 1, tzinfo=UTC))
    assert TaskRunner(once).run(state=stale).result == 1
    kept = Cached(result=5, cached_result_expiration=datetime.now(UTC) + timedelta(days=1))
    assert TaskRunner(once).run(context={"caches": {once.name: [kept]}}).result == 5
    assert TaskRunner(once).run().result == 1
    with Flow("caches") as flow:
        made = once()
    with context(caches={}):
        assert flow.run(history=False).result[made].result == 1
        assert [state.result for state in context.caches[once.name]] == [1]
        assert flow.run(history=False).result[made].why_not_cached() is None
        context["caches"] = {once.name: [kept]}
        assert flow.run(history=False).result[made].result == 5


def test_what_is_paused_is_asked_about(monkeypatch):
    from prefect import Flow, task
    from prefect.utilities.tasks import pause_task

    monkeypatch.setattr("builtins.input", lambda text: "y")

    @task
    def waits():
        pause_task("for an answer")
        return 4

    with Flow("asks") as flow:
        paused = waits()
    assert flow.run(history=False).result[paused].result == 4


def test_validators_with_options_judge_at_once():
    from prefect.engine.cache_validators import partial_inputs_only, partial_parameters_only
    from prefect.engine.state import Cached

    kept = Cached(cached_inputs={"x": 1, "y": 2}, cached_parameters={"p": 1})
    assert partial_inputs_only(kept, {"x": 1, "y": 3}, None, validate_on=["x"])
    assert not partial_inputs_only(validate_on=["y"])(kept, {"x": 1, "y": 3}, None)
    assert not partial_parameters_only(kept, None, {"p": 2}, validate_on=["p"])


def test_a_stored_result_is_its_object(tmp_path):
    from prefect import Flow, task
    from prefect.engine.result import Result
    from prefect.engine.results import LocalResult, PrefectResult

    class Writes(Result):
        def write(self, value_, **kwargs):
            return self.format(**kwargs).from_value(value_)

    with Flow("objects") as flow:
        local = task(lambda: [1], name="local", result=LocalResult(str(tmp_path), location="{task_name}.x"))()
        writes = task(lambda: [2], name="writes", result=Writes(location="{task_name}"))()
        plain = task(lambda: [3], name="plain", result=PrefectResult())()
    state = flow.run(history=False, context={"checkpointing": True})
    kept = state.result[local]._result
    assert (type(kept), kept.location, kept.value) == (LocalResult, "local.x", [1])
    assert isinstance(state.result[writes]._result, Writes)
    assert state.result[plain].result == [3]


def test_names_of_results_take_what_is_in_the_context(tmp_path):
    import os

    from prefect import Flow, context, task
    from prefect.engine import TaskRunner
    from prefect.engine.results import LocalResult

    place = LocalResult(str(tmp_path), location="{config.backend}-{team}-{x}-{day:%Y}")
    single = task(lambda x: x, name="single", result=place)
    target = task(lambda: 1, name="target", result=LocalResult(str(tmp_path)), target="{team}.t")
    with Flow("named") as flow:
        single("input")
        target()
    given = {"day": datetime(2020, 1, 1), "x": "context", "checkpointing": True}
    with context(team="a"):
        assert flow.run(history=False, context=given).is_successful()
    assert sorted(os.listdir(tmp_path)) == ["a.t", "server-a-input-2020"]
    assert target.target == "{team}.t"
    TaskRunner(target).run(context={**given, "team": "b"})
    assert (tmp_path / "b.t").exists()


def test_a_run_that_cannot_begin_changes_its_state_once():
    from prefect import Flow, Task
    from prefect.engine import FlowRunner
    from prefect.engine.state import Success

    seen = []

    def note(target, old, new):
        seen.append((target, type(old).__name__, type(new).__name__))

    flow = Flow("f", tasks=[Task("t")], state_handlers=[note])
    runner = FlowRunner(flow, state_handlers=[note])
    state = runner.run(return_tasks=[Task("other")])
    assert (state.is_failed(), type(state.result)) == (True, ValueError)
    assert seen == [(flow, "Pending", "Failed"), (runner, "Pending", "Failed")]
    flow.state_handlers = [lambda flow, old, new: Success("as it was")]
    assert FlowRunner(flow).run(return_tasks=[Task("other")]).is_successful()
    flow.state_handlers = [lambda flow, old, new: 1 / 0]
    assert isinstance(FlowRunner(flow).run(return_tasks=[Task("other")]).result, ZeroDivisionError)


def test_runners_of_the_cloud_are_those_of_flows_and_tasks():
    from prefect.engine import FlowRunner, TaskRunner
    from prefect.engine.cloud import CloudFlowRunner, CloudTaskRunner

    assert (CloudFlowRunner, CloudTaskRunner) == (FlowRunner, TaskRunner)
