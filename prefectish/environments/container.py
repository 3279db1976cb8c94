"""Runs of a deployed flow in a container, whose image is built when the flow is deployed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefectish.environments.base import DRIVER, Environment, EnvironmentFailed, Launch, run_command
from prefectish.secrets.store import variable

BUILDERS = ("docker", "podman", "buildah")
#: Folder of the flow's file and of `files` in the image.
FLOWS = "/flows"
#: Options of each builder before its command, from the environment: ``--storage-driver vfs --root /var/images``.
OPTIONS = "PREFECTISH_{}_OPTIONS"
#: Distributions protect their Python against pip; in an image nothing else needs it.
PIP = "PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore python3 -m pip install --no-cache-dir"
#: Tells a driver that its secrets come by standard input, as ``NAME=value`` with a zero byte after each.
SECRETS = "PREFECTISH_SECRETS"
#: How buildah isolates what it runs, where a machine does not let it make namespaces: "chroot".
ISOLATION = "BUILDAH_ISOLATION"


class ContainerEnvironment(Environment):
    """Run in a container, made of a base image, Python packages, files and variables.

    When a flow is deployed, a Dockerfile and its context are written, the image is built, the flow is loaded in it, and
    the image is pushed if that is asked for. An agent runs the driver in a container of that image.

    Parameters
    ----------
    base_image
        An image with Python 3.11 or later.
    python_dependencies
        Packages for pip, such as ``"httpx>=0.27"``, or the path of one among `files`. If the base image does not have
        prefectish, it is installed too.
    files
        Files to copy, from their path here to their absolute path in the image; before packages are installed.
    env_vars
        Environment variables in the image; everyone who has the image can read them.
    secrets
        Names of secrets; their environment variables, ``PREFECTISH__SECRETS__...``, are handed over when a container
        starts, and are not in the image.
    registry_url
        Where images are pushed to and pulled from; None keeps them on this machine.
    builder
        "docker", "podman" or "buildah". Options of its own, such as ``--storage-driver vfs``, are taken from
        ``PREFECTISH_BUILDAH_OPTIONS``, and likewise for the others.
    image_name
        Name of the image without a tag; default: the name of the flow's file.

    Raises
    ------
    ValueError
        The builder is unknown, or a file is to be put at a path that is not absolute.
    """

    kind = "container"

    def __init__(
        self,
        base_image: str,
        python_dependencies: Iterable[str] = (),
        files: Mapping[str, str] | None = None,
        env_vars: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        registry_url: str | None = None,
        builder: str = "docker",
        image_name: str | None = None,
    ) -> None:
        super().__init__(env_vars, secrets)
        if builder not in BUILDERS:
            raise ValueError(f"builder must be one of {', '.join(BUILDERS)}, got {builder!r}")
        if isinstance(python_dependencies, str):
            raise TypeError(f"python_dependencies must be a list of packages, got {python_dependencies!r}")
        for there in (files or {}).values():
            if not there.startswith("/"):
                raise ValueError(f"files must map paths here to absolute paths in the image, got {there!r}")
        self.base_image = base_image
        self.python_dependencies = list(python_dependencies)
        self.files = {os.path.abspath(here): there for here, there in (files or {}).items()}
        self.registry_url = registry_url
        self.builder = builder
        self.image_name = image_name
        self.image: str | None = None  # name and tag of the image, once it is built

    def build(self, source: Mapping[str, Any], push: bool) -> None:
        """Write the Dockerfile and its context, build the image, and push it if asked for."""
        if push and self.registry_url is None:
            raise ValueError("push=True must have a registry to push to: give ContainerEnvironment a registry_url")
        with tempfile.TemporaryDirectory(prefix="prefectish-image-") as folder:
            self.write_context(source, folder)
            self.image = self._tagged(source, folder)
            command = ("bud",) if self.builder == "buildah" else ("build",)
            run_command((*self._tool(), *command, *self._isolation(), "-t", self.image, folder), f"image {self.image}")
        if push:
            self.push()

    def push(self) -> None:
        """Send the image to its registry."""
        assert self.image is not None
        run_command((*self._tool(), "push", self.image), f"image {self.image}")

    def write_context(self, source: Mapping[str, Any], folder: str) -> None:
        """Write the Dockerfile, and all that it copies, into a folder."""
        lines = [f"FROM {self.base_image}", f"WORKDIR {FLOWS}"]
        for number, (here, there) in enumerate(self.files.items()):
            copy = f"file-{number}"
            _copy(here, os.path.join(folder, copy))
            lines.append(f"COPY {json.dumps([copy, there])}")
        lines.append(f"RUN python3 -c 'import prefectish' || {PIP} {shlex.quote(_own_package())}")
        if self.python_dependencies:
            lines.append(f"RUN {PIP} {shlex.join(self.python_dependencies)}")
        if "file" in source:
            _copy(source["file"], os.path.join(folder, "flow.py"))
            lines.append(f"COPY {json.dumps(['flow.py', self.source(source)['file']])}")
        lines.extend(f"ENV {name}={_quoted(value)}" for name, value in self.env_vars.items())
        Path(folder, "Dockerfile").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def source(self, source: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return where a flow is in the image."""
        if "file" not in source:
            return source
        return {**source, "file": f"{FLOWS}/{os.path.basename(source['file'])}"}

    def launch(self, word: str, file: str, folders: Sequence[str] = ()) -> Launch:
        """Return the command that runs a driver in a container."""
        if self.image is None:
            raise EnvironmentFailed(f"{self!r} has no image: deploy the flow with build=True")
        driver = ("python3", "-m", DRIVER, word, file)
        mounts = [option for path in (file, *folders) for option in ("-v", f"{path}:{path}")]
        if self.builder == "buildah":
            return self._buildah(mounts, driver)
        shared = ("--network", "host", *mounts, *(o for name in self.secrets for o in ("-e", variable(name))))
        return Launch((*self._tool(), "run", "--rm", *shared, self.image, *driver), None, {})

    def _buildah(self, mounts: Sequence[str], driver: Sequence[str]) -> Launch:
        """Return what `run --rm` is for the others: a container of its own that goes when the driver has ended."""
        tool = shlex.join(self._tool())
        names = [variable(name) for name in self.secrets]
        flags = shlex.join((*self._isolation(), *mounts, *(("--env", f"{SECRETS}=stdin") if names else ())))
        # buildah takes values of variables on its command line only, which everybody can read; so they go by a pipe
        values = "".join(f"printf '%s\\0' \"{name}=${name}\"; " for name in names) or "true; "
        assert self.image is not None
        script = (
            f"name=$({tool} from {shlex.quote(self.image)}) || exit 125\n"
            f"trap '{tool} rm \"$name\" >/dev/null' EXIT\n"
            f'{{ {values}}} | {tool} run {flags} "$name" -- {shlex.join(driver)}\n'
        )
        return Launch(("/bin/sh", "-c", script), None, {})

    def _tool(self) -> tuple[str, ...]:
        return (self.builder, *shlex.split(os.environ.get(OPTIONS.format(self.builder.upper()), "")))

    def _isolation(self) -> tuple[str, ...]:
        isolation = os.environ.get(ISOLATION)
        return ("--isolation", isolation) if isolation and self.builder == "buildah" else ()

    def _tagged(self, source: Mapping[str, Any], folder: str) -> str:
        """Return a name for the image, with the hash of all that is in it as its tag."""
        digest = hashlib.sha256()
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
        stem = os.path.basename(source.get("file") or source.get("module") or "flow").removesuffix(".py")
        name = self.image_name or re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._") or "flow"
        place = "localhost" if self.registry_url is None else self.registry_url.rstrip("/")
        return f"{place}/{name}:{digest.hexdigest()[:12]}"

    def facts(self) -> dict[str, Any]:
        """Return the arguments of the environment, as what JSON can hold."""
        own = {
            "base_image": self.base_image,
            "python_dependencies": self.python_dependencies,
            "files": self.files,
            "registry_url": self.registry_url,
            "builder": self.builder,
            "image_name": self.image_name,
        }
        return {**own, **super().facts(), **({} if self.image is None else {"image": self.image})}


def _own_package() -> str:
    from importlib.metadata import version

    return f"prefectish[cli,history]=={version('prefectish')}"


def _copy(here: str, there: str) -> None:
    try:
        if os.path.isdir(here):
            shutil.copytree(here, there)
        else:
            shutil.copy(here, there)
    except OSError as error:
        raise EnvironmentFailed(f"{here} cannot be copied into the image: {error}") from error


def _quoted(value: str) -> str:
    """Return a value for ENV of a Dockerfile, which knows double quotes, backslashes and variables."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    if "\n" in value:
        raise EnvironmentFailed(f"env_vars must not have line breaks in an image, got {value!r}; put it into a file")
    return f'"{escaped}"'
