"""Results, serializers, executors, schedules, settings and helpers as Prefect 1 documents them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, time, timedelta
from typing import Any

import cloudpickle
import pytest


class TestResults:
    def test_a_local_result_writes_and_reads(self, tmp_path):
        from prefect.engine.results import LocalResult

        result = LocalResult(dir=str(tmp_path), location="{name}.txt")
        written = result.write([1], name="a")
        assert (written.location, written.value, result.value) == ("a.txt", [1], None)
        assert result.read("a.txt").value == [1]
        assert result.exists("{name}.txt", name="a")
        assert not result.exists("b.txt")
        assert cloudpickle.loads((tmp_path / "a.txt").read_bytes()) == [1]
        assert LocalResult(dir="somewhere", validate_dir=False).dir == "somewhere"

    def test_other_results(self):
        from prefect.engine.result import NoResult, NoResultType, Result
        from prefect.engine.results import ConstantResult, PrefectResult

        assert ConstantResult(value=4).read("anything").value == 4
        assert ConstantResult(3).exists("x")
        with pytest.raises(ValueError, match="ConstantResult"):
            ConstantResult(3).write(4)
        assert PrefectResult().write([1]).location == "[1]"
        assert PrefectResult().read("[1]").value == [1]
        assert PrefectResult().exists("3")
        assert not PrefectResult().exists("}")
        assert isinstance(NoResult, NoResultType)
        assert NoResult.value is None
        assert NoResult.copy() is NoResult
        assert (Result(1) == Result(1), Result(1) == Result(2), repr(Result(1))) == (True, False, "<Result: 1>")
        assert Result(1).from_value(2).value == 2
        assert Result(location=lambda **kwargs: kwargs["x"]).format(x="a").location == "a"
        for call in (lambda: Result().read("x"), lambda: Result().write(1), lambda: Result().exists("x")):
            with pytest.raises(NotImplementedError):
                call()

    def test_cloud_results_are_files_of_fsspec(self):
        fsspec = pytest.importorskip("fsspec")
        from prefect.engine.results import GCSResult, S3Result

        assert (S3Result("b", boto3_kwargs={"region_name": "x"}).bucket, GCSResult("b").scheme) == ("b", "gs")

        class Memory(S3Result):
            scheme = "memory"

        result = Memory("bucket", location="{x}")
        assert result.write(3, x="a").location == "a"
        assert result.exists("a")
        assert result.read("a").value == 3
        fsspec.filesystem("memory").rm("/bucket", recursive=True)

    @pytest.mark.parametrize("where", ["task", "flow"])
    def test_a_class_of_the_users_own_keeps_what_runs_make(self, run: Any, tmp_path: Any, where: str) -> None:
        from prefect import Flow, task
        from prefect.engine.result import Result

        class Files(Result):
            def write(self, value_, **kwargs):
                new = self.format(**kwargs)
                new.value = value_
                (tmp_path / new.location).write_text(repr(value_))
                return new

            def read(self, location):
                new = self.copy()
                new.location, new.value = location, eval((tmp_path / location).read_text())
                return new

            def exists(self, location, **kwargs):
                return (tmp_path / location.format(**kwargs)).exists()

        place = Files(location="{task_name}-{map_index}.txt")
        options = {"result": place} if where == "task" else {}
        double = task(lambda x: [x] * 2, name="double", **options)
        with Flow("own", result=place if where == "flow" else None) as flow:
            doubled = double.map([1, 2])
        assert run(flow, context={"checkpointing": True}).result[doubled].result == [[1, 1], [2, 2]]
        assert (tmp_path / "double-0.txt").read_text() == "[1, 1]"

    @pytest.mark.parametrize("location", [None, "{task_name}-{x}"])
    @pytest.mark.parametrize("is_there", [False, True])
    def test_a_class_of_the_users_own_writes_values_with_context_and_inputs(self, run, is_there, location):
        from prefect import Flow, task
        from prefect.engine.result import Result

        class Rows(Result):
            """Has names of its own for what has none, and does not know what is there."""

            def write(self, value_, **fields):
                new = self.from_value(value_)
                new.location = f"{fields['flow_name']}-{fields['x']}-{value_}"
                return new

            def read(self, location):
                return self.from_value(f"read {location}")

            def exists(self, location, **kwargs):
                return is_there or location.startswith("double")

        with Flow("own", result=Rows(location=location)) as flow:
            doubled = task(lambda x: 2 * x, name="double")(x=4)
        result = run(flow, context={"checkpointing": True}).result[doubled]._result
        assert (result.location, result.value) == ("own-4-8" if location is None else "double-4", 8)

    def test_a_result_that_cannot_write_only_carries_the_value(self):
        from prefect import Flow, task
        from prefect.engine.result import Result

        with Flow("carries") as flow:
            one = task(lambda: 1, name="one", result=Result())()
        assert flow.run(history=False).result[one].result == 1


class TestSerializers:
    @pytest.mark.parametrize("value", ["a", [1, 2], {"a": {"b": None}}])
    def test_values_come_back(self, value):
        from prefect.engine import serializers

        for made in (
            serializers.PickleSerializer(),
            serializers.JSONSerializer(),
            *(
                serializers.CompressedSerializer(serializers.PickleSerializer(), f)
                for f in ("bz2", "gzip", "lzma", "zlib")
            ),
        ):
            assert made.deserialize(made.serialize(value)) == value

    def test_others(self):
        from prefect.engine import serializers

        now = datetime.now(UTC)
        dates = serializers.DateTimeSerializer()
        assert dates.deserialize(dates.serialize(now)) == now
        assert dates.deserialize(b"2022-01-01T00:00:00") == datetime(2022, 1, 1, tzinfo=UTC)
        assert serializers.PickleSerializer() == serializers.PickleSerializer() != serializers.JSONSerializer()
        with pytest.raises(ValueError, match="'nothing'"):
            serializers.CompressedSerializer(serializers.PickleSerializer(), "nothing")

    def test_tables(self):
        pandas = pytest.importorskip("pandas")
        from prefect.engine.serializers import PandasSerializer

        table = pandas.DataFrame({"a": [1, 2]})
        made = PandasSerializer("csv", serialize_kwargs={"index": False})
        assert made.deserialize(made.serialize(table)).equals(table)


class TestExecutors:
    @pytest.mark.parametrize("scheduler", ["threads", "sync", "single-threaded", "synchronous"])
    def test_submissions(self, scheduler):
        from prefect.executors import Executor, LocalDaskExecutor

        executor = LocalDaskExecutor(scheduler=scheduler)
        assert isinstance(executor, Executor)
        with pytest.raises(ValueError, match="started"):
            executor.submit(len, [])
        with executor.start():
            one = executor.submit(len, [1])
            two = executor.submit(lambda x, y: x + y, one, y=2)
            assert executor.wait({"a": [one, two]}) == {"a": [1, 3]}
            assert pickle.loads(pickle.dumps(executor)).scheduler == executor.scheduler

    def test_the_local_one_and_the_base(self):
        from prefect.executors import Executor, LocalExecutor

        with LocalExecutor().start() as executor:
            assert executor.wait([executor.submit(len, [1])]) == [1]
        with pytest.raises(NotImplementedError):
            Executor().submit(len)
        with pytest.raises(NotImplementedError):
            Executor().wait(1)

    def test_the_arguments_of_the_cluster(self):
        pytest.importorskip("distributed")
        from prefect.executors import DaskExecutor, Executor

        executor = DaskExecutor(local_processes=False, cluster_kwargs={"n_workers": 1}, debug=True)
        assert executor.cluster_kwargs == {"processes": False, "n_workers": 1}
        assert isinstance(executor, Executor)
        with pytest.raises(ValueError, match="Cannot specify"):
            DaskExecutor("tcp://host:8786", cluster_class="distributed.LocalCluster")

    def test_submissions_to_a_cluster(self, dask_client):
        from prefect.executors import DaskExecutor

        executor = DaskExecutor(local_processes=True)
        assert (executor.cluster_kwargs, executor.client) == ({"processes": True}, None)
        with DaskExecutor(client=dask_client).start() as executor:
            assert executor.wait([executor.submit(len, [1]), executor.submit(len, [1])]) == [1, 1]
            first = executor.submit(len, [1], extra_context={"task_full_name": "first", "task_tags": {"a"}})
            assert (first.key.partition("-")[0], executor.wait(executor.submit(sum, [first, first]))) == ("first", 2)
            assert pickle.loads(pickle.dumps(executor)).client is None
            with pytest.raises(ValueError, match="task first: tag 'dask-resource:GPU=x'"):
                executor.submit(len, extra_context={"task_full_name": "first", "task_tags": {"dask-resource:GPU=x"}})

    @pytest.mark.parametrize("kind", ["local", "threads", "cluster"])
    def test_signals_come_out_of_submissions(self, kind, request):
        from prefect.engine.signals import SUCCESS
        from prefect.executors import DaskExecutor, LocalDaskExecutor, LocalExecutor

        def signals():
            raise SUCCESS("enough")

        make = {"local": LocalExecutor, "threads": LocalDaskExecutor}.get(kind)
        with (make() if make else DaskExecutor(client=request.getfixturevalue("dask_client"))).start() as executor:
            with pytest.raises(SUCCESS, match="enough"):
                executor.wait(executor.submit(signals))
            with pytest.raises(SUCCESS, match="enough"):
                executor.wait(executor.submit(len, [executor.submit(signals)]))

    def test_an_executor_of_ones_own_submits_and_waits(self):
        from prefect import Flow, task
        from prefect.executors import Executor

        class Counts(Executor):
            submitted = 0

            def submit(self, fn, *args, extra_context=None, **kwargs):
                self.submitted += 1
                return fn, args, kwargs

            def wait(self, futures):
                fn, args, kwargs = futures
                return fn(*args, **kwargs)

        executor = Counts()
        with Flow("own") as flow:
            doubled = task(lambda x: 2 * x, name="double").map([1, 2])
        assert flow.run(executor=executor, history=False).result[doubled].result == [2, 4]
        assert executor.submitted == 2


class TestSchedules:
    def test_clocks(self):
        pytest.importorskip("cronsim")
        from prefect.schedules import clocks

        day = datetime(2022, 1, 1)
        for clock in (
            clocks.IntervalClock(timedelta(days=1), day, labels=["x"], parameter_defaults={"a": 1}),
            clocks.CronClock("0 0 * * *", day, labels=["x"], parameter_defaults={"a": 1}),
            clocks.DatesClock([day, datetime(2022, 1, 2)], labels=["x"], parameter_defaults={"a": 1}),
        ):
            event = next(clock.events(after=day))
            assert event == clocks.ClockEvent(datetime(2022, 1, 2), {"a": 1}, ["x"])
            assert (event.labels, clock.labels) == (["x"], ["x"])

    def test_days_of_month_and_week(self):
        pytest.importorskip("cronsim")
        from prefect.schedules.clocks import CronClock

        def days(day_or):
            events = CronClock("0 0 1,15 * 2", day_or=day_or).events(after=datetime(2022, 1, 1))
            return [next(events).start_time.strftime("%m-%d") for _ in range(3)]

        assert days(day_or=False) == ["02-01", "02-15", "03-01"]
        assert days(day_or=True) == ["01-04", "01-11", "01-15"]

    def test_rules(self):
        rrule = pytest.importorskip("dateutil.rrule")
        from prefect.schedules.clocks import RRuleClock

        daily = rrule.rrule(rrule.DAILY, dtstart=datetime(2022, 1, 1, 6))
        assert next(RRuleClock(daily).events(datetime(2022, 1, 2))).start_time == datetime(2022, 1, 2, 6, tzinfo=UTC)

    def test_labels_tell_events_apart(self):
        from prefect.schedules import Schedule
        from prefect.schedules.clocks import IntervalClock

        day, start = timedelta(days=1), datetime(2022, 1, 1)
        schedule = Schedule(clocks=[IntervalClock(day, start, labels=[name]) for name in ("a", "b", "a")])
        events = schedule.next(4, after=start, return_events=True)
        assert [event.labels for event in events] == [["a"], ["b"], ["a"], ["b"]]
        assert events[0] < events[2]
        assert events[2] > events[0]

    def test_filters_take_naive_datetimes(self):
        from prefect.schedules import filters

        at = datetime(2022, 1, 4, 3, tzinfo=UTC)
        assert filters.on_datetime(datetime(2022, 1, 4, 3))(at)
        assert filters.between_datetimes(datetime(2022, 1, 1), datetime(2022, 2, 1))(at)
        assert filters.between_times(time(22), time(4))(at)
        assert filters.is_day_of_week(1)(at)

    def test_the_arguments_of_an_interval_in_both_orders(self):
        from prefect.schedules import IntervalSchedule

        day, start = timedelta(days=1), datetime(2022, 1, 1)
        assert IntervalSchedule(day, start).next(1, start) == IntervalSchedule(start, day).next(1, start)


class TestSettings:
    def test_they_change_for_a_block(self):
        from prefect import config
        from prefect.utilities.configuration import set_temporary_config

        with set_temporary_config({"flows.run_on_schedule": False, "new": {"key": 1}}):
            assert (config.flows.run_on_schedule, config.new.key) == (False, 1)
        assert config.flows.run_on_schedule is True
        assert not hasattr(config, "new")

    def test_a_file_and_the_environment(self, tmp_path, monkeypatch):
        from prefect.configuration import load_configuration, to_environment_variables

        file, other = tmp_path / "config.toml", tmp_path / "other.toml"
        file.write_text('[a]\nx = 1\ny = "${a.x}"\nz = "${a.x} of them"\nhome = "$COMPAT_HOME"\n')
        other.write_text("[a]\nown = true\n")
        monkeypatch.setenv("COMPAT_HOME", "here")
        monkeypatch.setenv("COMPAT__A__X", "5")
        found = load_configuration(str(file), user_config_path=str(other), env_var_prefix="COMPAT")
        assert found.a.to_dict() == {"x": 5, "y": 5, "z": "5 of them", "home": "here", "own": True}
        assert (found.get_nested("a.x"), found.get_nested("a.b.c", 3)) == (5, 3)
        assert to_environment_variables(found, include=["a.x"]) == {"PREFECT__A__X": "5"}
        file.write_text("[a]\nkeys = 1\n")
        with pytest.raises(ValueError, match=r'Invalid .*key: "keys"'):
            load_configuration(str(file))


def test_dicts_with_attributes():
    from prefect.utilities import collections

    made = collections.DotDict({"a": 1}, b=2)
    made.c = 3
    assert (made.a, made["b"], {**made}, len(made)) == (1, 2, {"a": 1, "b": 2, "c": 3}, 3)
    with pytest.raises(AttributeError):
        made.nothing  # noqa: B018
    with pytest.raises(ValueError, match="update"):
        made.update = 1
    nested = {"a": {"b": [{"c": 1}]}}
    assert collections.as_nested_dict(nested).a.b[0].c == 1
    flat = collections.dict_to_flatdict({"a": {"b": 1}, "c": 2})
    assert flat == {("a", "b"): 1, ("c",): 2}
    assert collections.flatdict_to_dict(flat) == {"a": {"b": 1}, "c": 2}
    assert collections.merge_dicts({"a": {"x": 1}}, {"a": {"y": 2}}) == {"a": {"x": 1, "y": 2}}


def test_secrets_and_filters():
    from prefect import context
    from prefect.tasks.control_flow import FilterTask
    from prefect.tasks.secrets import EnvVarSecret, PrefectSecret

    with context(secrets={"X": "[1]"}):
        assert PrefectSecret("X").run() == [1] == PrefectSecret().run("X")
    with pytest.raises(ValueError, match="name must be provided"):
        PrefectSecret().run()
    assert EnvVarSecret("COMPAT_NOTHING", name="other").name == "other"
    dropped = []
    assert FilterTask(lambda x: x > 1, log_func=lambda x: dropped.append(x) or "").run([1, 2]) == [2]
    assert dropped == [1]


def test_a_resource_has_its_tasks():
    from prefect import Flow, resource_manager

    @resource_manager(name="disk")
    class Disk:
        def __init__(self, size):
            self.size = size

        def setup(self):
            return self.size

        def cleanup(self, size):
            return None

    with pytest.raises(ValueError, match="no active Flow"):
        Disk(1)
    with Flow("disk") as flow:
        block = Disk(3)
        assert block.init_task in flow.tasks
        with block as size:
            more = size + 1
    assert {block.setup_task, block.cleanup_task} <= flow.tasks
    assert flow.run(history=False).result[more].result == 4


def test_handlers_of_prefect_get_what_is_logged(request):
    import logging

    from prefect import Flow, context, task

    seen = []

    class Keep(logging.Handler):
        def emit(self, record):
            seen.append((record.name, record.getMessage()))

    keep = Keep()
    logging.getLogger("prefect").addHandler(keep)
    request.addfinalizer(lambda: logging.getLogger("prefect").removeHandler(keep))
    with Flow("logs") as flow:
        task(lambda: context.logger.warning("careful"), name="warn")()
    flow.run(history=False)
    assert seen == [("prefect.warn", "careful")]


def test_secrets_among_the_settings():
    from prefect import context
    from prefect.tasks.secrets import PrefectSecret
    from prefect.utilities.configuration import set_temporary_config

    with set_temporary_config({"context.secrets.COMPAT_SETTING": "[1]"}):
        assert PrefectSecret("COMPAT_SETTING").run() == [1]
        with context(secrets={"COMPAT_SETTING": "2"}):
            assert PrefectSecret("COMPAT_SETTING").run() == 2


def test_settings_of_the_user_and_the_environment(tmp_path):
    (tmp_path / "config.toml").write_text(
        '[tasks.defaults]\nmax_retries = 2\nretry_delay = 5\n[context.secrets]\nA = "b"\n'
    )
    code = (
        "import prefectish.compat; prefectish.compat.install(); import prefect; "
        "print(prefect.Task().retry_delay, prefect.config.context.secrets.to_dict(), prefect.config.debug)"
    )
    own = {"PREFECT__USER_CONFIG_PATH": str(tmp_path / "config.toml"), "PREFECT__CONTEXT__SECRETS__KEY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **own}
    )
    assert done.stdout == "0:00:05 {'A': 'b', 'KEY': 1} False\n", done.stderr


def test_notifiers_take_their_old_arguments():
    from prefect.engine.state import Failed, Pending, Success
    from prefect.utilities.notifications import callback_factory, gmail_notifier, slack_notifier

    handler = slack_notifier(only_states=[Failed], webhook_secret="COMPAT_HOOK", backend_info=False)
    state = Success("fine")
    assert handler(None, Pending(), state) is state
    assert callable(gmail_notifier(ignore_states=[Success]))
    seen = []
    callback_factory(lambda obj, new: seen.append(new), check=lambda new: new.is_failed())(None, Pending(), Failed("x"))
    assert [new.message for new in seen] == ["x"]


def test_states_go_through_json():
    import json

    from prefect.engine.state import Cached, Retrying, State

    due = datetime(2020, 1, 1, tzinfo=UTC)
    for state in (Retrying("again", start_time=due, run_count=2), Cached("kept", cached_result_expiration=due)):
        blob = json.loads(json.dumps(state.serialize()))
        assert blob["type"] == type(state).__name__
        assert State.deserialize(blob) == state


def test_templates_take_the_context():
    import prefect
    from prefect.tasks.templates import JinjaTemplate, StringFormatter

    with prefect.Flow("texts") as flow:
        text = StringFormatter(template="{name} of {flow_name}")(name="rows")
        other = JinjaTemplate(name="jinja")(template="{% for row in rows %}{{ row }};{% endfor %}", rows=[1, 2])
    state = flow.run()
    assert (state.result[text].result, state.result[other].result) == ("rows of texts", "1;2;")


def test_what_can_be_sent():
    import threading

    from prefect.engine import get_default_executor_class
    from prefect.executors import LocalExecutor
    from prefect.utilities.debug import is_serializable
    from prefect.utilities.logging import prefect_logger

    assert is_serializable([1])
    assert not is_serializable(threading.Lock())
    with pytest.raises(TypeError):
        is_serializable(threading.Lock(), raise_on_error=True)
    assert get_default_executor_class() is LocalExecutor
    assert prefect_logger.name == "prefect"
