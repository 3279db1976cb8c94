"""The queries by the request that asks for them, the same for pages and the API."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from starlette.requests import Request

from prefectish.ui import records
from prefectish.ui.queries import comparing, failures, items, logs, maps, registry, run, runs, timelines
from prefectish.ui.records import Number, Record, Text
from prefectish.ui.requests import record_of, source_of


class Nothing(Record):
    """No query parameters."""


class RunsQuery(records.RunFilter):
    """Query of the list of runs."""

    page: Number = Field(default=1, ge=1)
    size: int = Field(default=runs.PAGE_SIZE, ge=1, le=200, description="runs on a page")


class FailuresQuery(Record):
    """Query of the failed items of a run."""

    cause: Number | None = Field(default=None, description="number of the cause")
    step: Number | None = None
    text: Text | None = Field(default=None, description="a part of the key, name, message or worker")
    sort: Literal["item", "seconds", "attempts", "worker", "time"] = "item"
    descending: bool = False
    page: Number = Field(default=1, ge=1)


class LogsQuery(Record):
    """Query of log lines."""

    step: Number | None = None
    row: Number | None = None
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "DEBUG"
    text: Text | None = None
    after: Number | None = Field(default=None, description="lines recorded after the one with this number")
    before: Number | None = Field(default=None, description="lines recorded before the one with this number")
    limit: int = Field(default=logs.PAGE_SIZE, ge=1, le=1000)


class FindQuery(Record):
    """Query of a search among the items of a map."""

    text: Text = Field(default="", description="an index, or a part of a key or name")


class PictureQuery(Record):
    """Query of the picture of a map."""

    by: Literal["state", "duration"] = "state"


class CompareQuery(Record):
    """Query of a comparison."""

    before: Text | None = Field(default=None, description="id of the earlier run")
    after: Text | None = Field(default=None, description="id of the later run")


class DeploymentsQuery(Record):
    """Query of the list of deployments."""

    archived: bool = Field(default=False, description="former versions too")


def _run_id(request: Request) -> str:
    found: str = request.path_params["run"]
    return found


def list_runs(request: Request) -> records.RunsPage:
    """Return a page of runs, the newest first."""
    query = record_of(RunsQuery, request)
    wanted = records.RunFilter(**query.model_dump(include=set(records.RunFilter.model_fields)))
    return runs.runs_page(source_of(request), wanted, query.page, query.size)


def show_run(request: Request) -> records.RunDetail:
    """Return a run: its tasks, causes of failures, requests."""
    return run.run_detail(source_of(request), _run_id(request))


def show_timeline(request: Request) -> records.Timeline:
    """Return what of a run ran when, by worker and by task, and the slowest items."""
    return timelines.timeline(source_of(request), _run_id(request))


def list_failures(request: Request) -> records.FailedItems:
    """Return a page of the failed items of a run."""
    query = record_of(FailuresQuery, request)
    return failures.failed_items(source_of(request), _run_id(request), **query.model_dump())


def list_lines(request: Request) -> records.LogLines:
    """Return log lines of a run: the last ones, or those before or after one."""
    query = record_of(LogsQuery, request)
    return logs.log_lines(source_of(request), _run_id(request), **query.model_dump())


def show_task(request: Request) -> records.MapDetail:
    """Return a task of a run: a map, or a single one."""
    return maps.map_detail(source_of(request), _run_id(request), request.path_params["step"])


def find_items(request: Request) -> records.Found:
    """Return items of a map by their index, or a part of their key or name."""
    text = record_of(FindQuery, request).text
    return maps.find_items(source_of(request), _run_id(request), request.path_params["step"], text)


def show_item(request: Request) -> records.ItemDetail:
    """Return an item: attempts, times, traceback, log, inputs."""
    path = request.path_params
    return items.item_detail(source_of(request), path["run"], path["step"], path["row"])


def compare(request: Request) -> records.ComparePage:
    """Return the comparison of two runs, and the runs to choose from."""
    query = record_of(CompareQuery, request)
    return comparing.compare_page(source_of(request), query.before, query.after)


def list_deployments(request: Request) -> records.DeploymentsPage:
    """Return the deployed flows."""
    return registry.deployments_page(source_of(request), record_of(DeploymentsQuery, request).archived)


def show_deployment(request: Request) -> records.DeploymentDetail:
    """Return a deployed flow: its versions, runs, and the form of its parameters."""
    path = request.path_params
    return registry.deployment_detail(source_of(request), path["project"], path["name"])


def list_agents(request: Request) -> records.AgentsPage:
    """Return the agents, and what waits for one."""
    return registry.agents_page(source_of(request))


def list_limits(request: Request) -> records.LimitsPage:
    """Return the limits across runs."""
    return registry.limits_page(source_of(request))


def list_approvals(request: Request) -> records.ApprovalsPage:
    """Return what waits for an approval."""
    return registry.approvals_page(source_of(request))
