"""Check that workers and client share a result store: each worker writes a file that the client reads."""

from __future__ import annotations

import os
from collections.abc import Mapping

from prefectish.errors import ResultCorrupt, ResultStoreNotShared
from prefectish.results.base import Result

#: First part of the names of probes, which lie in no folder: it would stay behind.
PROBE = "probe-"


def leave_probe(store: Result, run_id: str) -> str:
    """Write a small file, on a worker, and return its unique name."""
    token = os.urandom(8).hex()
    return store.write(f"{PROBE}{run_id}-{token}", token.encode())


def check_probes(store: Result, left: Mapping[str, str]) -> None:
    """Read the files of workers, at the client, and delete them; `left` are results of :func:`leave_probe` by address.

    Raises ResultStoreNotShared if a file is missing; the message names the store and the workers.
    """
    absent = sorted(worker for worker, location in left.items() if not _is_there(store, location))
    for location in left.values():
        store.delete(location)
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise ResultStoreNotShared(
            f"{store!r}: the client cannot read what {', '.join(absent[:3])}{more} wrote there; use a folder that "
            f"all of them share, or a URL such as s3://..."
        )


def _is_there(store: Result, location: str) -> bool:
    try:
        return store.read(location) == location.rpartition("-")[2].encode()
    except (FileNotFoundError, ResultCorrupt):
        return False
