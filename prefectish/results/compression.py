"""Compression of stored results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefectish import config

#: Default of the setting `max_result_bytes`: the size of a compressed result before it is compressed.
MAX_RESULT_BYTES = 1 << 30
Codec = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]


class TooLarge(ValueError):
    """Raised when what is decompressed is larger than results may be."""


def _gzip(limit: int) -> Codec:
    import gzip
    from io import BytesIO

    def decompress(content: bytes) -> bytes:
        with gzip.GzipFile(fileobj=BytesIO(content)) as file:
            return file.read(limit + 1)

    return lambda content: gzip.compress(content, mtime=0), decompress


def _bz2(limit: int) -> Codec:
    import bz2

    return bz2.compress, lambda content: _whole(bz2.BZ2Decompressor(), content, limit)


def _xz(limit: int) -> Codec:
    import lzma

    # A file says how much memory its reader needs, up to 4 GiB.
    return lzma.compress, lambda content: _whole(lzma.LZMADecompressor(memlimit=max(limit, 1 << 28)), content, limit)


def _whole(reader: Any, content: bytes, limit: int) -> bytes:
    found: bytes = reader.decompress(content, limit + 1)
    if not reader.eof and len(found) <= limit:
        raise EOFError("it ends within its data")
    return found


_REGISTERED: dict[str, Callable[[int], Codec]] = {"gzip": _gzip, "bz2": _bz2, "xz": _xz}


def register_compression(name: str, compress: Callable[[bytes], bytes], decompress: Callable[[bytes], bytes]) -> None:
    """Register a compression under a name, in each process that reads or writes results with it.

    Parameters
    ----------
    name
        For ``LocalResult(compression=name)``; it is stored with each result, by which it is read.
    compress, decompress
        Functions of bytes that undo each other; what `decompress` raises makes the result unreadable.
    """
    _REGISTERED[name] = lambda limit: (compress, decompress)


def check_name(name: str) -> None:
    """Raise ValueError if a compression is not registered."""
    if name not in _REGISTERED:
        known = ", ".join(map(repr, _REGISTERED))
        raise ValueError(
            f"compression must be None or one of {known}, got {name!r}; add others with register_compression"
        )


def compressed(name: str, content: bytes) -> bytes:
    """Return content compressed; ValueError if it is larger than a reader accepts."""
    check_name(name)
    limit = _limit()
    _check_size(len(content), limit)
    return _REGISTERED[name](limit)[0](content)


def decompressed(name: str, content: bytes) -> bytes:
    """Return what was compressed.

    Raises
    ------
    TooLarge
        It is larger than a result may be; no more than that is decompressed by gzip, bz2 and xz.
    """
    check_name(name)
    limit = _limit()
    found = _REGISTERED[name](limit)[1](content)
    _check_size(len(found), limit)
    return found


def _limit() -> int:
    return config.whole_number("max_result_bytes", MAX_RESULT_BYTES)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(
            f"a compressed result must have at most {limit:,} bytes before it is compressed, which guards against "
            f"files that are made to fill the memory; raise max_result_bytes in config.toml, or "
            f"PREFECTISH_MAX_RESULT_BYTES, on the client and the workers"
        )
