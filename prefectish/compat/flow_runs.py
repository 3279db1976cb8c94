"""`prefect.tasks.prefect`: tasks that ask for runs of registered flows; an agent runs them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from prefectish.compat.deployed import FlowRunView, TaskRunView, deployment_of, rename, watch_flow_run
from prefectish.compat.task_helpers import defaults_from_attrs, task
from prefectish.compat.tasks import Task
from prefectish.engine.context import current, get_run_logger
from prefectish.engine.signals import signal_from_state
from prefectish.engine.state import State
from prefectish.history.child_runs import event_of
from prefectish.registry import attach, queue
from prefectish.registry.children import begin

#: Of options that mean nothing here.
_IGNORED = "{} is ignored: a run has the {} of its deployment"


def ask_for_run(
    flow_id: str | None,
    flow_name: str | None,
    project_name: str,
    parameters: Mapping[str, Any] | None,
    scheduled_start_time: datetime | None = None,
    idempotency_key: str | None = None,
    **ignored: Any,
) -> str:
    """Ask for a run of a registered flow and return its identifier; of one attempt of a task there is one run."""
    if (flow_id is None) == (flow_name is None):
        raise ValueError(f"give one of flow_id and flow_name, got {flow_id!r} and {flow_name!r}")
    for name, value in ignored.items():
        if value is not None:
            get_run_logger().warning(_IGNORED.format(name, name))
    deployment = deployment_of(flow_id, flow_name, project_name)
    if scheduled_start_time is not None:
        at = scheduled_start_time
        run_id: str = deployment.run(parameters, at=at if at.tzinfo else at.replace(tzinfo=UTC))
        return run_id
    parent = current().get("flow_run_id")
    if idempotency_key is not None:  # one run for each key
        event = event_of("key", idempotency_key)
        with deployment._store.writing() as connection:
            return queue.ask_for(
                connection, deployment, parameters or {}, begun_by="parent", due=time.time(), event=event, parent=parent
            )
    if parent is None:
        asked: str = deployment.run(parameters)
        return asked
    return begin(deployment.path, None, parameters or {}).id


@task
def create_flow_run(
    flow_id: str | None = None,
    flow_name: str | None = None,
    project_name: str = "",
    parameters: dict[str, Any] | None = None,
    context: dict[str, Any] | None = None,
    labels: Any = None,
    run_name: str | None = None,
    run_config: Any = None,
    scheduled_start_time: datetime | None = None,
    idempotency_key: str | None = None,
    task_run_name: str | None = None,
) -> str:
    """Ask for a run of a registered flow, and return its identifier."""
    return ask_for_run(
        flow_id, flow_name, project_name, parameters, scheduled_start_time, idempotency_key, context=context,
        labels=labels, run_name=run_name, run_config=run_config,
    )  # fmt: skip


@task
def wait_for_flow_run(
    flow_run_id: str,
    stream_states: bool = True,
    stream_logs: bool = False,
    raise_final_state: bool = False,
    max_duration: timedelta = timedelta(hours=12),
    task_run_name: str | None = None,
) -> FlowRunView:
    """Wait for the end of a run; with `raise_final_state` the task ends in its state."""
    logger = get_run_logger()
    for line in watch_flow_run(flow_run_id, stream_states, stream_logs, max_duration):
        logger.log(line.level, "Flow run %s: %s", flow_run_id, line.message)
    view = FlowRunView.from_flow_run_id(flow_run_id)
    if raise_final_state:
        _raise(view.state, flow_run_id, view)
    return view


@task
def get_task_run_result(flow_run_id: str, task_slug: str, map_index: int = -1, poll_time: int = 5) -> Any:
    """Wait for the end of a run, and return the result of one of its tasks, if it was stored."""
    if flow_run_id == current().get("flow_run_id"):
        raise ValueError("Given `flow_run_id` is the same as the currently running flow, which would never end.")
    attach(flow_run_id).wait()
    return TaskRunView.from_task_slug(task_slug, flow_run_id, map_index).get_result()


class StartFlowRun(Task):
    """Asks for a run of a registered flow, and returns its identifier.

    Parameters
    ----------
    flow_name, project_name, parameters
        The flow, and values of its parameters.
    wait
        Whether the task ends when the run does, in the state of the run.
    **kwargs
        As for a task.
    """

    def __init__(
        self,
        flow_name: str | None = None,
        project_name: str | None = None,
        parameters: dict[str, Any] | None = None,
        run_config: Any = None,
        wait: bool = False,
        new_flow_context: dict[str, Any] | None = None,
        run_name: str | None = None,
        scheduled_start_time: datetime | None = None,
        poll_interval: timedelta = timedelta(seconds=10),
        create_link_artifact: bool = True,
        **kwargs: Any,
    ) -> None:
        self.flow_name = flow_name
        self.project_name = project_name
        self.parameters = parameters
        self.wait = wait
        self.new_flow_context = new_flow_context
        self.run_name = run_name
        self.run_config = run_config
        self.scheduled_start_time = scheduled_start_time
        if poll_interval.total_seconds() < 3:
            raise ValueError(f"`poll_interval` needs to be at least 3 seconds, got {poll_interval}")
        self.poll_interval = poll_interval
        self.create_link_artifact = create_link_artifact
        self.begins_runs = wait  # which are cancelled with it
        self.store = None
        kwargs.setdefault("name", f"Flow {flow_name}" if flow_name else type(self).__name__)
        super().__init__(**kwargs)

    @defaults_from_attrs(
        "flow_name", "project_name", "parameters", "new_flow_context", "run_name", "run_config", "scheduled_start_time"
    )
    def run(
        self,
        flow_name: str | None = None,
        project_name: str | None = None,
        parameters: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
        new_flow_context: dict[str, Any] | None = None,
        run_name: str | None = None,
        run_config: Any = None,
        scheduled_start_time: datetime | None = None,
        **_: Any,
    ) -> str:
        """Ask for the run, and with `wait` wait for its end."""
        if flow_name is None:
            raise ValueError("Must provide a flow name.")
        run_id = ask_for_run(
            None, flow_name, project_name or "", parameters, scheduled_start_time, idempotency_key,
            context=new_flow_context, run_name=run_name, run_config=run_config,
        )  # fmt: skip
        if self.wait:
            _raise(attach(run_id).wait(), run_id, run_id)
        return run_id


class CancelFlowRun(Task):
    """Cancels a run.

    Parameters
    ----------
    flow_run_id
        Its identifier; default: that of the run in which the task runs.
    """

    def __init__(self, flow_run_id: str | None = None, **kwargs: Any) -> None:
        self.flow_run_id = flow_run_id
        super().__init__(**kwargs)

    @defaults_from_attrs("flow_run_id")
    def run(self, flow_run_id: str | None = None) -> bool:
        """Cancel the run."""
        attach(_run_id(flow_run_id)).cancel()
        return True


class RenameFlowRun(Task):
    """Gives a run another name.

    Parameters
    ----------
    flow_run_id
        Its identifier; default: that of the run in which the task runs.
    flow_run_name
        The name.
    """

    def __init__(self, flow_run_id: str | None = None, flow_run_name: str | None = None, **kwargs: Any) -> None:
        self.flow_run_id = flow_run_id
        self.flow_run_name = flow_run_name
        super().__init__(**kwargs)

    @defaults_from_attrs("flow_run_id", "flow_run_name")
    def run(self, flow_run_id: str | None = None, flow_run_name: str | None = None) -> bool:
        """Rename the run, and return whether it has begun."""
        if not flow_run_name:
            raise ValueError("Must provide a flow run name: `flow_run_name`.")
        return rename(_run_id(flow_run_id), flow_run_name)


def _run_id(given: str | None) -> str:
    """Return an identifier that is given, or that of the run in which this is called."""
    found = given or current().get("flow_run_id")
    if not found:
        raise ValueError("`flow_run_id` must be explicitly provided or available in the context")
    return str(found)


def _raise(state: State, run_id: str, result: Any) -> None:
    """End the task in a state of the kind in which a run ended."""
    raise signal_from_state(state)(f"{run_id} finished in state {state!r}", result=result)
