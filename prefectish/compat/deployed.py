"""Flows that are registered: what `flow.register` and `prefect.backend` say of deployments and their runs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

from sqlalchemy import update

from prefectish.compat.environments import say_what_is_ignored
from prefectish.compat.run_configs import LocalRun, RunConfig
from prefectish.compat.storage import labels_of
from prefectish.engine.context import get_logger
from prefectish.engine.state import Mapped, Pending, State
from prefectish.environments import LocalEnvironment
from prefectish.flow_source import origin_of
from prefectish.history import schema
from prefectish.history.recorded_states import task_state
from prefectish.registry import AttachedRun, Deployment, attach, deployments
from prefectish.registry.agent import Agent
from prefectish.registry.deploying import deploy

logger = get_logger("compat")


def register(
    flow: Any,
    project_name: str | None = None,
    build: bool = True,
    labels: Iterable[str] | None = None,
    set_schedule_active: bool = True,
) -> str:
    """Deploy a flow, and return the identifier of this version of it; see :meth:`prefectish.Flow.deploy`."""
    say_what_is_ignored(flow)
    wanted = labels_of(flow) | set(labels or ())
    config = flow.run_config if isinstance(flow.run_config, RunConfig) else None
    environment = None
    if config is not None and (config.env or isinstance(config, LocalRun)):
        folder = getattr(config, "working_dir", None)
        environment = LocalEnvironment(working_dir=folder or _folder_of(flow), env_vars=_texts(config.env))
    made = deploy(
        flow, project_name or "default", environment=environment, labels=sorted(wanted), build=build,
        set_schedule_active=set_schedule_active,
    )  # fmt: skip
    started = "".join(f" --label {label}" for label in made.labels)
    logger.info("registered %s, version %d; `prefectish agent start%s` runs it", made.path, made.version, started)
    return str(made.id)


def _texts(env: Mapping[str, Any] | None) -> dict[str, str]:
    return {name: str(value) for name, value in (env or {}).items()}


def start_agent(flow: Any) -> None:
    """Work as an agent for the labels of a flow, until Ctrl-C."""
    Agent(labels=labels_of(flow)).start()


def _folder_of(flow: Any) -> str | None:
    where = (origin_of(flow) or "").rpartition(":")[0]
    return os.path.dirname(where) if os.path.isfile(where) else None


def deployment_of(flow_id: str | None = None, flow_name: str | None = None, project_name: str = "") -> Deployment:
    """Return a deployment by its identifier, or the newest of a name.

    Raises
    ------
    ValueError
        There is none.
    """
    if flow_id is not None:
        found = [each for each in deployments(archived=True) if str(each.id) == str(flow_id)]
    else:
        found = [each for each in deployments(project_name or None) if flow_name in (each.flow_name, each.name)]
    if not found:
        known = ", ".join(each.path for each in deployments()) or "none"
        wanted = f"id {flow_id!r}" if flow_id is not None else repr(f"{project_name or '*'}/{flow_name}")
        raise ValueError(f"Flow {wanted} not found; registered are: {known}")
    return max(found, key=lambda each: each.created)


class FlowView:
    """A registered flow.

    Attributes
    ----------
    flow_id, name, project_name
        Its identifier, its name, and the project.
    archived
        Whether another version took its place.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.flow_id = str(deployment.id)
        self.name = deployment.flow_name
        self.project_name = deployment.project
        self.archived = deployment.archived is not None
        self.flow_group_labels = list(deployment.labels)

    @classmethod
    def from_flow_id(cls, flow_id: str) -> Self:
        """Return the flow of an identifier; ValueError if there is none."""
        return cls(deployment_of(flow_id))

    @classmethod
    def from_flow_name(cls, flow_name: str, project_name: str = "", last_updated: bool = False) -> Self:
        """Return the flow of a name; ValueError if there is none."""
        return cls(deployment_of(None, flow_name, project_name))

    def __repr__(self) -> str:
        return f"<FlowView: {self.project_name}/{self.name}>"


class FlowRunLog(NamedTuple):
    """A line of the log of a run."""

    timestamp: datetime
    level: int
    message: str


