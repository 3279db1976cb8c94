"""Frames on a pipe between a worker and the process of an isolated body: a letter, a length, and that many bytes."""

from __future__ import annotations

import struct
from typing import IO

#: To the process: what to call.
REQUEST = b"q"
#: From the process: the body begins; it printed; it logged; it ended.
BEGAN, PRINTED, LOGGED, ENDED = b"b", b"p", b"l", b"e"

_HEAD = struct.Struct("!cQ")


def write(pipe: IO[bytes], kind: bytes, content: bytes = b"") -> None:
    """Write one frame; `pipe` is buffered or takes every byte at once."""
    pipe.write(_HEAD.pack(kind, len(content)))
    pipe.write(content)
    pipe.flush()


def read(pipe: IO[bytes]) -> tuple[bytes, bytes] | None:
    """Read one frame: its letter and its content; None where the pipe ends, or breaks off in the middle of one."""
    head = _exactly(pipe, _HEAD.size)
    if head is None:
        return None
    kind, length = _HEAD.unpack(head)
    content = _exactly(pipe, length)
    return None if content is None else (kind, content)


def _exactly(pipe: IO[bytes], length: int) -> bytes | None:
    parts: list[bytes] = []
    while length:
        part = pipe.read(min(length, 1 << 20))
        if not part:
            return None
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
