"""`prefect.run_configs`: where and how a registered flow would run; `prefectish.environments` says so here.

What has a meaning there is taken over by ``flow.register``; the rest is named once, when the flow runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from prefectish.compat.configuration import __version__
from prefectish.compat.flow_files import parse_path, read_bytes_from_path


def label_set(labels: Iterable[str] | None) -> set[str]:
    """Return labels as a set; TypeError for a single string."""
    if isinstance(labels, str):
        raise TypeError(f"labels must be a list of strings, got {labels!r}")
    return set(labels or ())


def plain_fields(made: Any, *but: str) -> dict[str, Any]:
    """Return the fields of a dataclass as plain values, and the version."""
    found = {field.name: getattr(made, field.name) for field in dataclasses.fields(made) if field.name not in but}
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in found.items()}
    return {**plain, "__version__": __version__}


@dataclass(repr=False, eq=False)
class RunConfig:
    """Base class of run configs.

    Parameters
    ----------
    env
        Environment variables.
    labels
        Those that an agent must have.
    """

    env: Mapping[str, Any] | None = None
    labels: Any = None

    def __post_init__(self) -> None:
        self.labels = label_set(self.labels)

    def serialize(self) -> dict[str, Any]:
        """Return what the run config is as plain values."""
        return {"type": type(self).__name__, **plain_fields(self)}

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


@dataclass(repr=False, eq=False)
class UniversalRun(RunConfig):
    """Wherever there is an agent."""


@dataclass(repr=False, eq=False, init=False)
class LocalRun(RunConfig):
    """On the machine of the agent, in a folder.

    Parameters
    ----------
    working_dir
        The folder; default: that of the file of the flow.
    """

    working_dir: str | None = None

    def __init__(self, env: Mapping[str, Any] | None = None, working_dir: Any = None, labels: Any = None) -> None:
        super().__init__(env, labels)
        self.working_dir = working_dir


@dataclass(repr=False, eq=False, init=False)
class DockerRun(RunConfig):
    """In a container of Docker."""

    image: str | None = None
    host_config: Mapping[str, Any] | None = None
    ports: Any = None

    def __init__(
        self,
        env: Mapping[str, Any] | None = None,
        image: str | None = None,
        labels: Any = None,
        ports: Any = None,
        host_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(env, labels)
        self.image, self.ports, self.host_config = image, ports, host_config


@dataclass(repr=False, eq=False, kw_only=True)
class KubernetesRun(RunConfig):
    """In a job of Kubernetes.

    Parameters
    ----------
    job_template_path
        Where the template of the job is; one of this machine is read now.
    job_template
        The template, or its YAML.
    """

    job_template_path: str | None = None
    job_template: Any = None
    image: str | None = None
    cpu_limit: Any = None
    cpu_request: Any = None
    memory_limit: str | None = None
    memory_request: str | None = None
    service_account_name: str | None = None
    image_pull_secrets: Any = None
    image_pull_policy: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.job_template_path is not None and self.job_template is not None:
            raise ValueError("Cannot provide both `job_template_path` and `job_template`")
        if self.image_pull_policy not in (None, "Always", "IfNotPresent", "Never"):
            raise ValueError(
                f"Invalid image_pull_policy {self.image_pull_policy!r}: it must be 'Always', 'IfNotPresent' or 'Never'"
            )
        self.job_template_path, self.job_template = _template(self.job_template_path, self.job_template)
        for name in ("cpu_limit", "cpu_request"):
            setattr(self, name, _text(getattr(self, name)))


@dataclass(repr=False, eq=False, kw_only=True)
class ECSRun(RunConfig):
    """In a task of AWS ECS.

    Parameters
    ----------
    task_definition_path
        Where the definition of the task is; one of this machine is read now.
    task_definition
        The definition, or its YAML.
    task_definition_arn
        The name of a definition that is registered with ECS.
    """

    task_definition_path: str | None = None
    task_definition: Any = None
    task_definition_arn: str | None = None
    image: str | None = None
    cpu: Any = None
    memory: Any = None
    task_role_arn: str | None = None
    execution_role_arn: str | None = None
    run_task_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("task_definition", "task_definition_path", "task_definition_arn")
        if sum(getattr(self, name) is not None for name in names) > 1:
            raise ValueError("Can only provide one of `task_definition`, `task_definition_path`, `task_definition_arn`")
        if self.task_definition_arn is not None and self.image is not None:
            raise ValueError("Cannot provide both `task_definition_arn` and `image`")
        self.task_definition_path, self.task_definition = _template(self.task_definition_path, self.task_definition)
        self.cpu, self.memory = _text(self.cpu), _text(self.memory)


@dataclass(repr=False, eq=False, kw_only=True)
class VertexRun(RunConfig):
    """In a job of Google's Vertex AI."""

    image: str | None = None
    machine_type: str = "e2-standard-4"
    scheduling: Any = None
    service_account: str | None = None
    network: str | None = None
    worker_pool_specs: Any = None


def _template(path: str | None, template: Any) -> tuple[str | None, Any]:
    """Return a path that is not of this machine, or the content, from YAML."""
    if path is not None:
        if parse_path(path).scheme != "file":
            return path, None
        template = read_bytes_from_path(path)
    if isinstance(template, str | bytes):
        template = import_module("yaml").safe_load(template)  # Dask needs it, too
    return None, template


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
