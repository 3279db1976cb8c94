"""What answers at which address."""

from __future__ import annotations

from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from prefectish.ui import api, events, posts
from prefectish.ui.actions import ACTIONS
from prefectish.ui.pages import PAGES, page
from prefectish.ui.paths import PATHS
from prefectish.ui.rendering import STATIC


class Number(IntegerConvertor):
    """The number of a task or an item in an address; longer ones are none, and no number for a database."""

    regex = "[0-9]{1,9}"


register_url_convertor("number", Number())


def routes() -> list[BaseRoute]:
    """Return all routes."""
    return [
        *(Route(PATHS[name], page(name), name=name) for name in PAGES),
        *(Route(PATHS[name], posts.form(name), name=name, methods=["POST"]) for name in ACTIONS),
        Route(PATHS["events"], events.stream, name="events"),
        *api.routes(),
        Mount("/static", StaticFiles(directory=STATIC), name="static"),
    ]
