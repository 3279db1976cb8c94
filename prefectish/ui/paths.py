"""The addresses of the page, in one list, and how others refer to them.

A `step` is the number of a task in its run, a `row` that of an item: its map index, and 0 for a single task.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

PATHS: Mapping[str, str] = {
    "runs": "/",
    "run": "/runs/{run}",
    "logs": "/runs/{run}/logs",
    "failures": "/runs/{run}/failures",
    "timeline": "/runs/{run}/timeline",
    "task": "/runs/{run}/tasks/{step:number}",
    "find": "/runs/{run}/tasks/{step:number}/find",
    "item": "/runs/{run}/tasks/{step:number}/items/{row:number}",
    "compare": "/compare",
    "deployments": "/deployments",
    "deployment": "/deployments/{project}/{name}",
    "agents": "/agents",
    "limits": "/limits",
    "approvals": "/approvals",
    # what buttons post to
    "ask": "/runs/{run}/ask",
    "approve": "/runs/{run}/approve",
    "set_limit": "/limits/set",
    "run_now": "/deployments/{project}/{name}/run",
    "archive": "/deployments/{project}/{name}/archive",
    "set_active": "/deployments/{project}/{name}/active",
    # what scripts read
    "events": "/events/{topic:path}",
    "picture": "/api/runs/{run}/tasks/{step:number}/picture",
    "openapi": "/api/openapi.json",
}


def url(name: str, /, query: Mapping[str, Any] | None = None, **parts: Any) -> str:
    """Return the address of a route relative to the base of the document.

    Examples
    --------
    >>> url("run", run="a b"), url("item", run="r", step=1, row=2), url("runs", query={"flow": "x&y", "page": None})
    ('runs/a%20b', 'runs/r/tasks/1/items/2', './?flow=x%26y')
    >>> url("events", topic="run/1")
    'events/run/1'
    """

    def given(found: re.Match[str]) -> str:
        return quote(str(parts[found[1]]), safe="/" if found[2] == ":path" else "")

    path = re.sub(r"{(\w+)(:\w+)?}", given, PATHS[name]).lstrip("/")
    known = {key: value for key, value in (query or {}).items() if value is not None}
    return (path or "./") + (f"?{urlencode(known, doseq=True)}" if known else "")
