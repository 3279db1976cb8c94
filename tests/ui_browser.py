"""A browser without a screen for tests of the page: it has the token, and keeps the cookie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.testclient import TestClient

from prefectish.ui.app import create_app

TOKEN = "a token that nobody guesses"


@contextmanager
def browser(history: Any, **options: Any) -> Iterator[Any]:
    """Yield a client of a page that shows a history."""
    app = create_app(history, token=TOKEN, **options)
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as client:
        assert client.get("/", params={"token": TOKEN}).status_code == 303
        yield client


def csrf_of(client: Any) -> str:
    """Return what forms of the page must send."""
    found: str = client.app.state.access.csrf
    return found


def post(client: Any, address: str, **fields: Any) -> Any:
    """Send a form, as a script of the page does."""
    return client.post(address, data={"csrf": csrf_of(client), **fields}, headers={"hx-request": "true"})
