"""`prefect.Client`: there is no server; what it said of flows and runs is asked of the database of the history."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, NoReturn

from prefectish.compat.deployed import FlowRunView, TaskRunView, register, rename
from prefectish.compat.exceptions import ClientError
from prefectish.compat.flow_runs import ask_for_run
from prefectish.compat.kv_store import delete_artifact, keep_artifact
from prefectish.engine.context import get_run_logger
from prefectish.engine.state import Cancelled, Cancelling, Paused, Resume, State
from prefectish.registry import attach, deployments


class FlowRunInfoResult(NamedTuple):
    """Facts of a run."""

    id: str
    name: str
    flow_id: str
    state: State


class TaskRunInfoResult(NamedTuple):
    """Facts of a task in a run."""

    id: str
    task_id: str
    task_slug: str
    version: int
    state: State


#: The one tenant that there is.
TENANT = "default"
#: What to do instead of what only a server could do, by the beginning of a method's name.
INSTEAD = {
    "set_secret": 'put NAME = "value" into secrets.toml in the home folder, or set PREFECTISH__SECRETS__NAME',
    "set_task_run_name": "give the task a task_run_name, which may be a template",
    "get_latest_cached_states": "a run looks up by itself what is cached, see cache_for and target",
    "get_tenant": "there is one tenant: see get_auth_tenant()",
    "get_cloud_url": "`prefectish ui` shows flows and runs",
    "register_agent": "`prefectish agent start` registers itself",
    "agent": "`prefectish agent list` and prefectish.agents() tell of agents",
}


def _no_server(instead: str) -> ClientError:
    return ClientError(f"there is no server to ask; {instead}")


class Client:
    """Asks for runs of registered flows, and of their states.

    Parameters
    ----------
    api_server, api_key, tenant_id, **kwargs
        Of a server; kept, and otherwise ignored.
    """

    def __init__(
        self, api_server: str | None = None, api_key: str | None = None, tenant_id: str | None = None, **kwargs: Any
    ) -> None:
        self.api_server = api_server
        self.api_key = api_key
        self.tenant_id = tenant_id
        self.headers: dict[str, Any] = {}

    # Tenants: there is one, and no login.

    @property
    def active_tenant_id(self) -> str:
        """The tenant."""
        return self.tenant_id or TENANT

    def get_default_tenant_slug(self, as_user: bool = True) -> str:
        """Return the name of the tenant."""
        return TENANT

    def get_auth_tenant(self) -> str:
        """Return the tenant."""
        return self.active_tenant_id

    def get_available_tenants(self) -> list[dict[str, str]]:
        """Return the tenant."""
        return [{"id": TENANT, "slug": TENANT, "name": TENANT}]

    def login_to_tenant(self, tenant_slug: str | None = None, tenant_id: str | None = None) -> bool:
        """Return whether this is the one tenant.

        Raises
        ------
        ValueError
            Neither is given.
        """
        if tenant_slug is None and tenant_id is None:
            raise ValueError("At least one of `tenant_slug` or `tenant_id` must be provided.")
        return TENANT in (tenant_slug, tenant_id)

    def switch_tenant(self, tenant_id: str) -> bool:
        """Return whether this is the one tenant."""
        return tenant_id == TENANT

    def logout_from_tenant(self) -> None:
        """Do nothing: there is no login."""

    save_auth_to_disk = logout_from_tenant

    def load_auth_from_disk(self) -> dict[str, Any]:
        """Return nothing: none is kept."""
        return {}

    def attach_headers(self, headers: Mapping[str, Any]) -> None:
        """Keep headers of requests, of which there are none."""
        self.headers.update(headers)

    # Flows and their runs.

    def create_project(self, project_name: str, project_description: str | None = None) -> str:
        """Return the name: a project is there once a flow is registered in it."""
        return project_name

    def delete_project(self, project_name: str) -> bool:
        """Archive the flows of a project.

        Raises
        ------
        ValueError
            There are none.
        """
        found = deployments(project_name)
        if not found:
            raise ValueError(f"Project {project_name} not found. Unable to delete project.")
        for each in found:
            each.archive()
        return True

    def register(self, flow: Any, project_name: str | None = None, build: bool = True,
                 set_schedule_active: bool = True, **_: Any) -> str:  # fmt: skip
        """Register a flow, and return its identifier."""
        return register(flow, project_name, build, set_schedule_active=set_schedule_active)

    def create_flow_run(
        self,
        flow_id: str | None = None,
        context: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        scheduled_start_time: datetime | None = None,
        idempotency_key: str | None = None,
        run_name: str | None = None,
        labels: Any = None,
        version_group_id: str | None = None,
        run_config: Any = None,
    ) -> str:
        """Ask for a run of a registered flow, and return its identifier."""
        return ask_for_run(
            flow_id, None, "", parameters, scheduled_start_time, idempotency_key, context=context, run_name=run_name,
            labels=labels, run_config=run_config, version_group_id=version_group_id,
        )  # fmt: skip

    def get_flow_run_info(self, flow_run_id: str) -> FlowRunInfoResult:
        """Return facts of a run."""
        view = FlowRunView.from_flow_run_id(flow_run_id)
        return FlowRunInfoResult(view.flow_run_id, view.name, view.get_flow_metadata().flow_id, view.state)

    def get_flow_run_state(self, flow_run_id: str) -> State:
        """Return the state of a run."""
        return FlowRunView.from_flow_run_id(flow_run_id).state

    def cancel_flow_run(self, flow_run_id: str) -> bool:
        """Cancel a run."""
        attach(flow_run_id).cancel()
        return True

    def set_flow_run_name(self, flow_run_id: str, name: str) -> bool:
        """Give a run that has begun another name."""
        return rename(flow_run_id, name)

    def set_flow_run_state(self, flow_run_id: str, state: State, version: int | None = None) -> State:
        """Ask a run to go into a state: Cancelled, Paused or Resume; return the state.

        Raises
        ------
        ClientError
            It is another state: those arise in the run.
        """
        run = attach(flow_run_id)
        if isinstance(state, Cancelled | Cancelling):
            run.cancel()
        elif isinstance(state, Paused):
            run.pause()
        elif isinstance(state, Resume):
            run.resume()
        else:
            raise _no_server(f"a run is cancelled, paused and resumed; {type(state).__name__} arises in the run itself")
        return state

    def update_flow_run_heartbeat(self, flow_run_id: str) -> None:
        """Do nothing: the process that drives a run says by itself that it is there."""

    update_task_run_heartbeat = update_flow_run_heartbeat

    def write_run_logs(self, logs: Sequence[Mapping[str, Any]]) -> bool:
        """Log lines here: the log of a run is what its tasks log."""
        for line in logs:
            get_run_logger().log(_level(line.get("level")), "%s", line.get("message"))
        return True

    # Tasks in a run.

    def get_task_run_info(
        self, flow_run_id: str, task_id: str | None, map_index: int | None = None
    ) -> TaskRunInfoResult:
        """Return facts of a task in a run, by its slug."""
        view = TaskRunView.from_task_slug(str(task_id), flow_run_id, -1 if map_index is None else map_index)
        return TaskRunInfoResult(view.task_run_id, str(task_id), view.task_slug, 0, view.state)

    def get_task_run_state(self, task_run_id: str) -> State:
        """Return the state of a task in a run, by the identifier that `get_task_run_info` gave."""
        return TaskRunView.from_task_run_id(task_run_id).state

    def set_task_run_state(
        self, task_run_id: str, state: State, version: int | None = None, cache_for: Any = None
    ) -> State:
        """Let a paused task go on, by Resume, or cancel it; return the state.

        Raises
        ------
        ClientError
            It is another state: those arise in the run.
        """
        view = TaskRunView.from_task_run_id(task_run_id)
        index = None if view.map_index < 0 else view.map_index
        run = attach(view.flow_run_id)
        if isinstance(state, Resume):
            run.approve(view.task_slug, index=index)
        elif isinstance(state, Cancelled | Cancelling):
            run.cancel(view.task_slug, index)
        else:
            raise _no_server(f"a task is resumed or cancelled; {type(state).__name__} arises in the run itself")
        return state

    def create_task_run_artifact(self, task_run_id: str, kind: str, data: dict[str, Any]) -> str:
        """Keep an artifact, and return its identifier."""
        return keep_artifact(None, kind, data)

    def update_task_run_artifact(self, task_run_artifact_id: str, data: dict[str, Any]) -> None:
        """Put other data into an artifact."""
        keep_artifact(task_run_artifact_id, None, data)

    def delete_task_run_artifact(self, task_run_artifact_id: str) -> None:
        """Delete an artifact."""
        delete_artifact(task_run_artifact_id)

    # What only a server could do.

    def graphql(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuse: there is no server to ask."""
        raise _no_server("prefectish.deployments() and prefectish.history.runs() list flows and runs")

    post = get = graphql

    def __getattr__(self, name: str) -> Any:
        instead = INSTEAD.get(name, INSTEAD["agent"] if name.endswith(("_agent", "_agent_config")) else None)
        if instead is None:
            raise AttributeError(
                f"Client has no {name!r} here, as there is no server; prefectish.deployments(), "
                "prefectish.history.runs() and prefectish.attach(run_id) have what there is of flows and runs"
            )

        def refuse(*args: Any, **kwargs: Any) -> NoReturn:
            raise _no_server(instead)

        return refuse


def _level(name: Any) -> int:
    """Return the level of a line of a log by its name."""
    return logging.getLevelNamesMapping().get(str(name).upper(), logging.INFO)
