"""Storage and run configs as Prefect 1 documents them: what they take, keep and refuse."""

from __future__ import annotations

import json
import os
import socket
from importlib import import_module
from typing import Any

import cloudpickle
import pytest

from prefectish.compat import environments, run_configs, storage

#: What each kind has to be given.
STORAGES: dict[str, dict[str, Any]] = {
    "Local": {},
    "Module": {"module": "m"},
    "Docker": {},
    "S3": {"bucket": "b"},
    "GCS": {"bucket": "b"},
    "Azure": {"container": "c"},
    "GitHub": {"repo": "r", "path": "f.py"},
    "GitLab": {"repo": "r", "path": "f.py"},
    "Bitbucket": {"project": "p", "repo": "r", "path": "f.py"},
    "CodeCommit": {"repo": "r", "path": "f.py"},
    "Git": {"flow_path": "f.py", "repo": "r"},
    "Webhook": {
        "build_request_kwargs": {}, "build_request_http_method": "POST",
        "get_flow_request_kwargs": {}, "get_flow_request_http_method": "GET",
    },
}  # fmt: skip
RUN_CONFIGS = ["UniversalRun", "LocalRun", "DockerRun", "KubernetesRun", "ECSRun", "VertexRun"]
NOT_HERE = ["Docker", "S3", "GCS", "Azure", "GitHub", "GitLab", "Bitbucket", "CodeCommit", "Git", "Webhook"]


@pytest.fixture(autouse=True)
def own_home(tmp_path):
    from prefect.utilities.configuration import set_temporary_config

    with set_temporary_config({"home_dir": str(tmp_path / "home")}):
        yield


def made(kind: str, **options: Any) -> Any:
    return getattr(storage, kind)(**STORAGES[kind], **options)


@pytest.mark.parametrize("kind", STORAGES)
def test_every_storage_keeps_what_it_is_told(kind):
    from prefect import Flow

    place = made(kind, labels=["gpu"], secrets=["KEY"], add_default_labels=False)
    assert (place.labels, place.secrets, place.flows, repr(place)) == ({"gpu"}, ["KEY"], {}, f"<Storage: {kind}>")
    if kind != "Docker":  # which has that of its image
        assert place.name == kind
    flow = Flow("the flow")
    where = place.add_flow(flow)
    assert (place.flows, flow in place, "the flow" in place, "other" in place) == (
        {"the flow": where},
        True,
        True,
        False,
    )
    with pytest.raises(ValueError, match='Flow with the name "the flow" is already present'):
        place.add_flow(flow)
    with pytest.raises(ValueError, match="'other' is not contained in this Storage"):
        place.get_flow("other")
    told = json.loads(json.dumps(place.build().serialize()))
    assert told.items() >= {"type": kind, "flows": place.flows, "secrets": ["KEY"], "labels": ["gpu"]}.items()
    assert cloudpickle.loads(cloudpickle.dumps(place)).flows == place.flows
    assert import_module(f"prefect.storage.{kind.lower()}").__dict__[kind] is getattr(storage, kind)
    with pytest.raises(TypeError, match="nothing"):
        made(kind, nothing=1)


@pytest.mark.parametrize("kind", NOT_HERE)
def test_code_of_a_service_is_not_fetched(kind):
    from prefect import Flow
    from prefect.exceptions import FlowStorageError

    place = made(kind)
    place.add_flow(Flow("away"))
    with pytest.raises(FlowStorageError, match="code is not stored here"):
        place.get_flow("away")


def test_a_folder_gives_a_flow_back(tmp_path):
    from prefect import Flow
    from prefect.storage import Local

    place = Local(str(tmp_path / "flows"))
    assert place.add_flow(Flow("My flow")) == str(tmp_path / "flows" / "my-flow.prefect")
    assert place.get_flow("My flow").name == "My flow"
    assert (Local().directory, Local().labels) == (str(tmp_path / "home" / "flows"), {socket.gethostname()})
    assert Local().result.dir == str(tmp_path / "home" / "results")
    assert Local("C:/x", validate=False).directory == "C:/x"
    assert os.path.isabs(Local(".").directory)
    assert not (tmp_path / "home").exists()


def test_scripts_and_modules_give_a_flow_back(tmp_path, monkeypatch):
    from prefect import Flow
    from prefect.storage import Local, Module

    (tmp_path / "compat_flows.py").write_text("from prefect import Flow\na, b = Flow('a'), Flow('b')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for place in (
        Local(path=str(tmp_path / "compat_flows.py"), stored_as_script=True),
        Local(path="compat_flows", stored_as_script=True),
        Module("compat_flows"),
    ):
        place.add_flow(Flow("b"))
        place.add_flow(Flow("c"))
        assert place.get_flow("b").name == "b"
        with pytest.raises(ValueError, match="'c' not found"):
            place.get_flow("c")
    with pytest.raises(ValueError, match="A `path` must be provided"):
        Local(stored_as_script=True).add_flow(Flow("d"))


