"""Graphs to the scheduler, futures back, and their release: what would be a message a key is one a group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dask
from dask._expr import LLGExpr
from distributed import Client, Future
from distributed.spans import SpanMetadata

from prefectish.executors.lower import Key

#: Dask advises whoever sends a large graph to scatter; what is large by itself we do scatter, and items are many.
_NO_ADVICE = {"distributed.admin.large-graph-warning-threshold": 1 << 62}


def submit_graph(
    client: Client, graph: LLGExpr, keys: Iterable[Key], ranks: Mapping[Key, int], options: Mapping[str, Any]
) -> dict[Key, Future]:
    """Send a graph to the scheduler.

    ``Client.get`` with an order of ours, smallest rank first: Dask's own costs the scheduler more than it helps a map,
    and starts its rows in any order.

    Parameters
    ----------
    ranks
        One for each key of the graph, not only for those that are wanted.
    """
    with dask.config.set(_NO_ADVICE):
        futures: dict[Key, Future] = client._graph_to_futures(
            graph,
            list(keys),
            span_metadata=SpanMetadata(collections=[{"type": "low-level-graph"}]),
            internal_priority=dict(ranks),
            fifo_timeout="60s",
            **options,
        )
    return futures


def release(client: Client, futures: Sequence[Future]) -> None:
    """Let go of futures that nobody else has, with one message.

    What ``Future.release`` does, which costs a call on the client's loop and a message each.
    """
    keys = [future.key for future in futures if not future._cleared and client.generation == future._generation]
    for future in futures:
        future._cleared = True  # it has no release of its own to send any more
    if keys:
        client.loop.add_callback(_release, client, keys)


def _release(client: Client, keys: Sequence[Key]) -> None:
    gone: list[Key] = []
    with client._refcount_lock:
        for key in keys:
            client.refcount[key] -= 1
            if not client.refcount[key]:
                del client.refcount[key]
                gone.append(key)
    for key in gone:
        state = client.futures.pop(key, None)
        if state is not None:
            state.cancel()
    if gone and client.status != "closed":
        client._send_to_scheduler({"op": "client-releases-keys", "keys": gone, "client": client.id})
