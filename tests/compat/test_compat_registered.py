"""Storage, run configs and registration of Prefect 1, on the database of the history instead of a server."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from real import until

from prefectish import config, deployments
from prefectish.compat import environments
from prefectish.compat.names import MODULES
from prefectish.environments import LocalEnvironment
from prefectish.history import registry_tables
from prefectish.history.store import open_store
from prefectish.registry import attach
from prefectish.registry.agent import Agent

pytestmark = pytest.mark.time_limit(240)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    assert config.home() == str(tmp_path / "home")
    environments._said.clear()


def test_a_flow_with_storage_and_run_config_runs_here_and_says_so_once(caplog, executor):
    from prefect import Flow, task
    from prefect.run_configs import KubernetesRun
    from prefect.storage import S3

    @task
    def one():
        return 1

    with Flow("cloudy", storage=S3(bucket="flows"), run_config=KubernetesRun(labels=["dev"])) as flow:
        found = one()
    for _ in range(2):
        assert flow.run(executor=executor).result[found].result == 1
    said = [record.getMessage() for record in caplog.records if "is ignored" in record.getMessage()]
    assert said == [
        "storage=S3(...) of flow 'cloudy' is ignored: code is not stored here: the flow runs from its file",
        "run_config=KubernetesRun(...) of flow 'cloudy' is ignored: the flow runs on this machine, or, deployed, where "
        "its agent is",
    ]


def test_what_holds_here_anyway_is_not_mentioned(caplog):
    from prefect import Flow, Task
    from prefect.run_configs import LocalRun, UniversalRun
    from prefect.storage import Local

    for run_config in (UniversalRun(labels=["a"]), LocalRun(working_dir="/"), None):
        Flow("plain", storage=Local(), run_config=run_config, tasks=[Task()]).run()
    flow = Flow("later", tasks=[Task()])
    flow.storage = Local(stored_as_script=True)
    flow.run()
    assert [record for record in caplog.records if "is ignored" in record.getMessage()] == []


SCRIPT = """
import prefect
from prefect import Flow, Parameter, task, unmapped
from prefect.engine.results import LocalResult
from prefect.run_configs import UniversalRun
from prefect.storage import Local

@task
def add(x, y):
    prefect.context.get("logger").info("adding to %s", x)
    return x + y

with Flow("sums", storage=Local(), run_config=UniversalRun(labels=["small"], env={"STAGE": "test"}),
          result=LocalResult("RESULTS")) as flow:
    total = add.map([1, 2, 3], unmapped(Parameter("y", default=10)))

