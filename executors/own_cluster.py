"""The temporary cluster of a run: on this machine, on loopback, removed with the run.

Its scheduler and nannies live in one process (:mod:`prefectish.executors.cluster_process`): the script that starts a
cluster is not run a second time by it, so it needs no ``if __name__ == "__main__"``, and the scheduler does not share
its interpreter.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection as PipeEnd
from typing import Any

import dask
from distributed import Security

from prefectish.errors import FlowDefinitionError, SchedulerLost
from prefectish.executors.probe import is_loopback
from prefectish.source_lines import dumps_by_value

#: Seconds until a temporary cluster must have started.
_START_LIMIT = 60.0
#: Seconds until it must have ended: a little more than the cluster allows itself.
_STOP_LIMIT = 3.0
#: Seconds until the children of a killed cluster process must have ended too.
_KILL_LIMIT = 1.0

# Workers are forked, where that is safe, from a process that imports distributed while the cluster process does so.
_BOOT = """
import sys
from multiprocessing import forkserver
from multiprocessing.connection import Connection
pipe = Connection(0)
sys.path[:], preload = pipe.recv()
if preload:
    forkserver.set_forkserver_preload(preload)
    forkserver.ensure_running()
from prefectish.executors.cluster_process import main
main(pipe)
"""
# multiprocessing warns of semaphores that it removed for a process that was killed.
_QUIET = "ignore:resource_tracker:UserWarning"
_PRELOAD = ["distributed.nanny", "distributed.worker", "prefectish.executors.lower"]
_ROUTES = "distributed.scheduler.http.routes"
_METHOD = "distributed.worker.multiprocessing-method"


class OwnCluster:
    """A temporary cluster and its process.

    Attributes
    ----------
    address
        Of its scheduler.
    security
        What a client needs to speak to it.
    """

    __slots__ = ("_process", "_pipe", "address", "security")

    def __init__(self, host: subprocess.Popen[bytes], pipe: PipeEnd, security: Security) -> None:
        self._process = host
        self._pipe = pipe
        self.security = security
        self.address = ""

    def close(self) -> None:
        """End all of its processes, and wait for their end."""
        self._pipe.close()
        try:
            self._process.wait(_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._kill()

    def _kill(self) -> None:
        """Kill the cluster process; its children notice that and end."""
        group = self._process.pid
        self._process.kill()
        self._process.wait()
        end = time.monotonic() + _KILL_LIMIT
        with suppress(ProcessLookupError):
            while time.monotonic() < end:
                os.killpg(group, 0)
                time.sleep(0.01)
            os.killpg(group, signal.SIGKILL)

    def start(self, preload: list[str], arguments: bytes) -> None:
        """Send the arguments to the cluster process and wait for the address of its scheduler.

        Raises
        ------
        SchedulerLost
            It did not start.
        """
        try:
            self._pipe.send(([path or os.getcwd() for path in sys.path], preload))
            self._pipe.send_bytes(arguments)
            if not self._pipe.poll(_START_LIMIT):
                raise SchedulerLost(f"the temporary cluster did not start within {_START_LIMIT:g} s")
            answer = self._pipe.recv()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            raise SchedulerLost(
                f"the temporary cluster ended while starting, exit code {self._process.wait()}"
            ) from None
        if "fault" in answer:
            raise SchedulerLost(f"the temporary cluster did not start: {answer['fault']}")
        self.address = answer["address"]


def start_own_cluster(
    cluster_kwargs: Mapping[str, Any], adapt_kwargs: Mapping[str, Any] | None, security: Security | None, debug: bool
) -> OwnCluster:
    """Start scheduler and workers in processes of their own, which end with this one, however that ends.

    Parameters
    ----------
    cluster_kwargs
        As of ``distributed.LocalCluster``.
    adapt_kwargs
        Of its ``adapt`` method; None for a cluster of fixed size.
    debug
        Show what it logs.

    Raises
    ------
    SchedulerLost
        It did not start.
    FlowDefinitionError
        It would not stay on loopback.
    """
    arguments = _pickled_arguments(_arguments(cluster_kwargs, security, debug), adapt_kwargs)
    preload = _PRELOAD if sys.platform == "linux" and dask.config.get(_METHOD) in ("spawn", "forkserver") else []
    ours, theirs = Pipe()
    with ExitStack() as undo:
        undo.callback(ours.close)
        with theirs:
            cluster = OwnCluster(_start_process(theirs), ours, security or Security())
        undo.callback(cluster.close)
        cluster.start(preload, arguments)
        undo.pop_all()
    return cluster


def _pickled_arguments(cluster_kwargs: Mapping[str, Any], adapt_kwargs: Mapping[str, Any] | None) -> bytes:
    """Pickle the arguments of the cluster."""
    adapt = None if adapt_kwargs is None else dict(adapt_kwargs)
    try:
        return dumps_by_value({"cluster_kwargs": cluster_kwargs, "adapt_kwargs": adapt, "config": _configuration()})
    except Exception as fault:
        raise FlowDefinitionError(
            f"cluster_kwargs or adapt_kwargs cannot be sent to the process of the temporary cluster: {fault}"
        ) from fault


def _start_process(pipe: PipeEnd) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-W", _QUIET, "-c", _BOOT],
        stdin=pipe.fileno(),
        start_new_session=True,  # Ctrl-C in a terminal is for the driver alone
        env=_environment(),
    )


def _arguments(given: Mapping[str, Any], security: Security | None, debug: bool) -> dict[str, Any]:
    """Return the arguments of the cluster, completed by those that keep a temporary cluster private and quiet."""
    host = given.get("host")
    if given.get("interface") is not None or (host is not None and not is_loopback(f"{host}:0")):
        raise FlowDefinitionError(
            f"cluster_kwargs: a temporary cluster listens on loopback only, not on {host or given['interface']!r}; "
            "use cluster_class=distributed.LocalCluster for one that others reach"
        )
    encrypted = security is not None and security.require_encryption
    defaults = {
        "dashboard_address": None,
        "silence_logs": False if debug else logging.CRITICAL,
        "protocol": "tls://" if encrypted else "tcp://",
        "security": security,
    }
    if given.get("dashboard_address") is None:  # Dask serves one all the same: on loopback, on any free port
        quiet = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
        defaults["scheduler_kwargs"] = quiet | dict(given.get("scheduler_kwargs") or {})
        given = {name: value for name, value in given.items() if name != "scheduler_kwargs"}
    return defaults | dict(given)


def _configuration() -> dict[str, Any]:
    """Return the configuration of Dask in this process, without what its clients changed, for the cluster."""
    config = {name: value for name, value in dask.config.config.items() if name not in ("get", "scheduler", "shuffle")}
    # A scheduler that ran in this process without bokeh added a page to these, for all that follow.
    routes = [route for route in dask.config.get(_ROUTES) if not route.endswith(".missing_bokeh")]
    config = dict(dask.config.merge(config, {"distributed": {"scheduler": {"http": {"routes": routes}}}}))
    if sys.platform == "linux" and dask.config.get(_METHOD) == "spawn":  # the default of Dask; forking is only quicker
        return dict(dask.config.merge(config, {"distributed": {"worker": {"multiprocessing-method": "forkserver"}}}))
    return config


def _environment() -> dict[str, str]:
    """Return the environment of the cluster process, with what nannies set for workers: forked ones inherit it."""
    before = dask.config.get("distributed.nanny.pre-spawn-environ")
    environment = {"PYTHONHASHSEED": "6640"} | {name: str(value) for name, value in before.items() if value is not None}
    return environment | os.environ
