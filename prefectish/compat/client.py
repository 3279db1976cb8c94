"""`prefect.Client`: there is no server; what it said of flows and runs is asked of the database of the history."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, NoReturn

from prefectish.compat.deployed import FlowRunView, register, rename
from prefectish.compat.exceptions import ClientError
from prefectish.compat.flow_runs import ask_for_run
from prefectish.engine.state import State
from prefectish.registry import attach


class FlowRunInfoResult(NamedTuple):
    """Facts of a run."""

    id: str
    name: str
    flow_id: str
    state: State


class Client:
    """Asks for runs of registered flows, and of their states.

    Parameters
    ----------
    *args, **kwargs
        Address and keys of a server; ignored.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def create_project(self, project_name: str, project_description: str | None = None) -> str:
        """Return the name: a project is there once a flow is registered in it."""
        return project_name

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

    def graphql(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuse: there is no server to ask."""
        raise ClientError(
            "there is no server to ask; prefectish.deployments() and prefectish.history.runs() list flows and runs"
        )

    post = get = graphql

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"Client has no {name!r} here, as there is no server; prefectish.deployments(), prefectish.history.runs() "
            "and prefectish.attach(run_id) have what there is of flows and runs"
        )
