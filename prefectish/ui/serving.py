"""Serve the page: a socket, a link with the token, and a server that ends when it is asked to."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

import uvicorn

from prefectish.ui.access import allowed_host, default_hosts, home_token, read_only_token
from prefectish.ui.app import create_app
from prefectish.ui.events import Hub
from prefectish.ui.sockets import BACKLOG, HOST, is_anywhere, is_loopback


class Served(NamedTuple):
    """A page that is about to be served."""

    server: uvicorn.Server
    socket: socket.socket
    link: str
    #: Whether other machines reach it.
    is_open: bool

    def serve(self) -> None:
        """Serve until SIGTERM or Ctrl-C."""
        self.server.run(sockets=[self.socket])


def link_to(opened: socket.socket, token: str, names: Iterable[str] = ()) -> str:
    """Return the link that opens the page on a socket.

    Parameters
    ----------
    names
        Hosts by which it is reached; default: where it listens.
    """
    host, port = opened.getsockname()[:2]
    name = next(iter(names), None) or (socket.gethostname() if is_anywhere(host) else host)
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{port}/?token={quote(token, safe='')}"


def prepare(
    store: str | os.PathLike[str] | None,
    opened: socket.socket,
    *,
    host: str = HOST,
    read_only: bool = False,
    allowed_hosts: Iterable[str] = (),
) -> Served:
    """Return a page of a history that is to be served on a socket."""
    names = [*map(allowed_host, allowed_hosts), *default_hosts(os.environ)]
    own = [socket.gethostname()] if is_anywhere(host) else [] if is_loopback(host) else [host]
    hosts = [*names, *own, opened.getsockname()[0]]
    token = read_only_token(home_token()) if read_only else home_token()
    server = server_of(store, token, read_only=read_only, allowed_hosts=hosts)
    return Served(server, opened, link_to(opened, token, names), not is_loopback(host))


def server_of(
    store: str | os.PathLike[str] | None, token: str, *, read_only: bool = False, allowed_hosts: Iterable[str] = ()
) -> uvicorn.Server:
    """Return a server of the page of a history."""
    app = create_app(store, token=token, read_only=read_only, allowed_hosts=allowed_hosts)
    config = uvicorn.Config(
        app,
        access_log=False,  # it would hold the token of the link
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=1,  # those who follow a run never end by themselves
        backlog=BACKLOG,
    )
    return _Server(config, app.state.hub)


class _Server(uvicorn.Server):
    """Ends the streams of viewers before it waits for the connections to be closed."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        self._hub.close()
        await super().shutdown(sockets)
