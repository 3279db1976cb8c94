"""Every private name of Dask and distributed that is used here, each behind a function of its own.

What a release of Dask may change without notice is changed in this file alone; ``tests/test_floors.py`` proves that no
other file touches it. All were seen in dask and distributed 2026.8.0.

==========================================================  ==========================================================
private name                                                why it is needed
==========================================================  ==========================================================
``dask._task_spec.Task``, ``TaskRef``                       the form in which Dask runs tasks: no conversion of graphs
``dask._expr.LLGExpr(..., _determ_token=)``                 a name for a graph; Dask would hash every task to make one
``_annotations``                                            what is annotated around a run goes to its tasks alone
``Client._graph_to_futures(internal_priority=)``            an order of submission; ``Client.get`` takes none
``Future._cleared``, ``_generation``, ``_state``            one message for the release of many futures, and waiting
``Client._refcount_lock``, ``refcount``, ``generation``     the same
``Client._send_to_scheduler``, ``futures[key].reset``       the same, a key whose value was lost after its end
``Client.scheduler_comm``                                   what a new connection is known by
``Client._send_to_scheduler_safe``                          a release that comes before what is submitted after it
``Client.scheduler_comm.recent_message_log``                the log that keeps the last 1,000 messages alive,
``Scheduler.stream_comms[...].recent_message_log``          here and on the scheduler
``Client._scatter``, ``_run_on_scheduler``                  their coroutines, so that a wait for them can be given up
``Client._register_scheduler_plugin``                        the same, for a plugin
``Client._run``                                              the same, on all workers
``Client._asynchronous``                                    whether a client can be waited for at all
``SpecCluster._correct_state``                              starts a worker in the place of one that is gone
``distributed.utils._forkserver_preload_set``               keeps numpy and pandas out of a process that needs neither
==========================================================  ==========================================================

distributed is imported only when a function needs it: on processes of this machine there may be none.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import Token
from typing import TYPE_CHECKING, Any

import dask
from dask._expr import LLGExpr
from dask._task_spec import Task, TaskRef
from dask.base import _annotations

from prefectish.executors.annotations import other_annotations

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster, SchedulerPlugin

__all__ = [
    "Key", "Task", "TaskRef", "asked_on_scheduler", "asked_on_workers", "forget_preloads", "is_asynchronous",
    "known_state", "link_of", "mark_pending", "registered", "release", "replace_lost_workers", "scattered",
    "shorten_message_log", "submit_graph", "wait_for_end",
]  # fmt: skip

Key = tuple[str, int | str, int]

#: Messages to the scheduler that stay in Dask's log of them.
MESSAGES_KEPT = 10

#: Dask advises to scatter when a graph is large; large values are scattered already, and many items are not a mistake.
_NO_ADVICE = {"distributed.admin.large-graph-warning-threshold": 1 << 62}


def submit_graph(
    client: Client,
    graph: Mapping[Key, Task],
    name: str,
    keys: Iterable[Key],
    priorities: Mapping[Key, int],
    options: Mapping[str, Any],
    annotations: Mapping[str, Any] | None = None,
) -> dict[Key, Future]:
    """Send a graph to the scheduler and return the futures of `keys`.

    ``Client.get`` with an order of its own, smallest first: Dask's costs the scheduler more than it helps a map, and
    starts its rows in any order.

    Parameters
    ----------
    name
        Of the graph; used once.
    priorities
        One for each key of the graph, not only for `keys`.
    options
        ``resources``, ``workers``, ``user_priority``.
    annotations
        Of all keys of the graph, for plugins of the scheduler.
    """
    from distributed.spans import SpanMetadata

    token = _annotations.set({**other_annotations(), **(annotations or {})})
    with dask.config.set(_NO_ADVICE), _restored(token):
        futures: dict[Key, Future] = client._graph_to_futures(
            LLGExpr(dict(graph), _determ_token=name),
            list(keys),
            span_metadata=SpanMetadata(collections=[{"type": "low-level-graph"}]),
            internal_priority=dict(priorities),
            fifo_timeout="60s",
            **options,
        )
    return futures


@contextmanager
def _restored(token: Token[Any]) -> Iterator[None]:
    """Annotate afterwards as before: what is annotated around a run is that of its tasks, not of every key."""
    try:
        yield
    finally:
        _annotations.reset(token)


def release(client: Client, futures: Sequence[Future]) -> None:
    """Release futures that have no other reader, with one message.

    ``Future.release`` costs a call in the client's loop and a message for each.
    """
    shorten_message_log(client.scheduler_comm)
    keys = [future.key for future in futures if not future._cleared and client.generation == future._generation]
    for future in futures:
        # Its finalizer must not release the key again: by then the key may be in use for another future.
        future._cleared = True
    if keys:
        client.loop.add_callback(_release, client, keys)


def shorten_message_log(connection: Any) -> None:
    """Drop messages that were sent: Dask's log for developers keeps 1,000, and one of ours has a hundred children."""
    log = getattr(connection, "recent_message_log", None)
    with suppress(IndexError):  # the loop adds to it, and a new connection has a new one
        while log is not None and len(log) > MESSAGES_KEPT:
            log.popleft()


