"""Templates filled with records; all values are escaped."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, Response

from prefectish.display import page as display
from prefectish.next_command import NextCommand
from prefectish.ui.access import Access
from prefectish.ui.drawing import busy, color_of, graph, map_states
from prefectish.ui.paths import url
from prefectish.ui.security import root_of
from prefectish.ui.source import Source

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = os.path.dirname(__file__)
TEMPLATES, STATIC = os.path.join(_HERE, "templates"), os.path.join(_HERE, "static")


@cache
def environment() -> Environment:
    """Return the templates of the page."""
    made = display.environment(TEMPLATES)
    made.filters["state_color"] = color_of
    made.globals.update(url=url, static=static, graph=graph, busy=busy, map_states=map_states)
    return made


@cache
def static(file: str) -> str:
    """Return the address of a file below ``static/``, which changes with its content."""
    with open(os.path.join(STATIC, file), "rb") as opened:
        digest = hashlib.sha256(opened.read()).hexdigest()[:12]
    return f"static/{quote(file)}?v={digest}"


def compile_all() -> None:
    """Compile all templates, so that the first viewer of each page does not wait for it."""
    for name in environment().list_templates():
        environment().get_template(name)


def rendered(template: str, values: dict[str, Any]) -> str:
    """Return a template filled with values."""
    return environment().get_template(template).render(values)


def values_for(source: Source, access: Access, page: Any, here: str) -> dict[str, Any]:
    """Return what every template is given, those of fragments included."""
    command = NextCommand.of_history(source.store.address).command
    return {"page": page, "here": here, "csrf": access.csrf, "read_only": access.read_only, "command": command}


def context(request: HTTPConnection, page: Any) -> dict[str, Any]:
    """Return what the template of a page is given."""
    query = request.scope["query_string"].decode("ascii", "replace")
    here = quote(request.scope["path"].lstrip("/")) or "./"  # never a scheme, nor another host
    known = request.app.state
    return {
        **values_for(known.source, known.access, page, here + (f"?{query}" if query else "")),
        "root": root_of(request),
        "query": dict(request.query_params),
    }


def show(request: Request, template: str, page: Any, status: int = 200) -> Response:
    """Return a page, or a fragment of it."""
    return HTMLResponse(rendered(template, context(request, page)), status)
