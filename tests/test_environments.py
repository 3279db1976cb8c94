"""Environments as values: what they write down, and the commands that they give."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from prefectish.environments import (
    CommandEnvironment,
    ContainerEnvironment,
    Environment,
    EnvironmentFailed,
    LocalEnvironment,
)
from prefectish.environments.as_json import from_json, to_json

ENVIRONMENTS: list[Environment] = [
    LocalEnvironment(python="/opt/venv/bin/python", working_dir="/srv", env_vars={"A": "1"}, secrets=["TOKEN"]),
    CommandEnvironment(["sbatch", "--wait", "--wrap={command}"], python="python3"),
    ContainerEnvironment(
        "python:3.12",
        ["httpx"],
        {"/etc/hostname": "/h"},
        {"A": "1"},
        registry_url="r.example.org/team",
        builder="podman",
    ),
]


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda e: e.kind)
def test_environment_that_was_written_down_is_the_same(environment: Environment) -> None:
    again = from_json(json.loads(json.dumps(to_json(environment))))
    assert to_json(again) == to_json(environment)
    assert repr(again) == repr(environment)


def test_driver_starts_in_the_interpreter_and_folder_of_its_environment(tmp_path: Path) -> None:
    launch = LocalEnvironment(working_dir=tmp_path, env_vars={"A": "1"}).launch("run", "/x.json")
    assert launch.argv == (sys.executable, "-m", "prefectish.registry.driver", "run", "/x.json")
    assert (launch.folder, launch.variables) == (str(tmp_path), {"A": "1"})


def test_command_is_one_argument_that_a_shell_reads_back() -> None:
    file = "/home/o'neil & sons/$HOME; rm -rf x.json"
    launch = CommandEnvironment(["srun", "sh", "-c", "{command}"], python="/opt/my python").launch("run", file)
    assert launch.argv[:3] == ("srun", "sh", "-c")
    driver, _, output = launch.argv[3].partition(" >>")
    assert shlex.split(driver) == ["/opt/my python", "-m", "prefectish.registry.driver", "run", file]
    assert shlex.split(output) == [file.replace(".json", ".log"), "2>&1"]


def test_dockerfile_has_packages_files_and_variables(tmp_path: Path) -> None:
    flow = tmp_path / "my flow.py"
    flow.write_text("flow = None\n")
    note = tmp_path / "note.txt"
    note.write_text("note")
    environment = ContainerEnvironment(
        "python:3.12-slim",
        ["httpx>=0.27", "pandas"],
        {str(note): "/data/a note.txt"},
        {"GREETING": 'say "hi" for $5\\'},
    )
    (tmp_path / "context").mkdir()
    environment.write_context({"file": str(flow), "name": "flow"}, str(tmp_path / "context"))
    lines = (tmp_path / "context" / "Dockerfile").read_text().splitlines()
    assert lines[0] == "FROM python:3.12-slim"
    assert 'COPY ["file-0", "/data/a note.txt"]' in lines
    assert 'COPY ["flow.py", "/flows/my flow.py"]' in lines
    assert lines[-1] == 'ENV GREETING="say \\"hi\\" for \\$5\\\\"'
    assert any(line.endswith("pip install --no-cache-dir 'httpx>=0.27' pandas") for line in lines)
    assert (tmp_path / "context" / "file-0").read_text() == "note"


def test_container_gets_secrets_by_name_and_the_file_by_a_mount() -> None:
    environment = ContainerEnvironment("python:3.12", secrets=["slack token"], builder="docker")
    environment.image = "localhost/flow:1"
    argv = environment.launch("run", "/x.json", ["/data"]).argv
    assert argv[:3] == ("docker", "run", "--rm")
    assert "PREFECTISH__SECRETS__SLACK_TOKEN" in argv
    assert [argv[i + 1] for i, word in enumerate(argv) if word == "-v"] == ["/x.json:/x.json", "/data:/data"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CommandEnvironment("sbatch {command}"), TypeError, "command must be a list of arguments"),
        (lambda: CommandEnvironment(["sbatch"]), ValueError, r"command must have \{command\}"),
        (lambda: LocalEnvironment(secrets="TOKEN"), TypeError, "secrets must be a list of names"),
        (lambda: LocalEnvironment(env_vars={"A": 1}), TypeError, r"env_vars\['A'\] must be a string"),
        (
            lambda: ContainerEnvironment("x", builder="rkt"),
            ValueError,
            "builder must be one of",
        ),
        (lambda: ContainerEnvironment("x", files={"a": "b"}), ValueError, "absolute paths in the image"),
        (lambda: ContainerEnvironment("x", python_dependencies="httpx"), TypeError, "must be a list of packages"),
        (lambda: ContainerEnvironment("x").launch("run", "x"), EnvironmentFailed, "has no image"),
        (lambda: ContainerEnvironment("x").build({"module": "m"}, push=True), ValueError, "must have a registry"),
    ],
)
def test_impossible_environments_are_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_working_folder_that_is_gone_is_what_is_at_fault(tmp_path: Path) -> None:
    launch = LocalEnvironment(working_dir=tmp_path / "gone").launch("run", str(tmp_path / "facts.json"))
    with pytest.raises(EnvironmentFailed, match=r"its working folder .*gone does not exist"):
        launch.popen()
