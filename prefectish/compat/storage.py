"""`prefect.storage`: where the code of a flow would be stored. Here it stays in its file.

Folders, modules and scripts of this machine give back a flow that was added; the other kinds keep what they are given.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from prefectish.compat.configuration import config
from prefectish.compat.exceptions import FlowStorageError
from prefectish.compat.flow_files import extract_flow_from_file, flow_from_bytes_pickle, flow_in, flow_to_bytes_pickle
from prefectish.compat.results import AzureResult, GCSResult, LocalResult, S3Result
from prefectish.compat.run_configs import label_set, plain_fields


@dataclass(repr=False, eq=False)
class Storage:
    """Base class of storages.

    Parameters
    ----------
    result
        A result for the flows of the storage.
    secrets
        Names of secrets that it needs.
    labels
        Those that an agent must have.
    add_default_labels
        Whether to add the labels that its kind has; default: what the settings say.
    """

    _: KW_ONLY
    result: Any = None
    secrets: Any = None
    labels: Any = None
    add_default_labels: bool | None = None

    stored_as_script = False

    def __post_init__(self) -> None:
        self.flows: dict[str, str] = {}
        self.secrets = list(self.secrets or ())
        self.own_labels = label_set(self.labels)
        if self.add_default_labels is None:
            self.add_default_labels = config.flows.defaults.storage.add_default_labels
        self.labels = self.own_labels | self.default_labels if self.add_default_labels else set(self.own_labels)

    @property
    def default_labels(self) -> set[str]:
        """The labels that its kind has."""
        return set()

    @property
    def name(self) -> str:
        """What its kind is called."""
        return type(self).__name__

    def add_flow(self, flow: Any) -> str:
        """Add a flow, and return where it is.

        Raises
        ------
        ValueError
            There is one of that name already.
        """
        if flow.name in self:
            raise ValueError(
                f'Name conflict: Flow with the name "{flow.name}" is already present in this storage; give it another '
                "name, or use another storage"
            )
        self.flows[flow.name] = self.place(flow)
        return self.flows[flow.name]

    def place(self, flow: Any) -> str:
        """Return where a flow is that is added."""
        return str(flow.name)

    def get_flow(self, flow_name: str) -> Any:
        """Return a flow that was added.

        Raises
        ------
        ValueError
            It is not in this storage.
        FlowStorageError
            It would be in a service.
        """
        if flow_name not in self:
            raise ValueError(f"Flow {flow_name!r} is not contained in this Storage; it has {sorted(self.flows)}")
        return self.loaded(flow_name)

    def loaded(self, flow_name: str) -> Any:
        """Return a flow that is in this storage."""
        raise FlowStorageError(
            f"{self!r} is not asked for flow {flow_name!r}: code is not stored here, so install it where your workers "
            "are, or load it from a file"
        )

    def build(self) -> Self:
        """Return this object: there is nothing to build."""
        return self

    def serialize(self) -> dict[str, Any]:
        """Return what the storage is as plain values."""
        return {"type": type(self).__name__, **plain_fields(self, "result", "add_default_labels"), "flows": self.flows}

    def __contains__(self, flow: object) -> bool:
        return getattr(flow, "name", flow) in self.flows

    def __repr__(self) -> str:
        return f"<Storage: {type(self).__name__}>"


@dataclass(repr=False, eq=False)
class Local(Storage):
    """A folder of this machine.

    Parameters
    ----------
    directory
        The folder; default: `flows` in the home folder of the settings.
    validate
        Whether the folder is made now, and its path absolute.
    path
        The file, or the module, of flows that are stored as scripts.
    stored_as_script
        Whether a flow is loaded from its file, instead of from a pickle.
    """

    directory: str | None = None
    validate: bool = True
    path: str | None = None
    stored_as_script: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        home = os.path.expanduser(config.home_dir)
        given = self.directory is not None
        self.directory = os.path.join(home, "flows") if self.directory is None else str(self.directory)
        if self.validate:
            self.directory = os.path.abspath(os.path.expanduser(self.directory))
            if given:
                os.makedirs(self.directory, exist_ok=True)
        if self.result is None:
            self.result = LocalResult(os.path.join(home, "results"), validate_dir=False)

    @property
    def default_labels(self) -> set[str]:
        """The name of this machine."""
        return {socket.gethostname()}

    def place(self, flow: Any) -> str:
        """Write a flow as a pickle, unless it is stored as a script, and return its file."""
        if self.stored_as_script:
            if not self.path:
                raise ValueError("A `path` must be provided to show where flow `.py` file is stored.")
            return self.path
        file = Path(str(self.directory), f"{slug(flow.name)}.prefect")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(flow_to_bytes_pickle(flow))
        return str(file)

    def loaded(self, flow_name: str) -> Any:
        """Return a flow that is in this storage."""
        place = self.flows[flow_name]
        if not self.stored_as_script:
            return flow_from_bytes_pickle(Path(place).read_bytes())
        if os.path.isfile(os.path.expanduser(place)):
            return extract_flow_from_file(place, flow_name=flow_name)
        return flow_in(vars(import_module(place)), flow_name)


@dataclass(repr=False, eq=False)
class Module(Storage):
    """A module that can be imported, and has the flow."""

    module: str

    stored_as_script = True

    def place(self, flow: Any) -> str:
        """Return the name of the module."""
        return self.module

    def loaded(self, flow_name: str) -> Any:
        """Return a flow of the module."""
        return flow_in(vars(import_module(self.module)), flow_name)


class _Remote(Storage):
    """A storage of files under keys."""

    #: Names of the fields that have the key of a flow, and the bucket.
    _key, _bucket = "key", "bucket"
    #: The class of results in the bucket.
    _result: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.result is None and self._result is not None:
            self.result = self._result(getattr(self, self._bucket))

    def place(self, flow: Any) -> str:
        """Return the key of a flow."""
        key = getattr(self, self._key)
        if key:
            return str(key)
        if self.stored_as_script:
            raise ValueError(f"A `{self._key}` must be provided to show where flow `.py` file is stored.")
        return f"{slug(flow.name)}/{slug(datetime.now(UTC).isoformat())}"


@dataclass(repr=False, eq=False)
class S3(_Remote):
    """A bucket of S3."""

    bucket: str
    key: str | None = None
    stored_as_script: bool = False
    local_script_path: str | None = None
    client_options: Mapping[str, Any] | None = None
    upload_options: Mapping[str, Any] | None = None

    _result = S3Result


@dataclass(repr=False, eq=False)
class GCS(_Remote):
    """A bucket of Google Cloud Storage."""

    bucket: str
    key: str | None = None
    project: str | None = None
    stored_as_script: bool = False
    local_script_path: str | None = None

    _result = GCSResult


@dataclass(repr=False, eq=False)
class Azure(_Remote):
    """A container of Azure's blobs."""

    container: str
    connection_string_secret: str | None = None
    blob_name: str | None = None
    overwrite: bool = False
    stored_as_script: bool = False
    local_script_path: str | None = None

    _key, _bucket = "blob_name", "container"
    _result = AzureResult


