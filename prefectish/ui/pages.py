"""The pages: what a query found, in a template."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from prefectish.ui.queries.runs import runs_page
from prefectish.ui.records import RunFilter
from prefectish.ui.rendering import show
from prefectish.ui.requests import page_number, record_of, source_of

#: Routes that are pages; each is a function here.
NAMES = ("runs",)


def runs(request: Request) -> Response:
    """Show the runs of a history."""
    found = runs_page(source_of(request), record_of(RunFilter, request), page_number(request))
    return show(request, "runs.html", found)