def _release(client: Client, keys: Sequence[Key]) -> None:
    """Count down the references to keys and forget those that have none left; runs in the client's loop."""
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
        # At once, and not in another turn of the loop: what was submitted meanwhile would begin before there is room.
        client._send_to_scheduler_safe({"op": "client-releases-keys", "keys": gone, "client": client.id})


def known_state(client: Client, key: Key) -> Any:
    """Return what the client knows of a key: an object with ``status``, quicker to read than a future."""
    return client.futures[key]


def wait_for_end(future: Future) -> Coroutine[Any, Any, Any]:
    """Return what waits, in the client's loop, until a key is done, however it ended.

    Unlike ``distributed.wait`` it raises nothing: a traceback would keep the futures, and so their values.
    """
    waiting: Coroutine[Any, Any, Any] = future._state.wait()
    return waiting


def mark_pending(client: Client, keys: Iterable[Key]) -> None:
    """Mark keys as pending again; runs in the client's loop.

    Their values were lost with a worker after their end was reported. Dask computes them again, and ``report-key`` has
    the scheduler report that end too.
    """
    for key in keys:
        client._send_to_scheduler({"op": "report-key", "key": key})
        state = client.futures.get(key)
        if state is not None:
            state.reset()


def scattered(client: Client, value: Any, timeout: float) -> Coroutine[Any, Any, Future]:
    """Return what sends a value to a worker, in the client's loop."""
    sending: Coroutine[Any, Any, Future] = client._scatter(value, hash=False, timeout=timeout)
    return sending


def asked_on_scheduler(client: Client, function: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
    """Return what calls a function on the scheduler, in the client's loop."""
    asking: Coroutine[Any, Any, Any] = client._run_on_scheduler(function, **kwargs)
    return asking


def asked_on_workers(client: Client, function: Any, **kwargs: Any) -> Coroutine[Any, Any, dict[str, Any]]:
    """Return what calls a function on all workers, in the client's loop; those that do not answer are left out."""
    asking: Coroutine[Any, Any, dict[str, Any]] = client._run(function, on_error="ignore", **kwargs)
    return asking


def registered(client: Client, plugin: SchedulerPlugin, name: str) -> Coroutine[Any, Any, Any]:
    """Return what gives the scheduler a plugin, unless it has it, in the client's loop."""
    registering: Coroutine[Any, Any, Any] = client._register_scheduler_plugin(plugin, name, idempotent=True)
    return registering


def link_of(client: Client) -> Any:
    """Return the connection of a client to its scheduler: after a break there is another one."""
    return client.scheduler_comm


def is_asynchronous(client: Client) -> bool:
    """Whether the calls of a client return coroutines, in this thread or in any."""
    return bool(client.asynchronous or client._asynchronous)


async def replace_lost_workers(cluster: LocalCluster) -> None:
    """Start the workers that a cluster should have and has not."""
    await cluster._correct_state()


def forget_preloads() -> None:
    """Keep a cluster from importing numpy and pandas in this process, for workers that may never use them."""
    import distributed.utils

    distributed.utils._forkserver_preload_set = True
