"""The process that a temporary cluster lives in: scheduler and nannies, with the workers as its children.

It is started by :mod:`prefectish.executors.own_cluster` with one end of a pipe as its standard input. It reads there
what to start, answers with the address of the scheduler, and ends when the other end of the pipe is closed: by the
driver, or because the driver has ended, for whatever reason.
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

#: Seconds a cluster has to close after the pipe was closed; then its processes are killed.
GRACE = 1.5
#: Seconds between two looks at the workers.
_RESTART_INTERVAL = 0.5


def main(pipe: Connection) -> NoReturn:
    """Start the cluster that the pipe asks for, keep it until the pipe is closed, and end all of its processes."""
    arguments = pickle.loads(pipe.recv_bytes())
    asyncio.run(_serve(pipe, arguments))
    _end_process_tree()


async def _serve(pipe: Connection, arguments: Mapping[str, Any]) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    watch = threading.Thread(target=_watch, args=(pipe, loop, ended), daemon=True)
    watch.start()
    try:
        cluster = await _start(arguments)
    except Exception as fault:
        with suppress(OSError):  # the driver may have ended
            pipe.send({"fault": _first_cause(fault)})
        return
    with suppress(OSError):
        pipe.send({"address": cluster.scheduler_address})
    restarts = asyncio.create_task(_restart_lost_workers(cluster))
    await ended.wait()
    restarts.cancel()
    logging.disable(logging.CRITICAL)  # distributed logs each connection that is closed at the other end first
    await cluster.close()


def _watch(pipe: Connection, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """Wait until the driver closes the pipe or dies.

    A process that the driver forked holds the pipe open too, so the parent is watched as well.
    """
    driver = os.getppid()
    while os.getppid() == driver and not pipe.poll(1.0):
        pass
    with suppress(RuntimeError):  # the loop has ended already
        loop.call_soon_threadsafe(ended.set)
    time.sleep(GRACE)
    _end_process_tree()


async def _start(arguments: Mapping[str, Any]) -> LocalCluster:
    import dask
    import distributed

    from prefectish.executors.dask_api import forget_preloads

    forget_preloads()
    dask.config.update(dask.config.config, arguments["config"])
    preload = "distributed.worker.preload"
    dask.config.set(
        {crash_log.SETTING: _new_folder(), preload: [*dask.config.get(preload), "prefectish.executors.crash_log"]}
    )
    cluster = await distributed.LocalCluster(asynchronous=True, **arguments["cluster_kwargs"])
    if arguments["adapt_kwargs"] is not None:
        cluster.adapt(**arguments["adapt_kwargs"])
    return cluster


async def _restart_lost_workers(cluster: LocalCluster) -> None:
    """Record the memory of workers, and restart those that are lost, until it is cancelled."""
    while True:
        await asyncio.sleep(_RESTART_INTERVAL)
        _note_memory(cluster)
        await _replace_dead_nannies(cluster)


def _note_memory(cluster: LocalCluster) -> None:
    """Record the peak memory of each worker: it cannot be asked once it has died."""
    import psutil

    from prefectish.executors.worker_death import peak_memory

    for nanny in cluster.workers.values():
        pid = getattr(nanny, "pid", None)
        if pid:
            with suppress(psutil.Error):
                peak_memory[pid] = max(peak_memory.get(pid, 0), psutil.Process(pid).memory_info().rss)


async def _replace_dead_nannies(cluster: LocalCluster) -> None:
    """Start a nanny in the place of one that has ended.

    A nanny ends when its worker dies while it starts. And Dask closes one for good if its worker is away again a while
    (``distributed.deploy.lost-worker-timeout``) after a death.
    """
    from distributed import Status

    from prefectish.executors.dask_api import replace_lost_workers

    ended = [name for name, nanny in cluster.workers.items() if nanny.status in (Status.closed, Status.failed)]
    for name in ended:
        if name in cluster.worker_spec:
            del cluster.workers[name]
    if cluster.worker_spec.keys() - cluster.workers.keys():
        with suppress(Exception):  # it is tried again at the next look
            await replace_lost_workers(cluster)


def _first_cause(fault: BaseException) -> str:
    """Return the first cause in words: the errors that distributed wraps around it say only that a start failed."""
    while (cause := fault.__cause__) is not None:
        fault = cause
    return f"{type(fault).__name__}: {fault}"


_folders: list[str] = []


def _new_folder() -> str:
    """Make a folder for the crash logs of workers, which is removed with this process."""
    _folders.append(tempfile.mkdtemp(prefix="prefectish_crash_log-"))
    return _folders[-1]


def _end_process_tree() -> NoReturn:
    """End this process and all of its descendants."""
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
    tracker._stop()  # it removes the semaphores of processes that were killed, so it ends last
    os._exit(0)
