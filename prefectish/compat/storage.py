"""`prefect.storage`, `prefect.run_configs` and `prefect.environments`: what a flow is given there, and is kept by it.

Code is not stored here, and where a deployed flow runs is said by `prefectish.environments`: what has a meaning there
is taken over by ``flow.register``, and the rest is named once, when the flow runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from prefectish.engine.context import get_logger

_said: set[tuple[str, str]] = set()


class Options:
    """Keeps the arguments by name.

    Parameters
    ----------
    *args, **kwargs
        As they are there; those that are given by position have the names `positional`.
    """

    positional: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if len(args) > len(self.positional):
            raise TypeError(
                f"{type(self).__name__} takes at most {len(self.positional)} arguments by position, got {len(args)}"
            )
        given = {**dict.fromkeys(self.positional), **dict(zip(self.positional, args, strict=False)), **kwargs}
        for name, value in given.items():
            setattr(self, name, value)
        self.labels = _labels(given.get("labels"))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Storage(Options):
    """Where the code of a flow would be stored. It stays in its file."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.flows: dict[str, str] = {}

    def add_flow(self, flow: Any) -> str:
        """Note a flow, and return where it is."""
        self.flows[flow.name] = flow.name
        return self.flows[flow.name]

    def build(self) -> Self:
        """Return this object: there is nothing to build."""
        return self

    def __contains__(self, flow: object) -> bool:
        return getattr(flow, "name", flow) in self.flows


class RunConfig(Options):
    """Where and how a registered flow would run.

    Parameters
    ----------
    env
        Environment variables.
    labels
        Those that an agent must have.
    """

    def __init__(self, *args: Any, env: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.env = {name: str(value) for name, value in (env or {}).items()}


class UniversalRun(RunConfig):
    """Wherever there is an agent."""


class LocalRun(RunConfig):
    """On the machine of the agent, in a folder."""

    positional = ("env", "working_dir", "labels")

    def __init__(self, env: Mapping[str, Any] | None = None, working_dir: Any = None, labels: Any = None) -> None:
        super().__init__(env=env, labels=labels)
        self.working_dir = working_dir


class Environment(Options):
    """What said where a flow runs before there were run configs."""


def _kinds(base: type[Options], table: Mapping[str, str]) -> dict[str, type[Options]]:
    return {
        name: type(name, (base,), {"positional": tuple(text.split()), "__module__": __name__, "__doc__": base.__doc__})
        for name, text in table.items()
    }


#: Kinds of storage, with the arguments that can be given by position.
STORAGES = _kinds(
    Storage,
    {
        "Local": "directory validate path stored_as_script",
        "Module": "module",
        "Docker": "registry_url base_image dockerfile python_dependencies image_name image_tag env_vars files",
        "S3": "bucket key stored_as_script local_script_path client_options upload_options",
        "GCS": "bucket key project stored_as_script local_script_path",
        "Azure": "container connection_string_secret blob_name overwrite stored_as_script",
        "GitHub": "repo path ref access_token_secret base_url",
        "GitLab": "repo path host ref access_token_secret",
        "Bitbucket": "project repo path workspace host ref",
        "CodeCommit": "repo path commit client_options",
        "Git": "flow_path repo repo_host flow_name branch_name tag commit",
        "Webhook": "build_request_kwargs build_request_http_method get_flow_request_kwargs",
    },
)
RUN_CONFIGS = _kinds(
    RunConfig,
    {
        "DockerRun": "env image labels ports host_config",
        "KubernetesRun": "job_template_path job_template",
        "ECSRun": "task_definition_path task_definition",
        "VertexRun": "env image labels",
    },
)
ENVIRONMENTS = _kinds(
    Environment,
    {
        "LocalEnvironment": "executor labels",
        "RemoteEnvironment": "executor executor_kwargs labels",
        "RemoteDaskEnvironment": "address",
        "DaskKubernetesEnvironment": "min_workers max_workers",
        "DaskCloudProviderEnvironment": "provider_class",
        "FargateTaskEnvironment": "launch_type",
        "KubernetesJobEnvironment": "job_spec_file",
    },
)
globals().update({**STORAGES, **RUN_CONFIGS, **ENVIRONMENTS})
#: Kinds that say nothing else than what holds here anyway.
_USUAL = ("Local", "Module", "LocalEnvironment", "RemoteEnvironment")


def say_what_is_ignored(flow: Any) -> None:
    """Log, once for each flow and kind, what of its storage and run config means nothing here."""
    ways = {
        "storage": "code is not stored here: the flow runs from its file",
        "run_config": "the flow runs on this machine, or, deployed, where its agent is",
        "environment": "the flow runs on this machine, or, deployed, where its agent is",
    }
    for name, way in ways.items():
        given = getattr(flow, name, None)
        kind = type(given).__name__
        usual = given is None or kind in _USUAL or isinstance(given, UniversalRun | LocalRun)
        if usual or (flow.name, kind) in _said:
            continue
        _said.add((flow.name, kind))
        get_logger("compat").warning("%s=%s(...) of flow %r is ignored: %s", name, kind, flow.name, way)


def labels_of(flow: Any) -> set[str]:
    """Return the labels of a flow's run config, environment and storage."""
    found = (getattr(flow, name, None) for name in ("run_config", "environment", "storage"))
    return set().union(*(_labels(getattr(each, "labels", None)) for each in found))


def _labels(labels: Iterable[str] | None) -> set[str]:
    return set(labels or ())
