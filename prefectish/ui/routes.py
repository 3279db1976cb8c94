"""What answers at which address."""

from __future__ import annotations

from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from prefectish.ui import pages
from prefectish.ui.paths import PATHS
from prefectish.ui.rendering import STATIC


def routes() -> list[BaseRoute]:
    """Return all routes."""
    shown = [Route(PATHS[name], getattr(pages, name), name=name) for name in pages.NAMES]
    return [*shown, Mount("/static", StaticFiles(directory=STATIC), name="static")]
