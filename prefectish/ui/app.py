"""The application: an ASGI app of one history."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prefectish.errors import PrefectishError
from prefectish.history.store import open_store
from prefectish.ui.access import LOOPBACK, Access
from prefectish.ui.events import Hub
from prefectish.ui.records import Refusal
from prefectish.ui.rendering import compile_all, show
from prefectish.ui.routes import routes
from prefectish.ui.security import Guard, refused
from prefectish.ui.source import NotFound, Source


def create_app(
    history_url: str | os.PathLike[str] | None,
    *,
    token: str,
    read_only: bool = False,
    allowed_hosts: Iterable[str] = (),
) -> Starlette:
    """Return the application.

    Parameters
    ----------
    history_url
        Path or database URL of the history; None: the one in the home folder.
    token
        What a link must have; see :func:`prefectish.ui.access.home_token`.
    read_only
        Whether nothing can be asked for.
    allowed_hosts
        Names, besides those of the loopback interface, under which the page is reached.
    """
    access = Access(token, LOOPBACK | {host.lower() for host in allowed_hosts}, read_only)
    app = Starlette(
        routes=routes(),
        middleware=[Middleware(Guard, access=access), Middleware(GZipMiddleware, minimum_size=2000, compresslevel=5)],
        exception_handlers={
            HTTPException: _not_found,
            NotFound: _not_found,
            PrefectishError: _broken,
            Exception: _failed,
        },
        lifespan=_lifetime,
    )
    app.state.access = access
    app.state.source = Source(open_store(history_url))
    app.state.hub = Hub(app.state.source, access)
    return app


@asynccontextmanager
async def _lifetime(app: Starlette) -> AsyncIterator[None]:
    compiling = asyncio.create_task(run_in_threadpool(compile_all))
    try:
        yield
    finally:
        await compiling
        app.state.hub.close()
        app.state.source.close()


def _not_found(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return _error(request, error.status_code, error.detail)
    return _error(request, 404, str(error))


def _broken(request: Request, error: Exception) -> Response:
    """Say what is wrong with the history: it cannot be read, or not be reached."""
    return _error(request, 503, str(error))


def _failed(request: Request, error: Exception) -> Response:
    """Say that it is a fault of the page, which the server logs."""
    why = f"it could not be shown: {type(error).__name__}; the log of the server says where"
    return refused(request, 500, why)


def _error(request: Request, status: int, why: str) -> Response:
    record = Refusal(error=why)
    if request.scope["path"].startswith("/api") or "hx-request" in request.headers:
        return JSONResponse(record.model_dump(), status)
    return show(request, "error.html", record, status)
