"""Compression of stored results."""

from __future__ import annotations

from collections.abc import Callable

Codec = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]


def _gzip() -> Codec:
    import gzip

    return lambda content: gzip.compress(content, mtime=0), gzip.decompress


def _bz2() -> Codec:
    import bz2

    return bz2.compress, bz2.decompress


def _xz() -> Codec:
    import lzma

    return lzma.compress, lzma.decompress


_REGISTERED: dict[str, Callable[[], Codec]] = {"gzip": _gzip, "bz2": _bz2, "xz": _xz}


def register_compression(name: str, compress: Callable[[bytes], bytes], decompress: Callable[[bytes], bytes]) -> None:
    """Register a compression under a name, in each process that reads or writes results with it."""
    _REGISTERED[name] = lambda: (compress, decompress)


def codec_of(name: str) -> Codec:
    """Return the functions that compress and decompress; ValueError if the compression is not registered."""
    if name not in _REGISTERED:
        known = ", ".join(map(repr, _REGISTERED))
        raise ValueError(
            f"compression must be None or one of {known}, got {name!r}; add others with register_compression"
        )
    return _REGISTERED[name]()
