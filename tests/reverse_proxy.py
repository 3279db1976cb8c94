"""A proxy that serves what listens on another port under a prefix, as JupyterHub does: the server never sees it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Headers of one connection alone.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, prefix: str, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.prefix, self.target = prefix, port


class _Handler(BaseHTTPRequestHandler):
    server: _Proxy

    def do_GET(self) -> None:
        """Pass a request on, and what comes back as it comes: events never end."""
        if not self.path.startswith(f"{self.server.prefix}/"):
            self.send_error(404, "outside of the prefix")
            return
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.target)) as link:
            self._pass_on(link)

    do_POST = do_GET

    def _pass_on(self, link: http.client.HTTPConnection) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        link.request(self.command, self.path.removeprefix(self.server.prefix), body, headers)
        answer = link.getresponse()
        self.close_connection = True
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.end_headers()
        with closing(answer), suppress(OSError, http.client.HTTPException):  # one of the two has gone
            while part := answer.read1():
                self.wfile.write(part)
                self.wfile.flush()

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


@contextmanager
def proxied(port: int, prefix: str = "/user/ada/proxy/7411") -> Iterator[str]:
    """Serve what listens on a port under a prefix; yield the address."""
    proxy = _Proxy(prefix, port)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}{prefix}"
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
