"""What stands around tasks and flows in Prefect 1: tasks of files, diagnostics, messages, contexts, validators."""

from __future__ import annotations

import base64
import json
import pickle
import time
from datetime import UTC, datetime, timedelta

import pytest


def test_tasks_of_files(tmp_path):
    from prefect.tasks.files import Copy, Glob, Move, Remove

    (tmp_path / "a").write_text("x")
    assert Copy(tmp_path / "a", tmp_path / "below" / "b", create_parents=True).run() == tmp_path / "below" / "b"
    assert Copy().run(tmp_path / "below", tmp_path / "copied") == tmp_path / "copied"
    assert Move(str(tmp_path / "copied" / "b")).run(target_path=str(tmp_path / "c")) == tmp_path / "c"
    assert sorted(Glob(tmp_path).run(pattern="?")) == [tmp_path / "a", tmp_path / "c"]
    Remove(tmp_path / "c").run()
    Remove(tmp_path / "copied").run()
    Remove(tmp_path / "below", remove_path=True).run()
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
    for task in (Copy(), Move(tmp_path), Remove(), Glob(tmp_path), Glob()):
        with pytest.raises(ValueError, match=r"No `.*` provided"):
            task.run()


def test_tasks_of_sqlite(tmp_path):
    from prefect.tasks.database import SQLiteQuery, SQLiteScript

    place = str(tmp_path / "db")
    SQLiteScript(place, "create table t (a int); insert into t values (1), (2);").run()
    assert SQLiteQuery(place, "select a from t where a > ?", data=(1,)).run() == [(2,)]
    for task in (SQLiteQuery(), SQLiteQuery(place), SQLiteScript(), SQLiteScript(place)):
        with pytest.raises(ValueError, match="must be provided"):
            task.run()


def test_a_flow_tells_what_it_is_without_values(monkeypatch):
    from prefect import Flow, Task
    from prefect.utilities.configuration import set_temporary_config
    from prefect.utilities.diagnostics import config_overrides

    monkeypatch.setenv("PREFECT__SECRET_THING", "hidden")
    with set_temporary_config({"flows.checkpointing": "hidden", "context.secrets": {"KEY": "hidden"}}):
        told = Flow("f", tasks=[Task()], schedule=None, run_config=object()).diagnostics()
        assert config_overrides(include_secret_names=True)["config_overrides"]["context"] == {"secrets": {"KEY": True}}
    facts = json.loads(told)
    assert "hidden" not in told
    assert facts["config_overrides"]["flows"] == {"checkpointing": True}
    assert facts["flow_information"] == {"run_config": {"type": "object"}, "task_count": 1}
    assert "PREFECT__SECRET_THING" in facts["env_vars"]
    assert facts["system_information"]["prefect_version"] == "1.4.1"


def test_an_edge_as_plain_values():
    from prefect import Task
    from prefect.core import Edge

    told = Edge(Task(slug="a"), Task(slug="b"), key="x", mapped=True).serialize()
    assert told["upstream_task"] == {"slug": "a"}
    assert (told["key"], told["mapped"], told["flattened"]) == ("x", True, False)


def test_messages_of_notifications():
    from prefect import Task
    from prefect.engine.state import Failed, Success
    from prefect.utilities.notifications import email_message_formatter, slack_message_formatter

    (message,) = slack_message_formatter(Task(name="load"), Failed("text", ValueError("why")))["attachments"]
    assert message["color"] == Failed.color
    assert "load is now in a Failed state" in message["text"]
    assert message["fields"][0]["value"] == "```ValueError('why')```"
    assert slack_message_formatter(Task(), Success())["attachments"][0]["fields"] == []
    mail = email_message_formatter(Task(name="load"), Success("done"), "me@example.org")
    assert "To: me@example.org" in mail
    assert "load is now in a Success state\n\ndone" in mail


def test_a_body_under_the_time_limit_of_its_task():
    from prefect import task
    from prefect.exceptions import TaskTimeoutSignal
    from prefect.utilities.executors import run_task_with_timeout

    add = task(lambda x, y=1: x + y, name="add")
    assert run_task_with_timeout(add, (1,), {"y": 3}) == 4
    assert run_task_with_timeout(task=add, args=(1,)) == 2
    with pytest.raises(ZeroDivisionError):
        run_task_with_timeout(task(lambda: 1 / 0, name="fails", timeout=5))

    @task(timeout=1)
    def endless():
        while True:
            time.monotonic()

    with pytest.raises(TaskTimeoutSignal):
        run_task_with_timeout(endless)


def test_loggers():
    from prefect.utilities.configuration import set_temporary_config
    from prefect.utilities.logging import configure_logging, get_logger, prefect_logger, temporary_logger_config

    assert (get_logger().name, get_logger("load").name) == ("prefect", "prefect.load")
    assert get_logger("load").parent is get_logger()
    assert configure_logging(testing=True) is not get_logger()
    before = prefect_logger.level
    with temporary_logger_config(level="CRITICAL"), set_temporary_config({"logging.level": "ERROR"}):
        assert configure_logging() is get_logger()
        assert get_logger().level == 40
    assert prefect_logger.level == before


def test_contexts_of_ones_own():
    import prefect
    from prefect.utilities.context import Context

    own = Context({"a": 1}, b=2)
    with own(a=3, c=4) as inner:
        assert (inner.a, own.b, own["c"]) == (3, 2, 4)
    assert own.to_dict() == {"a": 1, "b": 2}
    assert not hasattr(own, "c")
    assert isinstance(own.copy(), Context)
    assert repr(own) == "<Context>"
    assert "a" not in prefect.context
    with pytest.raises(TypeError):
        pickle.dumps(own)
    with prefect.context(config={"logging": {"level": "X"}}):
        assert prefect.context.config.logging.level == "X"
        assert "log_attributes" in prefect.context.config.logging


