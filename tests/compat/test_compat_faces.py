"""What that programs of Prefect 1 ask of names, classes and arguments."""

from __future__ import annotations

import logging
import typing
from datetime import UTC, datetime

import pytest

from prefectish.executors import LocalDaskExecutor, LocalExecutor


@pytest.mark.parametrize(
    "executor", [LocalExecutor(), LocalDaskExecutor(num_workers=1), LocalDaskExecutor("processes", num_workers=1)]
)
def test_loggers_are_called_what_they_were(executor, caplog):
    import prefect
    from prefect import Flow, Task, task
    from prefect.engine.result import Result

    @task
    def named(x):
        prefect.context.get("logger").warning("at work")
        return prefect.context["logger"].name

    class Speaks(Task):
        def run(self):
            self.logger.warning("speaking")
            return self.logger.name

    with Flow("sales") as flow:
        one, many, speaking = named(0), named.map([1, 2]), Speaks()()
    with caplog.at_level("INFO"):
        state = flow.run(executor=executor)
    assert state.result[one].result == "prefect.named"
    assert state.result[many].result == ["prefect.named[0]", "prefect.named[1]"]
    assert state.result[speaking].result == "prefect.Speaks"
    logged = {(record.name, record.getMessage()) for record in caplog.records}
    assert {("prefect.named", "at work"), ("prefect.Speaks", "speaking")} <= logged
    assert (flow.logger.name, Task("a").logger.name, Result().logger.name) == (
        "prefect.sales", "prefect.a", "prefect.Result",
    )  # fmt: skip
    assert prefect.context.get("logger") is logging.getLogger("prefect")


def test_classes_of_states_are_those_that_there_were():
    from prefect.engine.state import Failed, Pending, State, Submitted, Success

    assert Failed.children(names_only=True)[:3] == [
        "TriggerFailed",
        "TimedOut",
        "ValidationFailed",
    ]  # then those of others
    assert set(Success.children(names_only=True)) >= {"Cached", "Mapped", "Skipped"}
    assert set(Pending.children(names_only=True)) >= {"Scheduled", "Paused", "Resume", "Retrying"}
    names = State.children(include_self=True, names_only=True)
    assert {"State", "Queued", "Submitted", "ClientFailed"} <= set(names)
    assert "Crashed" not in names

    class Own(Submitted):
        pass

    assert Own in State.children()


def test_an_expiry_without_a_zone_is_in_utc():
    from prefect.engine.cache_validators import duration_only
    from prefect.engine.state import Cached

    state = Cached(cached_result_expiration=datetime(2020, 1, 1))
    assert state.cached_result_expiration == datetime(2020, 1, 1, tzinfo=UTC)
    assert not duration_only(state, {}, {})


def test_a_signal_of_no_kind_fails_the_task():
    from prefect import Flow, task
    from prefect.exceptions import PrefectSignal

    @task
    def stop():
        raise PrefectSignal("enough")

    with Flow("stops") as flow:
        stopped = stop()
    state = flow.run()
    assert (state.result[stopped].message, state.result[stopped].is_failed()) == ("enough", True)


def test_a_result_of_ones_own_is_written_with_what_is_in_the_context():
    import prefect
    from prefect import Flow, task
    from prefect.engine.result import Result

    seen = {}

    class Kept(Result):
        def write(self, value_, **kwargs):
            seen.update(kwargs)
            new = self.format(**kwargs)
            new.value = value_
            return new

        def exists(self, location, **kwargs):
            return False

    @task(result=Kept(location="{today}-{task_name}"))
    def give():
        return 1

    with Flow("keeps") as flow:
        given = give()
    with prefect.context(checkpointing=True):
        state = flow.run(context={"region": "eu"})
    assert state.result[given]._result.location.endswith("-give")
    assert (seen["flow_name"], seen["task_name"], seen["region"]) == ("keeps", "give", "eu")


def test_branches_are_compared_by_the_tasks_of_prefect():
    from prefect import Flow, Parameter, Task
    from prefect.tasks.control_flow import ifelse, merge, switch
    from prefect.tasks.control_flow.conditional import CompareValue, Merge

    with Flow("branches") as flow:
        kind, a, b, c = Parameter("kind"), Task("a"), Task("b"), Task("c")
        switch(kind, {"a": a, "b": b})
        ifelse(kind, c, None)
        merged = merge(a, b, checkpoint=False)
    names = sorted(task.name for task in flow.tasks if isinstance(task, CompareValue))
    assert names == ['CompareValue: "True"', 'CompareValue: "a"', 'CompareValue: "b"']
    assert isinstance(merged, Merge)
    assert (merged.checkpoint, merged.skip_on_upstream_skip) == (False, False)
    state = flow.run(kind="b")
    assert [state.result[task].is_skipped() for task in (a, b, c, merged)] == [True, False, False, False]


def test_a_handler_that_returns_no_state_is_an_attribute_error():
    from prefect import Flow, Task

    with Flow("handled") as flow:
        task = Task("a", state_handlers=[lambda task, old, new: True])()
    assert isinstance(flow.run().result[task].result, AttributeError)


def test_the_secret_of_a_container_is_looked_up_when_it_is_needed():
    import prefect
    from prefect.engine.results import AzureResult

    kept = AzureResult("c", connection_string_secret="AZURE")
    assert (kept.connection_string, kept.connection_string_secret) == (None, "AZURE")
    with prefect.context(secrets={"AZURE": "key"}):
        assert kept._options() == {"connection_string": "key"}


def test_order_of_arguments_and_iteration_of_flows():
    from prefect import Flow, Task
    from prefect.run_configs import LocalRun
    from prefect.storage import Local

    run_config, storage = LocalRun(), Local()
    flow = Flow("sales", None, None, run_config, storage)
    assert (flow.run_config, flow.storage, flow.environment) == (run_config, storage, None)
    one, two = Task("one"), Task("two")
    flow.chain(one, two)
    assert list(flow) == [one, two]


def test_a_bare_tuple_says_no_number_of_results():
    from prefect import Task

    class Bare(Task):
        def run(self) -> typing.Tuple:  # noqa: UP006  as it was written
            return 1, 2

    class Two(Task):
        def run(self) -> typing.Tuple[int, str]:  # noqa: UP006
            return 1, "a"

    assert (Bare().nout, Two().nout) == (None, 2)


def test_tags_of_a_context_may_be_a_list():
    import prefect
    from prefect import Task
    from prefect.utilities.collections import DotDict

    with prefect.context(tags=["a"]):
        assert Task().tags == {"a"}
    assert isinstance(prefect.context, DotDict)


def test_a_flow_of_a_module(tmp_path, monkeypatch):
    from prefect.utilities.storage import extract_flow_from_module

    (tmp_path / "sales_flows.py").write_text(
        "from prefect import Flow\nflow = Flow('sales')\nnumber = 1\n\ndef made():\n    return Flow('made')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert extract_flow_from_module("sales_flows").name == "sales"
    assert extract_flow_from_module("sales_flows:flow", "sales").name == "sales"
    assert extract_flow_from_module("sales_flows:made").name == "made"
    with pytest.raises(ValueError, match="'other' not found in 'sales_flows:flow'"):
        extract_flow_from_module("sales_flows:flow", "other")
    with pytest.raises(TypeError, match="a function that returns one"):
        extract_flow_from_module("sales_flows:number")