class _Script(_Remote):
    """A storage of scripts."""

    stored_as_script = True
    _key = "path"


@dataclass(repr=False, eq=False)
class GitHub(_Script):
    """A repository of GitHub."""

    repo: str
    path: str
    ref: str | None = None
    access_token_secret: str | None = None
    base_url: str | None = None


@dataclass(repr=False, eq=False)
class GitLab(_Script):
    """A repository of GitLab."""

    repo: str
    path: str | None = None
    host: str | None = None
    ref: str | None = None
    access_token_secret: str | None = None


@dataclass(repr=False, eq=False)
class Bitbucket(_Script):
    """A repository of Bitbucket."""

    project: str
    repo: str
    path: str
    workspace: str | None = None
    host: str | None = None
    ref: str | None = None
    access_token_secret: str | None = None
    cloud_username_secret: str | None = None
    cloud_app_password_secret: str | None = None


@dataclass(repr=False, eq=False)
class CodeCommit(_Script):
    """A repository of AWS CodeCommit."""

    repo: str
    path: str
    commit: str | None = None
    client_options: Mapping[str, Any] | None = None


@dataclass(repr=False, eq=False)
class Git(_Script):
    """A repository of git, anywhere."""

    flow_path: str
    repo: str | None = None
    repo_host: str = "github.com"
    flow_name: str | None = None
    git_token_secret_name: str | None = None
    git_token_username: str | None = None
    git_clone_url_secret_name: str | None = None
    branch_name: str | None = None
    tag: str | None = None
    commit: str | None = None
    clone_depth: int = 1
    use_ssh: bool = False
    format_access_token: bool = True

    _key = "flow_path"

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(each is not None for each in (self.branch_name, self.tag, self.commit)) > 1:
            raise ValueError("Only one of `branch_name`, `tag` and `commit` can be provided")
        if (self.repo is None) == (self.git_clone_url_secret_name is None):
            raise ValueError("Exactly one of `repo` and `git_clone_url_secret_name` must be provided")