def test_validators_take_results():
    from prefect import task
    from prefect.engine.cache_validators import all_inputs, partial_inputs_only
    from prefect.engine.result import Result
    from prefect.engine.state import Cached

    state = Cached(cached_inputs={"x": Result(1), "y": Result("a")})
    assert all_inputs(state, {"x": 1, "y": "a"}, None)
    assert not all_inputs(state, {"x": 2, "y": "a"}, None)
    assert not all_inputs(state, None, None)
    assert partial_inputs_only(["x"])(state, {"x": Result(1), "y": "b"}, None)
    assert not partial_inputs_only(["y"])(state, {"x": 1, "y": "b"}, None)
    cached = task(lambda x: [x], name="cached", cache_for=timedelta(hours=1), cache_validator=all_inputs)
    from prefect import Flow

    with Flow("caches") as flow:
        one = cached(1)
    assert type(flow.run(history=False).result[one]) is Cached


def test_the_settings_name_the_executor_of_last_resort():
    from prefect import Flow, Task
    from prefect.engine import get_default_executor_class
    from prefect.executors import LocalDaskExecutor, LocalExecutor
    from prefect.utilities.configuration import set_temporary_config

    flow = Flow("f", tasks=[Task()])
    key = "engine.executor.default_class"
    assert get_default_executor_class() is LocalExecutor
    with set_temporary_config({key: "prefect.executors.LocalDaskExecutor"}):
        assert get_default_executor_class() is LocalDaskExecutor
        assert isinstance(flow._options().executor, LocalDaskExecutor)
    with set_temporary_config({key: "no.such.Executor"}), pytest.warns(UserWarning, match=r"no\.such"):
        assert get_default_executor_class() is LocalExecutor


def test_flows_in_files(tmp_path):
    from prefect import Flow
    from prefect.utilities.filesystems import parse_path, read_bytes_from_path
    from prefect.utilities.storage import extract_flow_from_file, flow_from_bytes_pickle, flow_to_bytes_pickle

    text = "from prefect import Flow\na = Flow('first')\nb = Flow('second')\n"
    (tmp_path / "flows.py").write_text(text)
    assert extract_flow_from_file(str(tmp_path / "flows.py")).name == "first"
    assert extract_flow_from_file(file_contents=text, flow_name="second").name == "second"
    for wrong in ({}, {"file_contents": "x = 1"}, {"file_contents": text, "flow_name": "third"}):
        with pytest.raises(ValueError, match=r"only one|No flow|third"):
            extract_flow_from_file(**wrong)
    assert flow_from_bytes_pickle(flow_to_bytes_pickle(Flow("sent"))).name == "sent"
    assert parse_path("s3://bucket/a/b") == ("s3", "bucket", "/a/b")
    assert parse_path("/a/b") == ("file", "", "/a/b")
    assert read_bytes_from_path(str(tmp_path / "flows.py")) == text.encode()


def test_arguments_by_position_take_defaults_from_attributes():
    from prefect import Task
    from prefect.utilities.tasks import defaults_from_attrs

    class Two(Task):
        def __init__(self, x=None, y=None):
            self.x, self.y = x, y
            super().__init__()

        @defaults_from_attrs("x", "y")
        def run(self, x=None, y=None):
            return x, y

    two = Two(1, 2)
    assert [two.run(), two.run(None), two.run(7), two.run(y=8), two.run(None, 3)] == [
        (1, 2), (1, 2), (7, 2), (1, 8), (1, 3)
    ]  # fmt: skip


def test_tasks_of_control_flow():
    from prefect import triggers
    from prefect.engine.signals import SKIP
    from prefect.tasks.control_flow import FilterTask
    from prefect.tasks.control_flow.conditional import CompareValue

    assert FilterTask().trigger is triggers.all_finished
    compare = CompareValue(5)
    assert (compare.name, compare.value, CompareValue(5, name="n").name) == ('CompareValue: "5"', 5, "n")
    compare.run(5)
    with pytest.raises(SKIP):
        compare.run(6)


def test_small_things():
    import cloudpickle
    from prefect import Parameter, Task
    from prefect.configuration import Config
    from prefect.engine.serializers import PickleSerializer
    from prefect.schedules.clocks import Clock, DatesClock
    from prefect.utilities.configuration import set_temporary_config

    assert PickleSerializer().deserialize(base64.b64encode(cloudpickle.dumps([1]))) == [1]
    with pytest.raises(pickle.UnpicklingError):
        PickleSerializer().deserialize(b"bad")
    with pytest.raises(NotImplementedError):
        Clock().events()
    assert len(list(DatesClock([datetime(2020, 1, 1, tzinfo=UTC)]).events(datetime(2019, 1, 1, tzinfo=UTC)))) == 1
    settings = Config(a=Config(b=1))
    settings.copy().a.b = 2
    assert settings.a.b == 1
    with set_temporary_config({"tasks.defaults": {"max_retries": 3, "retry_delay": timedelta(0)}}):
        assert (Task().max_retries, Task().retry_delay, Task(max_retries=0).max_retries) == (3, timedelta(0), 0)
    assert Parameter("x").copy("y").name == "y"
    assert Parameter("x", default=3).serialize().items() >= {"name": "x", "required": False, "default": 3}.items()
    with pytest.raises(AttributeError):
        Parameter("x").name = "z"
