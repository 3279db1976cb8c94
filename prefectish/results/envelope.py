r"""The file format of results: damaged and foreign files are detected before anything is unpickled.

``prefectish-result 1 <length> <signature> <SHA-256>\n``, then one line of metadata in JSON, then the content. The
length is that of metadata and content; the SHA-256 covers them and the signature; the signature, ``-`` without a key,
is an HMAC-SHA256 that covers them and the name of the file, so that signed files cannot be swapped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from prefectish.errors import ResultCorrupt

MAGIC = b"prefectish-result 1 "
_HEADER = re.compile(rb"prefectish-result 1 ([0-9]{1,19}) (-|[0-9a-f]{64}) ([0-9a-f]{64})\n")
UNSIGNED = b"-"


class NotAResultFile(ResultCorrupt):
    """Raised when a file was not written by a result store."""


def seal(name: str, facts: Mapping[str, Any], content: bytes, key: bytes | None) -> list[bytes]:
    """Return the file of a result in pieces, so that large content is not copied.

    `facts` are small and JSON serializable; without a `key` the file is not signed.
    """
    line = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    signature = UNSIGNED if key is None else _signature(key, name, line, content)
    length = len(line) + len(content)
    return [MAGIC + b"%d %b %b\n" % (length, signature, _checksum(signature, line, content)), line, content]


def unseal(name: str, file: bytes, key: bytes | None) -> tuple[dict[str, Any], memoryview]:
    """Return the metadata and the content of a file.

    Raises ResultCorrupt if it is truncated, altered, not a result file, or, with a key, not signed by it.
    """
    header = _HEADER.match(file)
    if header is None:
        raise _bad_header_error(name, file)
    length, signature, checksum = header.groups()
    rest = memoryview(file)[header.end() :]
    if len(rest) != int(length):
        raise ResultCorrupt(f"{name}: truncated or extended: expected {int(length)} bytes, got {len(rest)}")
    if _checksum(signature, rest) != checksum:
        raise ResultCorrupt(f"{name}: its SHA-256 does not match")
    if key is not None:
        _check_signature(name, key, signature, rest)
    end = file.find(b"\n", header.end())
    return _facts(name, file[header.end() : max(end, header.end())]), rest[end + 1 - header.end() :]


def _facts(name: str, line: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(line.decode())
    except (ValueError, RecursionError):
        facts = None
    if type(facts) is not dict:
        raise ResultCorrupt(f"{name}: its line of metadata is not a JSON object")
    return facts


def _bad_header_error(name: str, file: bytes) -> ResultCorrupt:
    if MAGIC.startswith(file[: len(MAGIC)]):
        return ResultCorrupt(f"{name}: its header is truncated or altered")
    return NotAResultFile(f"{name}: not written by a result store; nothing in it was loaded")


def _check_signature(name: str, key: bytes, signature: bytes, rest: memoryview) -> None:
    import hmac

    if signature == UNSIGNED:
        raise ResultCorrupt(f"{name}: not signed, but this store has an hmac_key")
    if not hmac.compare_digest(signature, _signature(key, name, rest)):
        raise ResultCorrupt(f"{name}: signed with another key, or for another name")


def _checksum(signature: bytes, *pieces: bytes | memoryview) -> bytes:
    summed = sha256(signature + b"\n")
    for piece in pieces:
        summed.update(piece)
    return summed.hexdigest().encode()


def _signature(key: bytes, name: str, *pieces: bytes | memoryview) -> bytes:
    import hmac

    signed = hmac.new(key, name.encode() + b"\0", "sha256")
    for piece in pieces:
        signed.update(piece)
    return signed.hexdigest().encode()
