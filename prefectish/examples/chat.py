"""A small chat server on this machine, for examples that talk to one: people, their updates, and messages to them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatServer(ThreadingHTTPServer):
    """Listens on a free port of the loopback device.

    Parameters
    ----------
    token
        What callers have to show: ``Authorization: Bearer <token>``.
    updates
        What people wrote today, by their name.
    silent
        People who wrote nothing.
    gone
        People who cannot be written to: the server answers 404.
    """

    def __init__(self, token: str, updates: Mapping[str, str], silent: Sequence[str], gone: Sequence[str] = ()) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.token = token
        self.updates = dict(updates)
        self.team = [*updates, *silent, *gone]
        self.gone = frozenset(gone)
        self.messages: list[tuple[str, str]] = []  # what was sent, in order: to whom, and the text
        self.hiccups = 0  # how many of the next messages are answered by 503, as a busy server does

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def serving(self) -> Iterator[ChatServer]:
        """Serve in a thread, in the block."""
        thread = threading.Thread(target=self.serve_forever, name="chat", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Return status and body of an answer."""
        if (method, path) == ("GET", "/team"):
            return 200, self.team
        if (method, path) == ("GET", "/updates"):
            return 200, self.updates
        if (method, path) == ("POST", "/messages"):
            return self._take(body["to"], body["text"])
        return 404, {"error": f"no {path} here"}

    def _take(self, to: str, text: str) -> tuple[int, Any]:
        if self.hiccups:
            self.hiccups -= 1
            return 503, {"error": "too busy, try again"}
        if to in self.gone:
            return 404, {"error": f"{to} has left"}
        self.messages.append((to, text))
        return 200, {"to": to}


class _Answers(BaseHTTPRequestHandler):
    server: ChatServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("GET", None)

    def do_POST(self) -> None:
        self._answer("POST", json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0)))))

    def _answer(self, method: str, body: Any) -> None:
        status, content = 401, {"error": "no such token"}
        if self.headers.get("Authorization") == f"Bearer {self.server.token}":
            status, content = self.server.answer(method, self.path, body)
        payload = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the example prints what happened."""
