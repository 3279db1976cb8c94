"""The JSON API under ``/api``: what the pages show, and what their buttons ask for."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from prefectish.ui import lookups, posts
from prefectish.ui.actions import ACTIONS
from prefectish.ui.lookups import PictureQuery
from prefectish.ui.openapi import Operation, document
from prefectish.ui.paths import PATHS
from prefectish.ui.queries.maps import Pixels, picture_bytes
from prefectish.ui.records import Asked, Record
from prefectish.ui.requests import Answer, record_of, shared, source_of


class Lookup(NamedTuple):
    """What is looked up at an address."""

    look_up: Callable[[Request], Record]
    query: type[Record]


#: By the address below ``/api``.
LOOKUPS: Mapping[str, Lookup] = {
    "/runs": Lookup(lookups.list_runs, lookups.RunsQuery),
    "/runs/{run}": Lookup(lookups.show_run, lookups.Nothing),
    "/runs/{run}/logs": Lookup(lookups.list_lines, lookups.LogsQuery),
    "/runs/{run}/failures": Lookup(lookups.list_failures, lookups.FailuresQuery),
    "/runs/{run}/timeline": Lookup(lookups.show_timeline, lookups.Nothing),
    "/runs/{run}/tasks/{step:number}": Lookup(lookups.show_task, lookups.Nothing),
    "/runs/{run}/tasks/{step:number}/find": Lookup(lookups.find_items, lookups.FindQuery),
    "/runs/{run}/tasks/{step:number}/items/{row:number}": Lookup(lookups.show_item, lookups.Nothing),
    "/compare": Lookup(lookups.compare, lookups.CompareQuery),
    "/deployments": Lookup(lookups.list_deployments, lookups.DeploymentsQuery),
    "/deployments/{project}/{name}": Lookup(lookups.show_deployment, lookups.Nothing),
    "/agents": Lookup(lookups.list_agents, lookups.Nothing),
    "/limits": Lookup(lookups.list_limits, lookups.Nothing),
    "/approvals": Lookup(lookups.list_approvals, lookups.Nothing),
}


def routes() -> list[BaseRoute]:
    """Return the routes of the API; the addresses of requests are those of the pages' forms, below ``/api``."""
    return [
        *(Route(f"/api{path}", _json(each)) for path, each in LOOKUPS.items()),
        *(Route(f"/api{PATHS[name]}", posts.program(name), methods=["POST"]) for name in ACTIONS),
        Route(PATHS["picture"], picture, name="picture"),
        Route(PATHS["openapi"], description, name="openapi"),
    ]


def _json(each: Lookup) -> Answer:
    return shared(lambda request: each.look_up(request).model_dump_json(), "application/json")


async def picture(request: Request) -> Response:
    """Return a byte for each item of a map: its state or its duration."""
    source, key = source_of(request), (request.scope["path"], request.scope["query_string"])
    found = source.recent(key) or await run_in_threadpool(source.answered, key, lambda: _packed(request))
    headers = {"X-Longest": f"{found.longest:.6f}", "Vary": "Accept-Encoding"}
    content = found.bytes
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
    else:
        content = gzip.decompress(content)
    return Response(content, media_type="application/octet-stream", headers=headers)


def _packed(request: Request) -> Pixels:
    """Return the bytes of a picture compressed, once for all who look at it: a million are few that way."""
    by, path = record_of(PictureQuery, request).by, request.path_params
    found = picture_bytes(source_of(request), path["run"], path["step"], by)
    return Pixels(gzip.compress(found.bytes, 3, mtime=0), found.longest)


def operations() -> list[Operation]:
    """Return what the API can do, for its description."""
    from typing import get_type_hints

    reads = [
        Operation("get", f"/api{path}", each.look_up, each.query, None, get_type_hints(each.look_up)["return"])
        for path, each in LOOKUPS.items()
    ]
    reads.append(Operation("get", PATHS["picture"], picture, PictureQuery, None, None))
    posted = [
        Operation("post", f"/api{PATHS[name]}", action.act, lookups.Nothing, action.body, Asked)
        for name, action in ACTIONS.items()
    ]
    return [*reads, *posted]


def description(request: Request) -> Response:
    """Return the description of the API."""
    return Response(json.dumps(document(operations())), media_type="application/json")
