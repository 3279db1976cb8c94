"""Flows and their parts of Prefect 1 as plain values, and made anew."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest


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

    def is_odd(moment):
        return moment.day % 2 == 1

    told = Flow("odd", schedule=Schedule([IntervalClock(timedelta(days=1))], filters=[is_odd])).serialize()
    assert isinstance(told["schedule"], str)


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
