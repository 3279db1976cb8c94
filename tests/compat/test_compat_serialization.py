"""Flows and their parts of Prefect 1 as plain values, and made anew."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from types import FunctionType

import pytest

import prefectish
from prefectish.compat import serialization
from prefectish.compat.names import MODULES


def there_and_back(schema, made):
    """Return what a schema makes of what it wrote, by way of JSON."""
    return schema.load(json.loads(json.dumps(schema.dump(made))))


@pytest.mark.parametrize(
    "name", ["Success", "Failed", "Skipped", "Pending", "Scheduled", "Retrying", "Cached", "Mapped"]
)
def test_states(name):
    from prefect.engine import state as states
    from prefect.serialization.state import StateSchema

    state = getattr(states, name)("a message", context={"tags": ["a"]})
    again = there_and_back(StateSchema(), state)
    assert (type(again), again.message, again.context) == (type(state), state.message, state.context)
    assert getattr(again, "start_time", None) == getattr(state, "start_time", None)


def test_a_task():
    from prefect import Task
    from prefect.serialization.task import TaskSchema
    from prefect.triggers import any_failed

    day = timedelta(days=1)
    task = Task("a", slug="s", tags=["x"], max_retries=2, retry_delay=day, cache_for=day, trigger=any_failed, timeout=3)
    again = there_and_back(TaskSchema(), task)
    for fact in ("name", "slug", "tags", "max_retries", "retry_delay", "cache_for", "trigger", "timeout"):
        assert getattr(again, fact) == getattr(task, fact)


def test_parameters():
    from prefect import Parameter
    from prefect.serialization.task import TaskSchema

    required, optional = TaskSchema().load(
        TaskSchema().dump([Parameter("x"), Parameter("y", default=3)], many=True), many=True
    )
    assert (type(required), required.required, required.slug) == (Parameter, True, "x")
    assert (optional.required, optional.default) == (False, 3)


@pytest.mark.parametrize("name", ["some_failed", "some_successful"])
def test_triggers_keep_their_bounds(name):
    from prefect import Task, triggers
    from prefect.serialization.task import TaskSchema

    task = Task("a", trigger=getattr(triggers, name)(at_least=1, at_most=0.5))
    told = TaskSchema().dump(task)
    assert told["trigger"] == {"fn": f"prefect.triggers.{name}", "kwargs": {"at_least": 1, "at_most": 0.5}}
    assert repr(TaskSchema().load(told).trigger) == f"{name}(at_least=1, at_most=0.5)"


@pytest.mark.parametrize("name", ["partial_inputs_only", "partial_parameters_only"])
@pytest.mark.parametrize("names", [["y", "x"], []])
def test_validators_keep_their_names(name, names):
    from prefect import Task
    from prefect.engine import cache_validators
    from prefect.serialization.task import TaskSchema

    kind = getattr(cache_validators, name)
    task = Task("a", cache_for=timedelta(1), cache_validator=kind(names))
    told = TaskSchema().dump(task)
    assert told["cache_validator"] == {
        "fn": f"prefect.engine.cache_validators.{name}",
        "kwargs": {"validate_on": sorted(names)},
    }
    validator = TaskSchema().load(told).cache_validator
    assert (type(validator), validator.names) == (kind, frozenset(names))


@pytest.mark.parametrize("place", ["prefect.engine.cache_validators", "prefect.triggers"])
def test_functions_are_written_by_their_names_whatever_has_been_imported(place):
    from prefect import Task
    from prefect.serialization.task import TaskSchema

    for name, source in MODULES[place].items():
        function = getattr(import_module(source.module), source.name)
        if isinstance(function, FunctionType) and not name.startswith("some_"):
            told = TaskSchema().dump(Task("a", cache_for=timedelta(1), trigger=function, cache_validator=function))
            names = (
                {"prefect.triggers.always_run", f"{place}.{name}"} if name == "all_finished" else {f"{place}.{name}"}
            )
            assert told["trigger"]["fn"] in names
            assert function.__module__ == source.module  # so that the module is known where the function is


class Odd:
    """A trigger that is an object."""

    def __call__(self, upstream_states):
        return len(upstream_states) % 2 == 1

    def method(self, upstream_states):
        return True


@pytest.mark.parametrize(
    "trigger", [Odd(), lambda upstream: True, partial(print, end=""), Odd().method], ids=lambda t: type(t).__name__
)
def test_triggers_that_cannot_be_made_anew_are_refused(trigger):
    from prefect import Task
    from prefect.serialization.task import TaskSchema

    told = TaskSchema().dump(Task("a", trigger=trigger))
    with pytest.raises(ValueError, match="trigger of task 'a' cannot be made anew"):
        TaskSchema().load(told)


@pytest.mark.parametrize("required", [True, False])
def test_parameters_keep_their_class(required):
    from prefect import Task
    from prefect.core.parameter import DateTimeParameter
    from prefect.serialization.task import TaskSchema

    for schema in (TaskSchema(), serialization.ParameterSchema()):
        again = there_and_back(schema, DateTimeParameter("day", required=required, tags=["a"]))
        assert (type(again), again.required, again.tags) == (DateTimeParameter, required, {"a"})
    assert type(there_and_back(TaskSchema(), prefectish.Parameter("x"))) is prefectish.Parameter

    class TuneParameter(Task):
        pass

    again = there_and_back(TaskSchema(), TuneParameter("tune", max_retries=1, retry_delay=timedelta(1)))
    assert (type(again), again.max_retries) == (Task, 1)


def test_parameters_that_cannot_be_made_anew_are_refused():
    from prefect import Parameter
    from prefect.serialization.task import TaskSchema

    class Choice(Parameter):
        pass

    told = TaskSchema().dump(Choice("x"))
    with pytest.raises(ValueError, match="parameter 'x' cannot be made anew"):
        TaskSchema().load(told)
    with pytest.raises(ValueError, match=r"must be a class of parameters, got prefect\.Task"):
        TaskSchema().load({**told, "type": "prefect.Task"})


def test_an_edge():
    from prefect import Task
    from prefect.core.edge import Edge
    from prefect.serialization.edge import EdgeSchema

    again = there_and_back(EdgeSchema(), Edge(Task(slug="a"), Task(slug="b"), key="x", mapped=True))
    assert (again.upstream_task.slug, again.downstream_task.slug) == ("a", "b")
    assert (again.key, again.mapped, again.flattened) == ("x", True, False)


def test_a_schedule():
    from prefect.schedules import Schedule, filters
    from prefect.schedules.clocks import CronClock, IntervalClock
    from prefect.serialization.schedule import ScheduleSchema

    start = datetime(2030, 1, 1, tzinfo=UTC)
    clocks = [
        IntervalClock(timedelta(hours=3), start_date=start),
        CronClock("0 0 3 * 5", day_or=False, start_date=start),
    ]
    schedule = Schedule(clocks, filters=[filters.is_weekday])
    again = there_and_back(ScheduleSchema(), schedule)
    assert again.next(20) == schedule.next(20)
    assert (again.start_date, again.end_date) == (start, None)


def test_storages_and_run_configs(tmp_path):
    from prefect import Flow
    from prefect.run_configs import KubernetesRun
    from prefect.serialization.run_config import RunConfigSchema
    from prefect.serialization.storage import StorageSchema
    from prefect.storage import Local

    local = Local(directory=str(tmp_path), labels=["a"])
    local.add_flow(Flow("kept"))
    again = there_and_back(StorageSchema(), local)
    assert (type(again), again.directory, again.flows, "a" in again.labels) == (Local, str(tmp_path), local.flows, True)
    run = there_and_back(RunConfigSchema(), KubernetesRun(image="i", env={"A": "1"}, labels=["b"]))
    assert (type(run), run.image, run.env, run.labels) == (KubernetesRun, "i", {"A": "1"}, {"b"})
    with pytest.raises(ValueError, match="type must be a class of"):
        StorageSchema().load({"type": "Cupboard"})


def test_a_flow():
    from prefect import Flow, Parameter, task
    from prefect.schedules import IntervalSchedule
    from prefect.serialization.flow import FlowSchema

    @task
    def add(x, y):
        return x + y

    with Flow("sums", schedule=IntervalSchedule(timedelta(days=1))) as flow:
        total = add(Parameter("x", default=1), Parameter("y"))
        add.map([1, 2], total)
    flow.set_reference_tasks([total])
    again = there_and_back(FlowSchema(), flow)
    assert (again.name, {t.name for t in again.tasks}) == ("sums", {"add", "x", "y", "Constant[list]"})
    assert {p.name for p in again.parameters()} == {"x", "y"}
    assert sorted((e.key, e.mapped) for e in again.edges) == sorted((e.key, e.mapped) for e in flow.edges)
    assert [t.slug for t in again.reference_tasks()] == [flow.slugs[total]]
    assert len(again.schedule.next(2)) == 2


def test_a_schedule_of_ones_own_is_told_as_text():
    from prefect import Flow
    from prefect.schedules import Schedule
    from prefect.schedules.clocks import IntervalClock
    from prefect.serialization.flow import FlowSchema

    def is_odd(moment):
        return moment.day % 2 == 1

    told = Flow("odd", schedule=Schedule([IntervalClock(timedelta(days=1))], filters=[is_odd])).serialize()
    assert isinstance(told["schedule"], str)
    with pytest.raises(ValueError, match="schedule of flow 'odd' cannot be made anew"):
        FlowSchema().load(told)


def test_events_are_in_order():
    from prefect.schedules.clocks import ClockEvent

    first, second = (ClockEvent(datetime(2030, 1, day, tzinfo=UTC)) for day in (1, 2))
    assert first <= second
    assert second >= first
    assert not first >= second


def test_formats_of_pandas():
    pytest.importorskip("pandas")
    from prefect.engine.serializers import PandasSerializer

    with pytest.raises(ValueError, match="read_papyrus"):
        PandasSerializer("papyrus")


def test_tasks_of_resources_are_not_stored():
    from prefect import Flow, Task, resource_manager

    @resource_manager
    class Cluster:
        def setup(self):
            return 1

        def cleanup(self, cluster):
            pass

    with Flow("uses") as flow, Cluster():
        Task("work")()
    assert {task.name for task in flow.tasks if task.checkpoint is False} == {
        "Cluster",
        "Cluster.setup",
        "Cluster.cleanup",
    }