def test_where_a_service_would_have_a_flow():
    from prefect import Flow
    from prefect.engine.results import AzureResult, GCSResult, S3Result
    from prefect.storage import GCS, S3, Azure, Docker, Git, GitHub

    flow = Flow("My flow")
    assert S3("b", "key").add_flow(flow) == Azure("c", blob_name="key").add_flow(flow) == "key"
    assert GCS("b").add_flow(flow).startswith("my-flow/20")
    assert GitHub("r", "flows/f.py").add_flow(flow) == "flows/f.py"
    with pytest.raises(ValueError, match="A `key` must be provided"):
        S3("b", stored_as_script=True).add_flow(flow)
    kinds = [(S3("b").result, S3Result), (GCS("b").result, GCSResult), (Azure("b").result, AzureResult)]
    assert all(type(result) is kind and result.bucket == "b" for result, kind in kinds)
    image = Docker("registry", image_name="n", image_tag="t")
    assert (image.name, image.add_flow(flow)) == ("registry/n:t", "/opt/prefect/flows/my-flow.prefect")
    for wrong in (
        lambda: Docker(base_image="a", dockerfile="b"),
        lambda: Docker().name,
        lambda: Git("f.py", "r", tag="a", commit="b"),
        lambda: Git("f.py"),
    ):
        with pytest.raises(ValueError, match=r"Only one|missing required|Exactly one"):
            wrong()


def test_the_settings_name_the_storage_and_its_labels():
    from prefect.storage import S3, Local, get_default_storage_class
    from prefect.utilities.configuration import set_temporary_config

    key = "flows.defaults.storage"
    assert get_default_storage_class() is Local
    with set_temporary_config({f"{key}.default_class": "prefect.storage.S3", f"{key}.add_default_labels": False}):
        assert (get_default_storage_class(), Local().labels) == (S3, set())
    with set_temporary_config({f"{key}.default_class": "no.Storage"}), pytest.warns(UserWarning, match="no.Storage"):
        assert get_default_storage_class() is Local


@pytest.mark.parametrize("kind", RUN_CONFIGS)
def test_every_run_config_keeps_what_it_is_told(kind):
    make = getattr(run_configs, kind)
    assert (make().env, make().labels) == (None, set())
    config = make(env={"A": 1}, labels=["b", "a"])
    told = json.loads(json.dumps(config.serialize()))
    assert told.items() >= {"type": kind, "env": {"A": 1}, "labels": ["a", "b"], "__version__": "1.4.1"}.items()
    assert repr(cloudpickle.loads(cloudpickle.dumps(config))) == f"<{kind}>"
    with pytest.raises(TypeError, match="labels must be a list of strings, got 'a'"):
        make(labels="a")
    with pytest.raises(TypeError, match="nothing"):
        make(nothing=1)


def test_templates_of_jobs(tmp_path):
    from prefect.run_configs import DockerRun, ECSRun, KubernetesRun, LocalRun, VertexRun

    (tmp_path / "job.yaml").write_text("kind: Job\n")
    for option, make in (("job_template", KubernetesRun), ("task_definition", ECSRun)):
        for given in ({option: "kind: Job"}, {option: {"kind": "Job"}}, {f"{option}_path": str(tmp_path / "job.yaml")}):
            config = make(**given)
            assert (getattr(config, option), getattr(config, f"{option}_path")) == ({"kind": "Job"}, None)
        config = make(**{f"{option}_path": "s3://bucket/job.yaml"})
        assert (getattr(config, option), getattr(config, f"{option}_path")) == (None, "s3://bucket/job.yaml")
        with pytest.raises(ValueError, match=r"Cannot provide both|only provide one"):
            make(**{option: {}, f"{option}_path": "s3://bucket/job.yaml"})
    config = KubernetesRun(cpu_limit=2, cpu_request=0.5, image_pull_policy="Always")
    assert (config.cpu_limit, config.cpu_request, config.memory_limit) == ("2", "0.5", None)
    with pytest.raises(ValueError, match="Invalid image_pull_policy 'Sometimes'"):
        KubernetesRun(image_pull_policy="Sometimes")
    assert ECSRun(cpu=1024, memory="1 GB").serialize().items() >= {"cpu": "1024", "memory": "1 GB"}.items()
    with pytest.raises(ValueError, match="Cannot provide both `task_definition_arn` and `image`"):
        ECSRun(task_definition_arn="arn", image="i")
    assert LocalRun({"A": "b"}, "/x", ["l"]).working_dir == "/x"
    assert DockerRun(image="i", ports=[1]).serialize().items() >= {"image": "i", "ports": [1]}.items()
    assert VertexRun(image="i").machine_type == "e2-standard-4"


@pytest.mark.parametrize("kind", environments.ENVIRONMENTS)
def test_every_environment_takes_what_it_took_and_keeps_it(kind):
    made = getattr(environments, kind)(labels=["gpu"], secrets=["KEY"])
    assert (made.labels, made.secrets, repr(made)) == ({"gpu"}, ["KEY"], f"<{kind}>")
    with pytest.raises(TypeError, match="by position"):
        getattr(environments, kind)(*range(9))
