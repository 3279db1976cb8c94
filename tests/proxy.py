"""A link between two processes that can be cut."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress


class Proxy:
    """Passes bytes on between whoever connects and a server; both sides see the end when the link is cut.

    Attributes
    ----------
    port : where it listens, on loopback.
    """

    def __init__(self, host, port):
        self._target = (host, port)
        self._links = []
        self._sockets = []
        self._threads = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.refuses = False
        self._run(self._accept)

    def _run(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with suppress(OSError):  # the server was closed
            while True:
                near, _ = self._server.accept()
                self._sockets.append(near)
                if self.refuses:
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                self._sockets.append(far)
                self._links.append((near, far))
                for source, sink in ((near, far), (far, near)):
                    self._run(self._pass_on, source, sink)

    def _pass_on(self, source, sink):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self, refuse=False):
        """Cut all links there are; with `refuse` nobody gets a new one."""
        self.refuses = refuse
        links, self._links = self._links, []
        for link in links:
            for end in link:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._server.shutdown(socket.SHUT_RDWR)  # wakes who waits for a connection
        self.cut(refuse=True)
        for thread in self._threads:
            thread.join(10)
        for each in (self._server, *self._sockets):
            each.close()


@contextmanager
def proxy_to(address):
    """Yield a proxy before the Dask address of a server, and its own address."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    proxy = Proxy(host, int(port))
    try:
        yield proxy, f"tcp://127.0.0.1:{proxy.port}"
    finally:
        proxy.close()
