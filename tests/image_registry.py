"""A registry of images that keeps them in memory: what pushing and pulling need of the OCI distribution protocol."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class ImageRegistry(ThreadingHTTPServer):
    """A registry on a port of its own.

    Attributes
    ----------
    manifests
        Type and content, by ``name:tag`` and by ``name:digest``.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.blobs: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}

    @property
    def address(self) -> str:
        """Return ``host:port``."""
        return f"127.0.0.1:{self.server_address[1]}"

    def layers(self, image: str) -> list[bytes]:
        """Return the archives of an image, given as ``name:tag``: first its base, last what was added to it."""
        blobs = [self.blobs[layer["digest"]] for layer in json.loads(self.manifests[image][1])["layers"]]
        return [gzip.decompress(blob) if blob.startswith(b"\x1f\x8b") else blob for blob in blobs]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ImageRegistry

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if found := re.fullmatch(r"/v2/(.+)/blobs/(.+)", path):
            self._give(self.server.blobs.get(found[2]), "application/octet-stream")
        elif found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            kind, content = self.server.manifests.get(f"{found[1]}:{found[2]}", ("", None))
            self._give(content, kind)
        else:
            self._answer(200 if path == "/v2/" else 404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._body()
        upload = uuid.uuid4().hex
        self.server.uploads[upload] = b""
        self._answer(202, Location=f"{urlsplit(self.path).path}{upload}")

    def do_PATCH(self) -> None:
        upload = self.path.rpartition("/")[2]
        self.server.uploads[upload] += self._body()
        self._answer(202, Location=self.path, Range=f"0-{len(self.server.uploads[upload]) - 1}")

    def do_PUT(self) -> None:
        content, address = self._body(), urlsplit(self.path)
        name, kind, reference = re.fullmatch(r"/v2/(.+)/(blobs/uploads|manifests)/(.+)", address.path).groups()  # type: ignore[union-attr]
        if kind == "manifests":
            facts = str(self.headers["Content-Type"]), content
            self.server.manifests[f"{name}:{reference}"] = self.server.manifests[f"{name}:{_digest(content)}"] = facts
            self._answer(201, Location=self.path, Docker_Content_Digest=_digest(content))
            return
        content = self.server.uploads.pop(reference) + content
        (wanted,) = parse_qs(address.query)["digest"]
        self.server.blobs[wanted] = content
        self._answer(201 if wanted == _digest(content) else 400, Location=f"/v2/{name}/blobs/{wanted}")

    def _give(self, content: bytes | None, kind: str) -> None:
        if content is None:
            self._answer(404)
        else:
            self._answer(200, content, Content_Type=kind, Docker_Content_Digest=_digest(content))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@contextmanager
def image_registry() -> Iterator[ImageRegistry]:
    """Serve a registry."""
    registry = ImageRegistry()
    serving = threading.Thread(target=registry.serve_forever)
    serving.start()
    try:
        yield registry
    finally:
        registry.shutdown()
        serving.join()
        registry.server_close()
