"""A body that waits for a run on its own cluster secedes from its worker: what it waits for may need its thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from distributed import get_worker, rejoin, secede
from distributed.comm import resolve_address


@contextmanager
def seceded(scheduler: str) -> Iterator[None]:
    """Leave the threads of the worker in the block, if this is the body of a task of that scheduler's cluster.

    As ``worker_client`` does it. A body that is not called in the thread of its worker does not secede.
    """
    try:
        if resolve_address(get_worker().scheduler.address) != resolve_address(scheduler):
            raise ValueError("another cluster")
        secede()
    except (ValueError, AttributeError, KeyError):  # no worker, none of its threads, or it has left them already
        yield
        return
    try:
        yield
    finally:
        rejoin()