class TaskRunView:
    """A task, or a child of a map, in a run.

    Attributes
    ----------
    task_run_id, task_slug, name
        What it is called; `name` is the slug, with the index of a child.
    map_index
        -1 for a task that is not mapped, and for a map as a whole.
    state
        Its state as it is recorded; pending as long as it has not ended.
    """

    def __init__(self, run: AttachedRun, task_slug: str, map_index: int = -1) -> None:
        self._run = run
        self.flow_run_id = run.id
        self.task_slug = run._slug(task_slug)
        self.map_index = map_index
        self.name = self.task_slug if map_index < 0 else f"{self.task_slug}[{map_index}]"
        self.task_run_id = f"{run.id}/{self.name}"

    @classmethod
    def from_task_slug(cls, task_slug: str, flow_run_id: str, map_index: int = -1) -> Self:
        """Return a task of a run."""
        return cls(attach(flow_run_id), task_slug, map_index)

    @classmethod
    def from_task_run_id(cls, task_run_id: str) -> Self:
        """Return a task by the identifier that such a view has."""
        run, _, name = task_run_id.partition("/")
        slug, bracket, index = name.removesuffix("]").rpartition("[")
        return cls(attach(run), slug if bracket else name, int(index) if bracket else -1)

    @property
    def state(self) -> State:
        """The state as it is recorded now."""
        row = self._run._begun()
        is_mapped = next(facts["mapped"] for facts in row.tasks() if facts["slug"] == self.task_slug)
        state = task_state(row, self.task_slug, bool(is_mapped))
        if self.map_index < 0 or not isinstance(state, Mapped):
            return state
        return state.map_states[self.map_index] or Pending()

    def get_result(self) -> Any:
        """Return the result, if it was stored; of a map the list of its children's."""
        state = self.state
        if not isinstance(state, Mapped):
            return state.result
        return [None if child is None else child.result for child in state.map_states]

    def iter_mapped(self) -> Iterator[Self]:
        """Yield the children of a map."""
        state = self.state
        if isinstance(state, Mapped):
            for index in range(len(state.map_states)):
                yield type(self)(self._run, self.task_slug, index)

    def __repr__(self) -> str:
        return f"<TaskRunView: {self.name}>"


class FlowRunView:
    """A run of a registered flow; it shows the run as it is when it is asked.

    Attributes
    ----------
    flow_run_id
        Identifier of the run.
    name
        Its name.
    state
        Its state.
    """

    def __init__(self, flow_run_id: str) -> None:
        self._run = attach(flow_run_id)
        self.flow_run_id = self._run.id

    @classmethod
    def from_flow_run_id(cls, flow_run_id: str, load_static_tasks: bool = False, **_: Any) -> Self:
        """Return a run by its identifier; ValueError if there is none."""
        try:
            return cls(flow_run_id)
        except KeyError as error:
            raise ValueError(str(error.args[0])) from None

    @property
    def name(self) -> str:
        """The name of the run; its identifier, as long as it has none."""
        row = self._run._row()
        return (row and row.name) or self.flow_run_id

    @property
    def state(self) -> State:
        """The state of the run as it is now."""
        return self._run.state

    def get_latest(self, load_static_tasks: bool = False) -> Self:
        """Return a view of the run as it is now."""
        return type(self)(self.flow_run_id)

    def get_flow_metadata(self) -> FlowView:
        """Return the flow of the run."""
        path = str(self._run._begun().deployment)
        project, _, name = path.partition("/")
        return FlowView.from_flow_name(name, project)

    def get_task_run(self, task_slug: str | None = None, task_run_id: str | None = None) -> TaskRunView:
        """Return a task of the run by its slug or identifier."""
        if (task_slug is None) == (task_run_id is None):
            raise ValueError("give one of task_slug and task_run_id")
        if task_run_id is not None:
            return TaskRunView.from_task_run_id(task_run_id)
        return TaskRunView(self._run, str(task_slug))

    def get_all_task_runs(self) -> list[TaskRunView]:
        """Return the tasks of the run."""
        return [TaskRunView(self._run, facts["slug"]) for facts in self._run._begun().tasks()]

    def get_logs(self, start_time: datetime | None = None, end_time: datetime | None = None) -> list[FlowRunLog]:
        """Return the log of its tasks, in the order of time."""
        lines = self._run._begun().logs()
        levels = logging.getLevelNamesMapping()
        found = [FlowRunLog(line.at, levels.get(line.level, logging.INFO), line.text) for line in lines]
        return [
            line
            for line in found
            if (start_time is None or line.timestamp > start_time) and (end_time is None or line.timestamp <= end_time)
        ]

    def __repr__(self) -> str:
        return f"<FlowRunView: {self.flow_run_id}, {type(self.state).__name__}>"


def watch_flow_run(
    flow_run_id: str,
    stream_states: bool = True,
    stream_logs: bool = True,
    max_duration: timedelta = timedelta(hours=12),
    poll_interval: float = 0.5,
) -> Iterator[FlowRunLog]:
    """Yield changes of the state of a run, and what its tasks log, until it has ended.

    Raises
    ------
    RuntimeError
        It has not ended after `max_duration`.
    """
    run, end = attach(flow_run_id), time.monotonic() + max_duration.total_seconds()
    told, shown = "", 0
    while True:
        has_ended = run.has_ended()
        state = run.state
        if stream_states and type(state).__name__ != told:
            told = type(state).__name__
            yield FlowRunLog(datetime.now(UTC), 20, f"Entered state <{told}>: {state.message}")
        if stream_logs and run._row() is not None:
            lines = FlowRunView(flow_run_id).get_logs()
            yield from lines[shown:]
            shown = len(lines)
        if has_ended or state.is_finished():
            return
        if time.monotonic() >= end:
            raise RuntimeError(f"flow run {flow_run_id} has not ended after {max_duration}")
        time.sleep(poll_interval)


def rename(flow_run_id: str, name: str) -> bool:
    """Give a run that has begun another name."""
    run = attach(flow_run_id)
    with run._store.writing() as connection:
        query = update(schema.runs).where(schema.runs.c.id == run.id).values(name=name)
        return connection.execute(query).rowcount > 0
