"""Deployed flows in containers: a real image is built, checked and run.

Needs root, buildah and debootstrap; the base image is a minimal Debian with what is installed here, made once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from image_registry import ImageRegistry, image_registry

import prefectish
from prefectish import history
from prefectish.engine.state import Success
from prefectish.environments import ContainerEnvironment, EnvironmentFailed
from prefectish.flow_loading import load_flow
from prefectish.registry.agent import Agent

LIMIT = 120.0
ROOT = Path(__file__).parent.parent
MISSING = [program for program in ("buildah", "debootstrap") if shutil.which(program) is None]
pytestmark = [
    pytest.mark.container,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="debootstrap needs root"),
]
SUITE = "bookworm"
PYTHON = "3.11"  # of that suite
SOURCE = """
import os
from prefectish import Flow, Parameter, Secret, task, unmapped

@task
def greet(name, word):
    import greeting
    return f"{greeting.WORDS[word]}, {name}; {os.environ['PLACE']}; {open('/data/note').read().strip()}"

@task
def check(token):
    assert token == "-".join(["s3cret", "token"])  # in no file of the image as it is

with Flow("greetings") as greetings:
    word = Parameter("word", default="hello")
    greet.map(["ada", "bob"], unmapped(word))
    check(Secret("TOKEN"))
"""


@pytest.fixture(scope="session")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return options for buildah that keep all images in a folder, without a daemon and without namespaces."""
    folder = tmp_path_factory.mktemp("images")
    return ["--storage-driver", "vfs", "--root", str(folder / "root"), "--runroot", str(folder / "run")]


@pytest.fixture(scope="session")
def base_image(buildah: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("base") / "rootfs"
    shell("debootstrap", "--variant=minbase", "--include=python3", SUITE, str(root))
    packages = root / "usr/lib/python3/dist-packages"
    needed = [line for line in requires("prefectish") or [] if "extra ==" not in line]
    into = ["--target", str(packages), "--python-version", PYTHON, "--only-binary", ":all:", "--quiet"]
    shell(sys.executable, "-m", "pip", "install", *into, *needed, "SQLAlchemy", "typer", "rich", "pip")
    shutil.copytree(ROOT / "prefectish", packages / "prefectish")
    shutil.copytree(ROOT / "executors", packages / "prefectish" / "executors")
    metadata = packages / f"prefectish-{prefectish.__version__}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: prefectish\nVersion: {prefectish.__version__}\n")
    name = shell("buildah", *buildah, "from", "scratch").strip()
    shell("buildah", *buildah, "copy", "--quiet", name, str(root), "/")
    shell("buildah", *buildah, "commit", "--quiet", name, "localhost/base:latest")
    shell("buildah", *buildah, "rm", name)
    shutil.rmtree(root)
    return "localhost/base:latest"


def shell(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}"
    return done.stdout


@pytest.fixture
def flow(tmp_path: Path, buildah: list[str], base_image: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PREFECTISH_BUILDAH_OPTIONS", " ".join(buildah))
    monkeypatch.setenv("BUILDAH_ISOLATION", "chroot")
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "greetings.py").write_text(SOURCE)
    (tmp_path / "note").write_text("from a file\n")
    package = tmp_path / "greeting"
    package.mkdir()
    (package / "greeting.py").write_text("WORDS = {'hello': 'Hello', 'bye': 'Goodbye'}\n")
    (package / "setup.cfg").write_text("[metadata]\nname = greeting\nversion = 1\n[options]\npy_modules = greeting\n")
    (package / "pyproject.toml").write_text("[build-system]\nrequires = ['setuptools']\n")
    shell(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        str(package),
    )
    loaded = load_flow(str(tmp_path / "greetings.py"))
    yield loaded
    del sys.modules["greetings"]


def environment(tmp_path: Path, base_image: str, **options: Any) -> ContainerEnvironment:
    wheel = next(tmp_path.glob("*.whl"))
    given: dict[str, Any] = {
        "base_image": base_image,
        "python_dependencies": [f"/wheels/{wheel.name}"],
        "files": {str(wheel): f"/wheels/{wheel.name}", str(tmp_path / "note"): "/data/note"},
        "env_vars": {"PLACE": 'a "container" for $5'},
        "secrets": ["TOKEN"],
        "builder": "buildah",
        **options,
    }
    return ContainerEnvironment(**given)


