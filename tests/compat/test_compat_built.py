"""Flows, runners, states and the context as Prefect 1 documents them."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import cloudpickle
import pytest


def add_flow():
    from prefect import Flow, Parameter, task

    with Flow("add") as flow:
        x = Parameter("x", default=1)
        added = task(lambda x, y: x + y, name="add")(x, 2)
    return flow, x, added


class TestFlow:
    def test_names_and_arguments(self):
        from prefect import Flow
        from prefect.schedules import IntervalSchedule

        schedule = IntervalSchedule(timedelta(days=1))
        flow = Flow("a", schedule)
        assert (flow.schedule, flow.storage, flow.run_config, repr(flow)) == (schedule, None, None, '<Flow: name="a">')
        for name in ("", None):
            with pytest.raises(ValueError, match="name"):
                Flow(name)

    def test_its_parts_are_sets_in_order(self):
        from prefect.core import Edge

        flow, x, added = add_flow()
        assert all(isinstance(part, set) for part in (flow.tasks, flow.edges, flow.root_tasks(), flow.edges_to(added)))
        assert list(flow.tasks) == [added, x]
        assert flow.tasks.copy().pop() in flow.tasks
        assert flow.edges == {Edge(x, added, key="x")}
        assert flow.sorted_tasks() == (x, added)
        assert flow.all_upstream_edges() == {x: set(), added: {Edge(x, added, key="x")}}
        assert flow.all_downstream_edges()[x] == flow.edges
        assert (flow.constants[added], flow.constants[x]) == ({"y": 2}, {})
        assert pickle.loads(pickle.dumps(flow.slugs and {1})) == {1}

    def test_edges_are_checked_as_the_settings_say(self):
        from prefect import Flow, Task
        from prefect.utilities.configuration import set_temporary_config

        one, two = Task("one"), Task("two")
        with set_temporary_config({"flows.eager_edge_validation": True}):
            flow = Flow("eager")
            flow.add_edge(one, two)
            with pytest.raises(ValueError, match="cycle"):
                flow.add_edge(two, one)
        flow = Flow("late")
        flow.chain(one, two, one)
        with pytest.raises(ValueError, match="cycle"):
            flow.validate()

    def test_what_a_run_refuses(self):
        from prefect import Flow, Parameter

        flow = Flow("wants", tasks=[Parameter("x")])
        with pytest.raises(ValueError, match="did not receive the following required parameters: x"):
            flow.run()
        with pytest.raises(ValueError, match="received the following unexpected parameters: y"):
            flow.run(x=1, y=2)
        with pytest.raises(ValueError, match="return_tasks"):
            flow.run(x=1, return_tasks=[])

    def test_it_is_saved_and_loaded(self, tmp_path):
        from prefect import Flow

        flow, _, _ = add_flow()
        path = flow.save(str(tmp_path / "add.prefect"))
        loaded = Flow.load(path)
        assert (loaded.name, len(loaded.tasks)) == ("add", 2)
        assert cloudpickle.loads(cloudpickle.dumps(flow)).serialize() == flow.serialize()

    def test_it_is_described_as_plain_values(self):
        flow, _, _ = add_flow()
        found = flow.serialize()
        assert [parameter["name"] for parameter in found["parameters"]] == ["x"]
        assert [(edge["upstream_task"], edge["key"]) for edge in found["edges"]] == [({"slug": "x"}, "x")]

    def test_it_is_drawn_with_its_state(self):
        graphviz = pytest.importorskip("graphviz")
        flow, _, _ = add_flow()
        drawn = flow.visualize(flow_state=flow.run(history=False))
        assert isinstance(drawn, graphviz.Source)
        assert "add" in drawn.source

    def test_a_schedule_may_have_a_next_of_its_own(self):
        from prefect import Flow, task
        from prefect.schedules import Schedule
        from prefect.schedules.clocks import ClockEvent

        class Twice(Schedule):
            left = 2

            def next(self, n, **options):
                self.left -= 1
                return [ClockEvent(datetime.now(UTC) + timedelta(seconds=0.01))] if self.left >= 0 else []

        ran = []
        flow = Flow("twice", Twice(clocks=[]), tasks=[task(lambda: ran.append(1), name="note")])
        flow.run(history=False)
        assert len(ran) == 2


class TestRunners:
    def test_a_flow_runner_makes_one_pass(self):
        from prefect import Flow, task
        from prefect.engine import FlowRunner
        from prefect.engine.state import Retrying

        @task(max_retries=1, retry_delay=timedelta(hours=1))
        def fails():
            raise OSError("no")

        with Flow("once") as flow:
            failing = fails()
            after = task(lambda x: x, name="after")(failing)
        state = FlowRunner(flow=flow).run(return_tasks=[failing, after])
        assert state.is_running()
        assert isinstance(state.result[failing], Retrying)
        assert state.result[after].is_pending()
        again = FlowRunner(flow).run(task_states=state.result, return_tasks=[failing])
        assert isinstance(again.result[failing], Retrying)

    def test_a_flow_runner_returns_the_states_that_are_wanted(self):
        from prefect import Task
        from prefect.engine import FlowRunner

        flow, _, added = add_flow()
        assert FlowRunner(flow).run().result == {}
        assert FlowRunner(flow).run(return_tasks=[added], parameters={"x": 3}).result[added].result == 5
        assert FlowRunner(flow).run(return_tasks=[Task()]).is_failed()

    def test_a_task_runner_runs_one_attempt(self):
        from prefect import Task, context, task
        from prefect.core import Edge
        from prefect.engine import TaskRunner
        from prefect.engine.state import Failed, Pending, Retrying, Skipped, Success, TriggerFailed

        up, seen = Task("up"), []
        double = task(
            lambda x: 2 * x * context.get("factor", 1),
            name="double",
            state_handlers=[lambda *args: seen.append(args[2])],
        )
        runner, edge = TaskRunner(double), Edge(up, double, key="x")
        assert runner.run(upstream_states={edge: Success(result=2)}, context={"factor": 10}).result == 40
        assert [type(state).__name__ for state in seen] == ["Running", "Success"]
        assert isinstance(runner.run(upstream_states={edge: Failed()}), TriggerFailed)
        assert isinstance(runner.run(upstream_states={edge: Skipped()}), Skipped)
        assert isinstance(runner.run(upstream_states={edge: Pending()}), Pending)

        failing = task(lambda: 1 / 0, name="failing", max_retries=1, retry_delay=timedelta(hours=1))
        assert isinstance(TaskRunner(failing).run(), Retrying)
        now = Retrying(start_time=datetime.now(UTC), run_count=1)
        assert TaskRunner(failing).run(state=now).is_failed()


class TestStates:
    def test_they_are_shown_as_they_were(self):
        from prefect.engine.state import Failed, Success

        assert repr(Success("All reference tasks succeeded.")) == '<Success: "All reference tasks succeeded.">'
        assert repr(Failed()) == "<Failed>"

    def test_a_result_object_gives_its_value(self, tmp_path):
        from prefect.engine.result import Result
        from prefect.engine.results import LocalResult
        from prefect.engine.state import Mapped, Success

        assert Success(result=Result(value=4)).result == 4
        stored = LocalResult(str(tmp_path)).write([1])
        state = Success(result=LocalResult(str(tmp_path), location=stored.location))
        assert state.result is None
        assert state.load_result().result == [1]
        assert Mapped(map_states=[state, None]).load_result().map_states[0].result == [1]

    def test_naive_times_are_utc(self):
        from prefect.engine.state import Scheduled

        assert Scheduled(start_time=datetime(2022, 1, 1)).start_time == datetime(2022, 1, 1, tzinfo=UTC)

    def test_a_handler_may_change_them(self):
        from prefect import Flow, task
        from prefect.engine.result import Result
        from prefect.engine.state import Queued, Running, Scheduled, Submitted, Success

        def note(task, old, new):
            if new.is_successful():
                new.result, new.message = new.result + 1, "one more"
                new.context["noted"] = True

        with Flow("changes") as flow:
            one = task(lambda: 1, name="one", state_handlers=[note])()
        state = flow.run(history=False).result[one]
        assert (state.result, state.message, state.context["noted"]) == (2, "one more", True)
        assert isinstance(state._result, Result)
        submitted = Submitted()
        submitted.state = Queued(state=Running())
        assert submitted.state.is_running()
        due = Scheduled()
        due.start_time = datetime(2022, 1, 1, tzinfo=UTC)
        assert due.start_time.year == 2022
        with pytest.raises(AttributeError, match=r"Success has no 'timestamp'; keep it in its context"):
            Success().timestamp = 1

    def test_states_that_many_tasks_have_stay_as_they_are(self):
        from prefect import Flow, task

        def spoil(task, old, new):
            old.message = "spoilt"

        with Flow("spoils") as flow:
            task(lambda: 1, name="one", state_handlers=[spoil])()
        state = flow.run(history=False)
        assert "is the state of many tasks" in str(next(iter(state.result.values())).result)

    def test_their_result_is_an_object(self):
        from prefect.engine.result import NoResult, Result
        from prefect.engine.results import PrefectResult
        from prefect.engine.state import Mapped, Success

        assert Success()._result == NoResult
        assert Success(result=4)._result == Result(4)
        kept = PrefectResult(location="3")
        state = Success(result=kept)
        assert state._result is kept
        assert state.load_result() is state
        assert state.result == 3
        assert Mapped(map_states=[state]).result == [3]

    def test_questions_are_those_of_prefect(self):
        from prefect.engine.state import Mapped, Queued

        def answers(state):
            return {name for name in dir(state) if name.startswith("is_") and getattr(state, name)()}

        assert answers(Queued()) == {"is_meta_state", "is_queued", "is_scheduled"}
        assert answers(Mapped()) == {"is_finished", "is_successful", "is_mapped"}

    def test_written_down_they_have_the_location_of_their_result(self):
        import json

        from prefect.engine.results import PrefectResult
        from prefect.engine.state import Queued, Running, State, Success

        blob = json.loads(json.dumps(Success("m", object(), context={"tags": ["a"]}).serialize()))
        assert (blob["type"], blob["__version__"], blob["context"]) == ("Success", "1.4.1", {"tags": ["a"]})
        assert State.deserialize(blob).result is None
        blob = json.loads(json.dumps(Success(result=PrefectResult(value=5, location="5")).serialize()))
        assert State.deserialize(blob).load_result(PrefectResult()).result == 5
        assert State.deserialize(Queued(state=Running("x")).serialize()).state.message == "x"

    def test_they_can_be_written_down(self):
        from prefect.engine.state import Queued, Retrying, State

        state = Retrying("again", run_count=2)
        assert State.deserialize(state.serialize()) == state
        assert Queued(state=state).is_meta_state()
        assert not state.is_meta_state()


class TestContext:
    def test_it_is_a_mapping_that_can_be_written_to(self):
        from prefect import context

        with context(a=1):
            context.b = 2
            context["c"] = 3
            context.update(d=4)
            assert [context.a, context["b"], context.c, context.setdefault("d", 5)] == [1, 2, 3, 4]
            assert {**context} == {"a": 1, "b": 2, "c": 3, "d": 4}
            del context.c
            assert context.pop("b") == 2
            assert "c" not in context
            assert len(context) == 2
        with pytest.raises(KeyError):
            del context["nothing"]
        with pytest.raises(TypeError, match="Pickling context objects is explicitly not supported"):
            cloudpickle.dumps(context)
        context.clear()

    def test_bodies_find_the_settings(self):
        from prefect import Flow, context, task

        with Flow("settings") as flow:
            found = task(lambda: context.config.flows.checkpointing, name="read")()
        assert flow.run(history=False).result[found].result is False
        assert context.config.tasks.defaults.max_retries == 0
