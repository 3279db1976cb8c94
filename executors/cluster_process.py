"""The process that a temporary cluster lives in: scheduler and nannies, with the workers as its children.

It is started by :mod:`prefectish.executors.own_cluster` with one end of a wire as its standard input, reads there what
to start, answers with the scheduler's address, and ends when the wire does: the driver's end closes when the driver
wants it, or when the driver is gone, however it went.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import shutil
import sys
import tempfile
import threading
import time
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NoReturn

from prefectish.executors import crash_log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed import LocalCluster

#: Seconds a cluster has to close after the wire ended; what lives then is killed.
GRACE = 1.5
#: Seconds between looks at workers that are gone for good.
PATROL = 0.5


def main(wire: Connection) -> NoReturn:
    """Start what the wire asks for, keep it until the wire ends, and take everything along."""
    order = pickle.loads(wire.recv_bytes())
    asyncio.run(_serve(wire, order))
    _leave()


async def _serve(wire: Connection, order: Mapping[str, Any]) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    watch = threading.Thread(target=_watch, args=(wire, loop, ended), daemon=True)
    watch.start()
    try:
        cluster = await _start(order)
    except Exception as fault:
        with suppress(OSError):  # there may be nobody left to tell
            wire.send({"fault": _first_cause(fault)})
        return
    with suppress(OSError):
        wire.send({"address": cluster.scheduler_address})
    patrol = asyncio.create_task(_patrol(cluster))
    await ended.wait()
    patrol.cancel()
    logging.disable(logging.CRITICAL)  # nobody needs to know which connection closed first
    await cluster.close()


def _watch(wire: Connection, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """Wait until the driver closes the wire or dies.

    A process forked by the driver holds the wire open too, so that its end alone would not tell.
    """
    driver = os.getppid()
    while os.getppid() == driver and not wire.poll(1.0):
        pass
    with suppress(RuntimeError):  # the loop has ended already
        loop.call_soon_threadsafe(ended.set)
    time.sleep(GRACE)
    _leave()


async def _start(order: Mapping[str, Any]) -> LocalCluster:
    import dask
    import distributed
    import distributed.utils

    # Else it imports numpy and pandas here, if they are installed, for workers that may never use them.
    distributed.utils._forkserver_preload_set = True
    dask.config.update(dask.config.config, order["config"])
    preload = "distributed.worker.preload"
    dask.config.set(
        {crash_log.SETTING: _new_folder(), preload: [*dask.config.get(preload), "prefectish.executors.crash_log"]}
    )
    cluster = await distributed.LocalCluster(asynchronous=True, **order["cluster_kwargs"])
    if order["adapt_kwargs"] is not None:
        cluster.adapt(**order["adapt_kwargs"])
    return cluster


async def _patrol(cluster: LocalCluster) -> None:
    """Look after the workers, again and again."""
    while True:
        await asyncio.sleep(PATROL)
        _note_memory(cluster)
        await _replace_dead_nannies(cluster)


def _note_memory(cluster: LocalCluster) -> None:
    """Note the memory of each worker: nobody can ask one that died of it."""
    import psutil

    from prefectish.executors.worker_death import peaks

    for nanny in cluster.workers.values():
        pid = getattr(nanny, "pid", None)
        if pid:
            with suppress(psutil.Error):
                peaks[pid] = max(peaks.get(pid, 0), psutil.Process(pid).memory_info().rss)


async def _replace_dead_nannies(cluster: LocalCluster) -> None:
    """Start a nanny anew that is gone.

    It gives up when its worker dies before it has quite started. And Dask closes it for good if its worker happens to
    be away again a while (``distributed.deploy.lost-worker-timeout``) after a death.
    """
    from distributed import Status

    ended = [name for name, nanny in cluster.workers.items() if nanny.status in (Status.closed, Status.failed)]
    for name in ended:
        if name in cluster.worker_spec:
            del cluster.workers[name]
    if cluster.worker_spec.keys() - cluster.workers.keys():
        with suppress(Exception):  # the next look sees it
            await cluster._correct_state()


def _first_cause(fault: BaseException) -> str:
    """Say what went wrong first: what distributed wraps around it tells only that something failed to start."""
    while (cause := fault.__cause__) is not None:
        fault = cause
    return f"{type(fault).__name__}: {fault}"


_folders: list[str] = []


def _new_folder() -> str:
    """Make a folder for the last words of workers, which goes with this process."""
    _folders.append(tempfile.mkdtemp(prefix="prefectish_words-"))
    return _folders[-1]


def _leave() -> NoReturn:
    """End this process and all below it; those that are left serve nobody."""
    import psutil

    sys.stdout.flush()
    sys.stderr.flush()
    tracker: Any = resource_tracker._resource_tracker
    left = [process for process in psutil.Process().children(recursive=True) if process.pid != tracker._pid]
    for process in reversed(left):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=1)
    for folder in _folders:
        shutil.rmtree(folder, ignore_errors=True)
    tracker._stop()  # when nobody is left it removes the semaphores of those that were killed
    os._exit(0)
