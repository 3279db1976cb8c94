"""`prefect.utilities`, `prefect.configuration` and executors: what programs use around their flows."""

from __future__ import annotations

import logging
import os
import pickle
import time

import pytest

from prefectish import history
from prefectish.compat.configuration import Config


def test_settings_of_the_environment_are_literals(tmp_path, monkeypatch):
    from prefect.configuration import load_configuration, string_to_type

    file = tmp_path / "config.toml"
    file.write_text("[cloud.agent]\nlabels = []\n")
    monkeypatch.setenv("COMPAT__CLOUD__AGENT__LABELS", "['a', 'b']")
    monkeypatch.setenv("COMPAT__CONTEXT__SECRETS__KEY", r"line 1\nline 2")
    found = load_configuration(str(file), env_var_prefix="COMPAT")
    assert found.cloud.agent.labels == ["a", "b"]
    assert found.context.secrets.KEY == "line 1\nline 2"
    assert [string_to_type(text) for text in ("None", "{'a': 1}", "[1", "a b")] == [None, {"a": 1}, "[1", "a b"]


def test_settings_that_have_a_default():
    from prefect import config
    from prefect.configuration import load_default_config

    assert config.logging.format == "[%(asctime)s] %(levelname)s - %(name)s | %(message)s"
    assert config.flows.defaults.storage.default_class == "prefect.storage.Local"
    assert (config.cloud.agent.labels, config.server.ui.port) == ([], 8080)
    assert load_default_config().flows == config.flows
    assert repr(Config(b=1, a=2)) == "<Config: 'a', 'b'>"


@pytest.fixture
def settings():
    from prefect.utilities.configuration import set_temporary_config

    with set_temporary_config({"context.secrets.COMPAT_KEY": "[1]", "context.region": "eu"}):
        yield


@pytest.mark.usefixtures("settings")
def test_values_of_the_settings_are_in_every_context():
    import prefect
    from prefect import Flow, context, task

    assert (context.region, context["region"], context.get("region"), "region" in context) == ("eu", "eu", "eu", True)
    with context(region="us"):
        assert (context.region, context.get("nothing", 3)) == ("us", 3)
    with pytest.raises(KeyError):
        context["nothing"]
    with Flow("regions") as flow:
        region = task(lambda: prefect.context.region, name="region")()
    assert flow.run(history=False).result[region].result == "eu"


@pytest.mark.usefixtures("settings")
def test_secrets_of_the_settings_are_known_to_all_that_read_them():
    from prefect import Flow, context
    from prefect.client import Secret
    from prefect.tasks.secrets import PrefectSecret

    from prefectish.secrets.store import find

    assert Secret("COMPAT_KEY").get() == PrefectSecret("COMPAT_KEY").run() == find("COMPAT_KEY") == [1]
    assert (Secret("COMPAT_KEY").exists(), Secret("COMPAT_NO").exists()) == (True, False)
    with context():
        context.setdefault("secrets", {})
        context.secrets["COMPAT_OTHER"] = "x"
        assert Secret("COMPAT_OTHER").get() == "x"
    with Flow("building"), pytest.raises(ValueError, match="while building a Flow"):
        Secret("COMPAT_KEY").get()


def test_a_copy_of_the_context_stands_alone():
    from prefect import context
    from prefect.utilities.context import Context

    with context(a=1):
        copied = context.copy()
        copied.a = 2
        assert (context.a, copied["a"], isinstance(copied, Context)) == (1, 2, True)
    with pytest.raises(TypeError, match="Pickling context objects is explicitly not supported"):
        pickle.dumps(context)


