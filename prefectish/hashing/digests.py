"""The hash of bytes, and the bytes of scalar values."""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

#: Length of a hash in bytes.
HASH_SIZE = 16
#: Named in every hash: a change of the encoding changes all of them, and no old one is taken for a new one.
ENCODING = b"prefectish 1"
_NAN = struct.pack("<d", float("nan"))


def digest(kind: str, content: bytes) -> bytes:
    """Hash bytes that stand for a value of a kind."""
    hashed = blake2b(kind.encode() + b"\0", digest_size=HASH_SIZE, person=ENCODING)
    hashed.update(content)  # which may be large: it is not copied
    return hashed.digest()


def double(value: float) -> bytes:
    """Return the eight bytes of a float; the same for all NaNs."""
    return struct.pack("<d", value) if value == value else _NAN


#: Types that hold no others, and their bytes.
SCALARS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"",
    bool: lambda value: b"1" if value else b"0",
    int: lambda value: hex(value).encode(),
    float: double,
    complex: lambda value: double(value.real) + double(value.imag),
    str: lambda value: value.encode("utf-8", "surrogatepass"),
    bytes: lambda value: value,
}