def test_flow_is_built_checked_and_run_in_a_container(
    flow: Any, tmp_path: Path, base_image: str, monkeypatch: pytest.MonkeyPatch, buildah: list[str]
) -> None:
    monkeypatch.setenv("PREFECTISH__SECRETS__TOKEN", "s3cret-token")
    made = environment(tmp_path, base_image)
    deployment = flow.deploy("hall", environment=made, parameters={"word": "bye"})
    run_id = deployment.run()
    Agent().start(once=True)
    run = prefectish.attach(run_id)
    state = run.wait(LIMIT)
    assert isinstance(state, Success), (state, history.run(run_id).failures())
    assert history.run(run_id).trigger == "manual"
    assert made.image is not None
    inspected = shell("buildah", *buildah, "inspect", "--type", "image", made.image)
    assert "s3cret" not in inspected
    assert flow.deploy("hall", environment=environment(tmp_path, base_image), parameters={"word": "bye"}).version == 1
    containers = shell("buildah", *buildah, "containers", "--quiet")
    assert containers.strip() == ""  # each goes when its driver has ended


def test_flow_that_does_not_load_in_its_image_is_not_registered(flow: Any, tmp_path: Path, base_image: str) -> None:
    (tmp_path / "greetings.py").write_text("import module_that_only_i_have\n" + SOURCE)
    with pytest.raises(EnvironmentFailed, match="module_that_only_i_have"):
        flow.deploy("hall", environment=environment(tmp_path, base_image, secrets=[]))
    with pytest.raises(EnvironmentFailed, match="no-such-package-at-all"):
        flow.deploy(
            "hall", environment=environment(tmp_path, base_image, python_dependencies=["/no-such-package-at-all"])
        )
    assert prefectish.deployments() == []


def trust(registry: ImageRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let buildah use a registry without encryption."""
    (tmp_path / "registries.conf").write_text(f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))


def test_deploy_pushes_the_image_which_an_agent_elsewhere_runs(
    flow: Any, tmp_path: Path, base_image: str, monkeypatch: pytest.MonkeyPatch, buildah: list[str]
) -> None:
    monkeypatch.setenv("PREFECTISH__SECRETS__TOKEN", "s3cret-token")
    with image_registry() as registry:
        trust(registry, tmp_path, monkeypatch)
        made = environment(tmp_path, base_image, registry_url=f"{registry.address}/team", image_name="greetings")
        deployment = flow.deploy("hall", environment=made, push=True)
        assert made.image is not None
        assert made.image.startswith(f"{registry.address}/team/greetings:")
        assert made.image.removeprefix(f"{registry.address}/") in registry.manifests
        _base, own = registry.layers(made.image.removeprefix(f"{registry.address}/"))
        assert b"greet.map" in own
        assert b"s3cret-token" not in own
        shell("buildah", *buildah, "rmi", "--force", made.image)  # as on another machine, it must be pulled
        run_id = deployment.run()
        Agent().start(once=True)
        state = prefectish.attach(run_id).wait(LIMIT)
        assert isinstance(state, Success), (state, history.run(run_id).failures())
    with pytest.raises(EnvironmentFailed, match="buildah ended with code"):
        flow.deploy("hall", environment=made, parameters={"word": "bye"}, push=True)  # the registry is gone
    assert [found.version for found in prefectish.deployments("hall", archived=True)] == [1]


def test_image_is_pushed_to_its_registry_and_can_be_pulled_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buildah: list[str]
) -> None:
    """An image with one file: what is pushed does not matter, and a base takes minutes."""
    monkeypatch.setenv("PREFECTISH_BUILDAH_OPTIONS", " ".join(buildah))
    (tmp_path / "note").write_text("from a file\n")
    with image_registry() as registry:
        trust(registry, tmp_path, monkeypatch)
        made = ContainerEnvironment("scratch", builder="buildah", registry_url=f"{registry.address}/team")
        made.image = f"{registry.address}/team/note:1"
        name = shell("buildah", *buildah, "from", "scratch").strip()
        shell("buildah", *buildah, "copy", "--quiet", name, str(tmp_path / "note"), "/note")
        shell("buildah", *buildah, "commit", "--quiet", "--rm", name, made.image)
        made.push()
        assert "team/note:1" in registry.manifests
        shell("buildah", *buildah, "rmi", made.image)
        shell("buildah", *buildah, "pull", "--quiet", made.image)  # as an agent on another machine does
        assert made.image.removesuffix(":1") in shell("buildah", *buildah, "images")
    with pytest.raises(EnvironmentFailed, match="buildah ended with code"):
        made.push()  # the registry is gone
    shell("buildah", *buildah, "rmi", made.image)
