"""The temporary cluster of a run: on this machine, on loopback, gone with the run.

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
from multiprocessing.connection import Connection as Wire
from typing import Any

import dask
from distributed import Security

from prefectish.errors import FlowDefinitionError, SchedulerLost
from prefectish.executors.probe import is_loopback
from prefectish.source_lines import dumps_by_value

#: Seconds until a temporary cluster must be there.
START_LIMIT = 60.0
#: Seconds until it must be gone: a little more than it gives itself.
STOP_LIMIT = 3.0
#: Seconds until what lived below a killed host must have followed it.
KILL_LIMIT = 1.0

# Workers are forked, where that is safe, from a process that imports distributed while the host does the same.
_BOOT = """
import sys
from multiprocessing import forkserver
from multiprocessing.connection import Connection
wire = Connection(0)
sys.path[:], preload = wire.recv()
if preload:
    forkserver.set_forkserver_preload(preload)
    forkserver.ensure_running()
from prefectish.executors.cluster_process import main
main(wire)
"""
# What multiprocessing says of semaphores that it removed for a process that was killed.
_QUIET = "ignore:resource_tracker:UserWarning"
_PRELOAD = ["distributed.nanny", "distributed.worker", "prefectish.executors.lower"]
_ROUTES = "distributed.scheduler.http.routes"
_METHOD = "distributed.worker.multiprocessing-method"


class OwnCluster:
    """A temporary cluster that was started, and what ends it.

    Attributes
    ----------
    address
        Of its scheduler.
    security
        What a client needs to speak to it.
    """

    __slots__ = ("_host", "_wire", "address", "security")

    def __init__(self, host: subprocess.Popen[bytes], wire: Wire, security: Security) -> None:
        self._host = host
        self._wire = wire
        self.security = security
        self.address = ""

    def close(self) -> None:
        """End all of its processes; return when they are gone."""
        self._wire.close()
        try:
            self._host.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._kill()

    def _kill(self) -> None:
        """Kill the host; what lives below it sees that and ends."""
        group = self._host.pid
        self._host.kill()
        self._host.wait()
        end = time.monotonic() + KILL_LIMIT
        with suppress(ProcessLookupError):
            while time.monotonic() < end:
                os.killpg(group, 0)
                time.sleep(0.01)
            os.killpg(group, signal.SIGKILL)

    def start(self, preload: list[str], order: bytes) -> None:
        """Tell the host what to start and wait until it says where that is.

        Raises
        ------
        SchedulerLost
            It did not start.
        """
        try:
            self._wire.send(([path or os.getcwd() for path in sys.path], preload))
            self._wire.send_bytes(order)
            if not self._wire.poll(START_LIMIT):
                raise SchedulerLost(f"the temporary cluster did not start within {START_LIMIT:g} s")
            answer = self._wire.recv()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            raise SchedulerLost(f"the temporary cluster ended while starting, exit code {self._host.wait()}") from None
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
        Let it log.

    Raises
    ------
    SchedulerLost
        It did not start.
    FlowDefinitionError
        It would not stay on loopback.
    """
    order = _order(_arguments(cluster_kwargs, security, debug), adapt_kwargs)
    preload = _PRELOAD if sys.platform == "linux" and dask.config.get(_METHOD) in ("spawn", "forkserver") else []
    ours, theirs = Pipe()
    with ExitStack() as undo:
        undo.callback(ours.close)
        with theirs:
            cluster = OwnCluster(_start_host(theirs), ours, security or Security())
        undo.callback(cluster.close)
        cluster.start(preload, order)
        undo.pop_all()
    return cluster


def _order(cluster_kwargs: Mapping[str, Any], adapt_kwargs: Mapping[str, Any] | None) -> bytes:
    """Pickle what the host needs to know."""
    adapt = None if adapt_kwargs is None else dict(adapt_kwargs)
    try:
        return dumps_by_value({"cluster_kwargs": cluster_kwargs, "adapt_kwargs": adapt, "config": _configuration()})
    except Exception as fault:
        raise FlowDefinitionError(
            f"cluster_kwargs or adapt_kwargs cannot be sent to the process of the temporary cluster: {fault}"
        ) from fault


def _start_host(wire: Wire) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-W", _QUIET, "-c", _BOOT],
        stdin=wire.fileno(),
        start_new_session=True,  # a terminal's Ctrl-C is for the driver alone
        env=_environment(),
    )


def _arguments(given: Mapping[str, Any], security: Security | None, debug: bool) -> dict[str, Any]:
    """Return the arguments of the cluster with what we expect of one that nobody asked for by name."""
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
    if given.get("dashboard_address") is None:  # it listens all the same: where nobody looks for it
        quiet = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
        defaults["scheduler_kwargs"] = quiet | dict(given.get("scheduler_kwargs") or {})
        given = {name: value for name, value in given.items() if name != "scheduler_kwargs"}
    return defaults | dict(given)


def _configuration() -> dict[str, Any]:
    """Return Dask's configuration in this process, for the cluster, without what the clients here made of it."""
    config = {name: value for name, value in dask.config.config.items() if name not in ("get", "scheduler", "shuffle")}
    # A scheduler with a dashboard and without bokeh, in this process, adds a page to these for all that follow.
    routes = [route for route in dask.config.get(_ROUTES) if not route.endswith(".missing_bokeh")]
    config = dict(dask.config.merge(config, {"distributed": {"scheduler": {"http": {"routes": routes}}}}))
    if sys.platform == "linux" and dask.config.get(_METHOD) == "spawn":  # the default, which forking only quickens
        return dict(dask.config.merge(config, {"distributed": {"worker": {"multiprocessing-method": "forkserver"}}}))
    return config


def _environment() -> dict[str, str]:
    """Return this environment, and what a nanny sets before it spawns a worker: forked ones have it from the host."""
    before = dask.config.get("distributed.nanny.pre-spawn-environ")
    wanted = {"PYTHONHASHSEED": "6640"} | {name: str(value) for name, value in before.items() if value is not None}
    return wanted | os.environ