@pytest.mark.parametrize("name", ["run_with_thread_timeout", "run_with_multiprocess_timeout"])
def test_functions_under_a_time_limit(name):
    import prefect
    from prefect.engine import signals
    from prefect.exceptions import TaskTimeoutSignal
    from prefect.utilities import executors

    def endless():
        while True:
            time.monotonic()

    def succeed():
        raise signals.SUCCESS("enough")

    call = getattr(executors, name)
    assert call(lambda x, y: x + y, args=[1], kwargs={"y": 2}, timeout=60) == 3
    with prefect.context(compat=5):
        assert call(lambda: prefect.context.compat) == 5
    own = call(os.getpid) == os.getpid()
    assert own is (name == "run_with_thread_timeout")
    for body, error in ((endless, TaskTimeoutSignal), (succeed, signals.SUCCESS), (lambda: 1 / 0, ZeroDivisionError)):
        with pytest.raises(error):
            call(body, timeout=1 if body is endless else 60)


def test_logs(caplog, capsys):
    from prefect.utilities.logging import RedirectToLog, create_diagnostic_logger, get_logger, temporary_logger_config

    assert get_logger().level == logging.INFO
    stream = RedirectToLog(get_logger("printed"))
    for text in ("one", "\n", "  "):
        stream.write(text)
    stream.flush()
    assert [record.getMessage() for record in caplog.records] == ["one"]
    with pytest.raises(TypeError, match="string argument expected, got int"):
        stream.write(1)
    handler = logging.NullHandler()
    get_logger().addHandler(handler)
    with temporary_logger_config(stream_fmt="%(message)s!"):
        assert handler.format(logging.makeLogRecord({"msg": "hey"})) == "hey!"
    get_logger().removeHandler(handler)
    assert handler.formatter is None
    assert create_diagnostic_logger("compat-agent") is create_diagnostic_logger("compat-agent")
    create_diagnostic_logger("compat-agent").info("polls")
    assert "INFO - compat-agent | polls" in capsys.readouterr().err


def test_loggers_that_the_settings_name_are_captured(executor):
    from prefect import Flow, task
    from prefect.utilities.configuration import set_temporary_config

    @task
    def connects():
        logging.getLogger("compat_library").warning("connected")

    with Flow("captures") as flow:
        connects()
    with set_temporary_config({"logging.extra_loggers": ["compat_library"]}):
        run = flow.run(executor=executor)
    lines = history.run(run.context["flow_run_id"]).logs()
    assert [(line.text, line.level) for line in lines] == [("connected", "WARNING")]


def test_executors_are_called_what_they_are_and_read_the_settings():
    pytest.importorskip("distributed")
    from prefect.executors import DaskExecutor, LocalDaskExecutor, LocalExecutor
    from prefect.utilities.configuration import set_temporary_config

    for kind in (LocalExecutor, LocalDaskExecutor, DaskExecutor):
        assert repr(kind()) == f"<Executor: {kind.__name__}>"
    key = "engine.executor.dask"
    with set_temporary_config({f"{key}.address": "tcp://here:1", f"{key}.cluster_class": "x.Y", "debug": True}):
        assert (DaskExecutor().address, DaskExecutor().cluster_class, DaskExecutor().debug) == (
            "tcp://here:1",
            None,
            True,
        )
        assert DaskExecutor("tcp://there:1", debug=False).address == "tcp://there:1"
    with set_temporary_config({f"{key}.cluster_class": "distributed.LocalCluster"}):
        assert "LocalCluster" in str(DaskExecutor().cluster_class)


def test_objects_by_name_and_exceptions():
    from prefect.exceptions import VersionLockMismatchSignal
    from prefect.utilities.importtools import import_object

    assert import_object("os:path.join") is import_object("os.path.join") is os.path.join
    assert str(VersionLockMismatchSignal("changed")) == "changed"


def test_mail_is_not_asked_for_its_login_where_there_is_nothing_to_send():
    from prefect.engine.state import Failed, Pending, Success
    from prefect.utilities.notifications import gmail_notifier

    state = Success()
    assert gmail_notifier(None, Pending(), state, only_states=[Failed]) is state
    assert gmail_notifier(None, Pending(), state, ignore_states=[Success]) is state
