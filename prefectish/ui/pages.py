"""The pages: what a query found, in a template."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from prefectish.ui import lookups
from prefectish.ui.records import Record
from prefectish.ui.rendering import show

#: What is looked up for each page, and its template, by the name of its route.
PAGES: Mapping[str, tuple[Callable[[Request], Record], str]] = {
    "runs": (lookups.list_runs, "runs.html"),
    "run": (lookups.show_run, "run.html"),
    "logs": (lookups.list_lines, "logs.html"),
    "failures": (lookups.list_failures, "failures.html"),
    "timeline": (lookups.show_timeline, "timeline.html"),
    "task": (lookups.show_task, "task.html"),
    "find": (lookups.find_items, "found.html"),
    "item": (lookups.show_item, "item.html"),
    "compare": (lookups.compare, "compare.html"),
    "deployments": (lookups.list_deployments, "deployments.html"),
    "deployment": (lookups.show_deployment, "deployment.html"),
    "agents": (lookups.list_agents, "agents.html"),
    "limits": (lookups.list_limits, "limits.html"),
    "approvals": (lookups.list_approvals, "approvals.html"),
}


def page(name: str) -> Callable[[Request], Response]:
    """Return what answers a request for a page."""
    look_up, template = PAGES[name]

    def answer(request: Request) -> Response:
        return show(request, template, look_up(request))

    return answer