@dataclass(repr=False, eq=False)
class Webhook(_Remote):
    """A service that is asked for the code by HTTP."""

    build_request_kwargs: Mapping[str, Any]
    build_request_http_method: str
    get_flow_request_kwargs: Mapping[str, Any]
    get_flow_request_http_method: str
    stored_as_script: bool = False
    flow_script_path: str | None = None
    build_secret_config: Mapping[str, Any] | None = None
    get_flow_secret_config: Mapping[str, Any] | None = None

    _key = "flow_script_path"


@dataclass(repr=False, eq=False)
class Docker(Storage):
    """An image of Docker."""

    registry_url: str | None = None
    base_image: str | None = None
    dockerfile: str | None = None
    python_dependencies: list[str] | None = None
    image_name: str | None = None
    image_tag: str | None = None
    env_vars: Mapping[str, str] | None = None
    files: Mapping[str, str] | None = None
    prefect_version: str | None = None
    local_image: bool = False
    ignore_healthchecks: bool = False
    base_url: str | None = None
    tls_config: Any = False
    build_kwargs: Mapping[str, Any] | None = None
    prefect_directory: str = "/opt/prefect"
    path: str | None = None
    stored_as_script: bool = False
    extra_dockerfile_commands: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base_image and self.dockerfile:
            raise ValueError("Only one of `base_image` and `dockerfile` can be provided.")
        self.python_dependencies = list(self.python_dependencies or ())
        for name in ("env_vars", "files", "build_kwargs"):
            setattr(self, name, dict(getattr(self, name) or {}))

    @property
    def name(self) -> str:
        """The name of the image, with its registry and tag."""
        if not (self.image_name and self.image_tag):
            raise ValueError("Docker storage is missing required fields image_name and image_tag")
        return "/".join(filter(None, [self.registry_url, f"{self.image_name}:{self.image_tag}"]))

    def place(self, flow: Any) -> str:
        """Return where the flow would be in the image."""
        return self.path or f"{self.prefect_directory}/flows/{slug(flow.name)}.prefect"


def slug(text: str) -> str:
    """Return a text as it can be in a path.

    Examples
    --------
    >>> slug("My flow, 2")
    'my-flow-2'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def labels_of(flow: Any) -> set[str]:
    """Return the labels that the user gave a flow's run config, environment and storage."""
    storage = getattr(flow.storage, "own_labels", ())  # no default labels: agents have none here
    found = (getattr(each, "labels", None) or () for each in (flow.run_config, flow.environment))
    return set(storage).union(*found)
