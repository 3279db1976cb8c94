"""Whether workers and the client keep results in one place: each worker leaves a file, and the client looks for it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from prefectish.errors import ResultCorrupt, ResultStoreNotShared
from prefectish.results.base import Result

#: The folder of a store in which probes lie.
PROBE_FOLDER = "probe"


def leave_probe(store: Result, run_id: str) -> str:
    """Write a small file, on a worker, and return its name, which no other has."""
    token = os.urandom(8).hex()
    return store.write(f"{PROBE_FOLDER}/{run_id}-{token}", token.encode())


def check_probes(store: Result, left: Mapping[str, str]) -> None:
    """Look for the files of workers, at the client, and remove those that are there.

    Parameters
    ----------
    left
        What :func:`leave_probe` returned, by the address of the worker.

    Raises
    ------
    ResultStoreNotShared
        Naming the store, and the workers whose files are not there.
    """
    absent = sorted(worker for worker, location in left.items() if not _is_there(store, location))
    for location in left.values():
        store.delete(location)
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise ResultStoreNotShared(
            f"{store!r}: what {', '.join(absent[:3])}{more} wrote there is not there for the client; use a folder that "
            f"all of them share, or a URL such as s3://..."
        )


def _is_there(store: Result, location: str) -> bool:
    try:
        return store.read(location) == location.rpartition("-")[2].encode()
    except (FileNotFoundError, ResultCorrupt):
        return False