flow.register("sales", labels=["eu"], idempotency_key=flow.serialized_hash())
"""


@pytest.fixture
def sums(tmp_path):
    script = tmp_path / "sums.py"
    script.write_text(SCRIPT.replace("RESULTS", str(tmp_path / "results")))
    done = subprocess.run(
        [sys.executable, "-m", "prefectish.compat", str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (made,) = deployments()
    return made


@pytest.fixture
def agent(sums):
    agent = Agent(labels=["eu", "small"])
    thread = threading.Thread(target=agent.start)
    thread.start()
    yield agent
    until(lambda: not agent._drivers)  # else a process that goes on outlives its handle
    agent.stop()
    thread.join()


def test_a_script_that_registers_its_flow_is_deployed_and_run_by_an_agent(sums):
    assert (sums.path, sums.labels, sums.version) == ("sales/sums", ("eu", "small"), 1)
    assert sums.source["prepare"] == ["prefectish.compat:install"]
    assert isinstance(sums.environment, LocalEnvironment)
    assert sums.environment.env_vars == {"STAGE": "test"}
    run_id = sums.run({"y": 20})
    Agent(labels=["eu", "small"]).start(once=True)
    state = attach(run_id).wait(60)
    assert state.is_successful(), state
    assert attach(run_id).results("add") == {0: 21, 1: 22, 2: 23}

    from prefect.backend import FlowRunView, FlowView, TaskRunView
    from prefect.backend.flow_run import watch_flow_run

    view = FlowRunView.from_flow_run_id(run_id)
    assert (view.state.is_successful(), view.get_flow_metadata().name) == (True, "sums")
    assert view.get_task_run(task_slug="add-1").get_result() == [21, 22, 23]
    children = [child.get_result() for child in view.get_task_run("add-1").iter_mapped()]
    assert children == [21, 22, 23]
    again = TaskRunView.from_task_run_id(TaskRunView.from_task_slug("add-1", run_id, 1).task_run_id)
    assert (again.name, again.get_result()) == ("add-1[1]", 22)
    assert [each.task_slug for each in view.get_all_task_runs()] == ["add-1"]
    assert {(line.level, line.message) for line in view.get_logs()} == {(20, f"adding to {x}") for x in (1, 2, 3)}
    watched = [line.message for line in watch_flow_run(run_id)]
    assert watched[0].startswith("Entered state <Success>")
    assert len(watched) == 4
    assert FlowView.from_flow_name("sums", "sales").flow_id == FlowView.from_flow_id(str(sums.id)).flow_id
    with pytest.raises(ValueError, match="Flow '\\*/nothing' not found; registered are: sales/sums"):
        FlowView.from_flow_name("nothing")
    with pytest.raises(ValueError, match="no run 'nothing'"):
        FlowRunView.from_flow_run_id("nothing")


def test_flows_start_registered_flows_and_wait_for_them(agent):
    import prefect
    from prefect import Flow
    from prefect.tasks.prefect import StartFlowRun, create_flow_run, get_task_run_result, wait_for_flow_run

    with Flow("parent") as flow:
        run_id = create_flow_run(flow_name="sums", project_name="sales", parameters={"y": 100})
        waited = wait_for_flow_run(run_id, raise_final_state=True)
        result = get_task_run_result(run_id, "add-1", map_index=2, upstream_tasks=[waited])
        started = StartFlowRun(flow_name="sums", project_name="sales", wait=True)()
    state = flow.run()
    assert state.is_successful(), state.result
    assert state.result[result].result == 103
    assert state.result[started].result in [each.id for each in prefectish_runs()]
    keyed = {prefect.Client().create_flow_run(flow_id=sums_id(), idempotency_key="today") for _ in range(2)}
    assert len(keyed) == 1
    info = prefect.Client().get_flow_run_info(state.result[run_id].result)
    assert (info.state.is_successful(), info.name) == (True, state.result[run_id].result)


def sums_id():
    return str(deployments()[0].id)


def prefectish_runs():
    from prefectish import history

    return history.runs(None)


def test_a_run_that_fails_fails_the_task_that_waits_for_it(agent):
    from prefect import Flow
    from prefect.tasks.prefect import StartFlowRun, create_flow_run, wait_for_flow_run

    with Flow("parent") as flow:
        run_id = create_flow_run(flow_name="sums", parameters={"y": "text"})
        quiet = wait_for_flow_run(run_id)
        loud = wait_for_flow_run(run_id, raise_final_state=True)
        started = StartFlowRun("sums", "sales", {"y": "text"}, wait=True)()
        unknown = create_flow_run(flow_name="nothing")
    states = flow.run().result
    assert states[quiet].is_successful()
    assert states[quiet].result.state.is_failed()
    assert states[loud].is_failed()
    assert "finished in state" in states[started].message
    assert "not found; registered are: sales/sums" in str(states[unknown].result)


@pytest.mark.parametrize("waits", [True, False])
def test_a_run_that_a_task_waits_for_is_cancelled_with_it(sums, waits):
    from prefect import Flow, task
    from prefect.executors import LocalDaskExecutor
    from prefect.tasks.prefect import StartFlowRun

    def asked():
        with open_store(None).reading() as connection:
            return [row.run for row in connection.execute(registry_tables.requested.select())]

    go_on = threading.Event()
    with Flow("parent") as flow:
        StartFlowRun("sums", "sales", wait=waits)()
        task(go_on.wait, name="holds")()
    parent = flow.start(executor=LocalDaskExecutor(num_workers=2))
    until(asked)
    parent.cancel()
    go_on.set()
    parent.wait(60)
    (run,) = asked()
    if waits:
        until(lambda: attach(run).has_ended())
        assert type(attach(run).state).__name__ == "Cancelled"
    else:
        assert attach(run).state.is_scheduled()


def test_old_arguments_of_tasks_that_start_runs():
    from datetime import timedelta

    from prefect.run_configs import UniversalRun
    from prefect.tasks.prefect import CancelFlowRun, RenameFlowRun, StartFlowRun

    config = UniversalRun()
    made = StartFlowRun("f", "p", {"x": 1}, config, True, {"y": 2}, "name")
    assert (made.run_config, made.wait, made.new_flow_context, made.run_name) == (config, True, {"y": 2}, "name")
    assert (made.poll_interval, made.name) == (timedelta(seconds=10), "Flow f")
    with pytest.raises(ValueError, match="at least 3 seconds"):
        StartFlowRun(poll_interval=timedelta(seconds=2))
    with pytest.raises(ValueError, match="Must provide a flow name"):
        StartFlowRun().run()
    for task in (CancelFlowRun(), RenameFlowRun(flow_run_name="x")):
        with pytest.raises(ValueError, match="`flow_run_id` must be explicitly provided"):
            task.run()
    with pytest.raises(ValueError, match="Must provide a flow run name"):
        RenameFlowRun(flow_run_id="x").run()


def test_values_are_kept_by_key():
    from prefect.backend import delete_key, get_key_value, list_keys, set_key_value

    assert list_keys() == []
    set_key_value("day", {"last": "2030-01-01"})
    set_key_value("count", 1)
    set_key_value("count", 2)
    assert (get_key_value("day"), get_key_value("count"), list_keys()) == ({"last": "2030-01-01"}, 2, ["count", "day"])
    assert delete_key("day") is True
    for call in (get_key_value, delete_key):
        with pytest.raises(ValueError, match="'day'"):
            call("day")
    with pytest.raises(ValueError, match="Value payload exceeds 1 MB"):
        set_key_value("long", "x" * 1_000_001)
    with pytest.raises(ValueError, match="value must be JSON"):
        set_key_value("set", {1})
    assert open_store(None).address  # the history is as readable as before


def test_tasks_keep_values_and_artifacts_in_the_history_of_their_run(executor):
    from prefect import Flow, task
    from prefect.backend import get_key_value, set_key_value
    from prefect.backend.artifacts import create_markdown_artifact, delete_artifact, update_markdown_artifact

    from prefectish.compat.kv_store import read_artifact

    @task
    def writes():
        set_key_value("written", "by a task")
        return create_markdown_artifact("# done")

    with Flow("keeps") as flow:
        found = writes()
    artifact = flow.run(executor=executor).result[found].result
    assert get_key_value("written") == "by a task"
    assert read_artifact(artifact) == {"kind": "markdown", "markdown": "# done"}
    update_markdown_artifact(artifact, "# all done")
    assert read_artifact(artifact)["markdown"] == "# all done"
    delete_artifact(artifact)
    with pytest.raises(ValueError, match="No artifact"):
        delete_artifact(artifact)


def test_values_are_the_same_before_a_run_with_a_history_of_its_own_in_it_and_after_it(executor, tmp_path):
    from prefect import Flow, task
    from prefect.backend import delete_key, get_key_value, list_keys, set_key_value

    @task
    def changes():
        last = get_key_value("last")
        set_key_value("last", last + 1)
        set_key_value("new", get_key_value("last"))
        delete_key("old")
        return list_keys()

    with Flow("counts") as flow:
        keys = changes()
    for last in (5, 50):
        set_key_value("last", last)
        set_key_value("old", 0)
        state = flow.run(history=str(tmp_path / "other.db"), executor=executor)
        assert state.result[keys].result == ["last", "new"], state.result[keys].result
        assert (get_key_value("last"), get_key_value("new"), list_keys()) == (last + 1, last + 1, ["last", "new"])
    delete_key("last")
    state = flow.run(history=str(tmp_path / "other.db"), executor=executor)
    assert "No value found for key: 'last'" in str(state.result[keys].result)


def test_values_of_a_run_need_no_home_folder(tmp_path, monkeypatch, caplog):
    from prefect import Flow, task
    from prefect.backend import get_key_value, set_key_value

    @task
    def keeps():
        set_key_value("x", 1)
        return get_key_value("x")

    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "file"))
    with Flow("keeps") as flow:
        found = keeps()
    assert flow.run(history=str(tmp_path / "other.db")).result[found].result == 1
    assert "values are kept in the history of the run only" in caplog.text


@pytest.mark.parametrize("kind", ["link", "markdown"])
def test_an_artifact_that_is_not_there_is_not_changed(kind):
    from prefect.backend import artifacts

    with pytest.raises(ValueError, match="No artifact 'nowhere' found"):
        getattr(artifacts, f"update_{kind}_artifact")("nowhere", "text")
    with pytest.raises(ValueError, match="No artifact 'nowhere' found"):
        artifacts.delete_artifact("nowhere")


def test_no_password_of_a_history_is_in_the_context_as_json(monkeypatch):
    import json
    import pickle

    from prefectish.compat.run_history import history_in_context

    context = pickle.loads(pickle.dumps(history_in_context("postgresql://me:sesame@db/runs")))
    assert [found.address for found in context.values()] == ["postgresql://me:sesame@db/runs"]
    assert "sesame" not in json.dumps(context, default=str) + str(context)


def test_runs_get_other_names():
    import prefect
    from prefect import Flow
    from prefect.backend import FlowRunView
    from prefect.tasks.prefect import RenameFlowRun

    with Flow("renamed") as flow:
        RenameFlowRun(flow_run_name="by a task")()
    run_id = flow.run().context["flow_run_id"]
    assert FlowRunView.from_flow_run_id(run_id).name == "by a task"
    assert prefect.Client().set_flow_run_name(run_id, "by a client") is True
    assert FlowRunView.from_flow_run_id(run_id).name == "by a client"


def test_runs_are_cancelled_before_they_begin(sums):
    import prefect
    from prefect import Flow
    from prefect.tasks.prefect import CancelFlowRun

    run_id = prefect.Client().create_flow_run(flow_id=str(sums.id), parameters={"y": 1})
    assert prefect.Client().get_flow_run_state(run_id).is_scheduled()
    with Flow("cancels") as flow:
        CancelFlowRun(flow_run_id=run_id)()
    assert flow.run().is_successful()
    assert type(prefect.Client().get_flow_run_state(run_id)).__name__ == "Cancelled"


def test_agent_of_a_flow_has_its_labels(monkeypatch):
    from prefect import Flow, Task
    from prefect.run_configs import UniversalRun

    started = []
    monkeypatch.setattr(Agent, "start", lambda agent: started.append(agent.labels))
    Flow("labelled", tasks=[Task()], run_config=UniversalRun(labels=["a", "b"])).run_agent()
    assert started == [["a", "b"]]


def test_client_says_that_there_is_no_server():
    import prefect
    from prefect.exceptions import ClientError

    assert prefect.Client(api_key="secret").create_project("sales") == "sales"
    with pytest.raises(ClientError, match="there is no server to ask"):
        prefect.Client().graphql("query { flow { id } }")
    with pytest.raises(AttributeError, match=r"Client has no 'get_moon' here, .*attach\(run_id\)"):
        prefect.Client().get_moon()


@pytest.mark.parametrize(
    ("method", "instead"),
    [
        ("set_secret", "secrets.toml"),
        ("set_task_run_name", "task_run_name"),
        ("get_cloud_url", "prefectish ui"),
        ("register_agent", "registers itself"),
        ("update_agent_config", "tell of agents"),
        ("post", "prefectish.deployments"),
        ("get_latest_cached_states", "cache_for"),
        ("get_tenant", "one tenant"),
    ],
)
def test_client_says_what_to_do_instead(method, instead):
    import prefect
    from prefect.exceptions import ClientError

    with pytest.raises(ClientError, match=f"there is no server to ask; .*{instead}"):
        getattr(prefect.Client(), method)("a", "b")


def test_client_has_one_tenant():
    import prefect

    client = prefect.Client(api_key="k", tenant_id="t")
    assert (client.api_key, client.tenant_id, client.active_tenant_id) == ("k", "t", "t")
    client = prefect.Client()
    assert client.active_tenant_id == client.get_default_tenant_slug() == client.get_auth_tenant() == "default"
    assert client.get_available_tenants() == [{"id": "default", "slug": "default", "name": "default"}]
    assert client.login_to_tenant("default")
    assert not client.switch_tenant("other")
    with pytest.raises(ValueError, match="At least one of"):
        client.login_to_tenant()
    client.attach_headers({"a": "b"})
    assert client.headers == {"a": "b"}
    assert client.load_auth_from_disk() == {}


def test_client_tells_of_tasks():
    import prefect
    from prefect import Flow, task
    from prefect.engine.state import Success
    from prefect.exceptions import ClientError

    double = task(lambda x: 2 * x, name="double", result=None)
    with Flow("told") as flow:
        double.map([1, 2])
    run_id = flow.run().context["flow_run_id"]
    client = prefect.Client()
    info = client.get_task_run_info(run_id, "double-1", map_index=1)
    assert (info.task_slug, info.task_id, type(info.state)) == ("double-1", "double-1", Success)
    assert type(client.get_task_run_state(info.id)) is Success
    with pytest.raises(ClientError, match="Success arises in the run itself"):
        client.set_task_run_state(info.id, Success())
    with pytest.raises(ClientError, match="Success arises in the run itself"):
        client.set_flow_run_state(run_id, Success())
    assert client.update_flow_run_heartbeat(run_id) is None
    assert client.write_run_logs([{"level": "INFO", "message": "said"}]) is True


def test_client_keeps_artifacts():
    import prefect

    from prefectish.compat.kv_store import read_artifact

    client = prefect.Client()
    made = client.create_task_run_artifact("run", "markdown", {"markdown": "# a"})
    client.update_task_run_artifact(made, {"markdown": "# b"})
    assert read_artifact(made) == {"kind": "markdown", "markdown": "# b"}
    client.delete_task_run_artifact(made)
    with pytest.raises(ValueError, match="No artifact"):
        read_artifact(made)


def test_client_deletes_projects(sums):
    import prefect

    client = prefect.Client()
    run_id = client.create_flow_run(flow_id=str(sums.id), parameters={"y": 1})
    from prefect.engine.state import Cancelled

    client.set_flow_run_state(run_id, Cancelled())
    assert type(client.get_flow_run_state(run_id)).__name__ == "Cancelled"
    assert client.delete_project(sums.project) is True
    with pytest.raises(ValueError, match=f"Project {sums.project} not found"):
        client.delete_project(sums.project)


def test_every_name_of_the_table_leads_out_of_prefectish():
    """What runs under `compat` has a place in prefectish itself, or the move says what to do about it."""
    from prefectish.prefect_names import places, way_out

    unanswered = [
        f"{module}.{name}"
        for module, names in MODULES.items()
        for name in names
        if name not in places().get(module, {})
        and way_out(f"{module}.{name}") is None
        and f"{module}.{name}" not in MODULES
        and not name.startswith("_")
    ]
    assert unanswered == []


@pytest.mark.parametrize(
    ("statement", "way"),
    [
        ("from prefect.tasks import snowflake", "write a task that calls the service's own client"),
        ("from prefect.tasks.docker import PullImage", "write a task that calls the service's own client"),
        ("import prefect.agent.local", "write `prefectish agent start`"),
    ],
)
def test_what_is_not_here_either_says_what_to_write(statement, way):
    with pytest.raises(ImportError, match=f"under prefectish.compat: {way}"):
        exec(statement, {})


def test_commands_take_files_of_prefect_1(tmp_path, monkeypatch):
    script = tmp_path / "sums.py"
    script.write_text(SCRIPT.replace("RESULTS", str(tmp_path / "results")).partition("flow.register")[0])
    command = [sys.executable, "-m", "prefectish.cli", "deploy", str(script), "--project", "sales"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "imports prefect, which is not installed here: --prefect1 runs a file of Prefect 1 as it is, and " in (
        refused.stderr
    )
    done = subprocess.run([*command, "--prefect1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert deployments()[0].source["prepare"] == ["prefectish.compat:install"]
