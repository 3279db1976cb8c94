"""The pages: what a query found, in a template."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.requests import Request

from prefectish.ui import lookups
from prefectish.ui.queries.registry import open_questions
from prefectish.ui.records import Record
from prefectish.ui.rendering import context, rendered
from prefectish.ui.requests import Answer, shared, source_of

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


def page(name: str) -> Answer:
    """Return what answers a request for a page."""
    look_up, template = PAGES[name]

    def show(request: Request) -> str:
        found = look_up(request)
        return rendered(template, {**context(request, found), "questions": open_questions(source_of(request))})

    return shared(show, "text/html")
