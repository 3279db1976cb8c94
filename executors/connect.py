"""From the arguments of an executor to a client that is connected, and what has to be closed after the run."""

from __future__ import annotations

import asyncio
import importlib
import logging
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future as Answer
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed import Client, Future, Security
from distributed.utils import format_dashboard_link

from prefectish.errors import FlowDefinitionError, SchedulerLost
from prefectish.executors.addresses import address_in, configured_address, log_dashboard
from prefectish.executors.dask_api import is_asynchronous, wait_for_end
from prefectish.executors.own_cluster import start_own_cluster
from prefectish.executors.preflight import Presence, begun, preflight
from prefectish.executors.probe import await_scheduler, checked_address, is_encrypted, is_loopback, masked
from prefectish.executors.waker import Waker

#: Arguments that have no meaning for a cluster, or a client, that exists already.
_MEANINGLESS = {
    "address": ("cluster_kwargs", "adapt_kwargs"),
    "client": ("cluster_kwargs", "adapt_kwargs", "client_kwargs", "security"),
}
#: Seconds for a client to close.
_CLOSE_LIMIT = 2.0
_warned: set[str] = set()


class Connection:
    """A client for one run.

    Attributes
    ----------
    client
        Ready to use, from any thread but its loop's.
    owned
        The client was opened for the run, and is closed after it.
    temporary
        The cluster was started for the run too.
    presence
        What the scheduler said of its cluster when it was asked before the run; None if it was not. The first to ask
        waits for it, and processes are compared then.
    """

    __slots__ = ("_adapt", "_look", "_presence", "client", "owned", "temporary")

    def __init__(
        self,
        client: Client,
        *,
        owned: bool,
        temporary: bool,
        adapt_kwargs: Mapping[str, Any] | None = None,
        presence: Callable[[], Presence | None] | None = None,
    ) -> None:
        self.client = client
        self.owned = owned
        self.temporary = temporary
        self._look = presence
        self._presence: Presence | None = None
        self._adapt = adapt_kwargs or {}

    @property
    def presence(self) -> Presence | None:
        """What the scheduler said of its cluster; see above."""
        if self._look is not None:
            self._presence, self._look = self._look(), None
        return self._presence

    def has(self, plugin: str) -> bool:
        """Whether the scheduler had a plugin when it was asked before the run."""
        return self.presence is not None and plugin in self.presence.plugins

    def worker_processes(self) -> Collection[str]:
        """Return identifiers of the processes of workers when the run began; none if they are not known."""
        return () if self.presence is None else self.presence.workers.values()

    def workers(self) -> dict[str, dict[str, Any]]:
        """Return ``nthreads``, ``resources``, ``name`` and more of the present workers, by address.

        One message, about 2 kB a worker.

        Raises
        ------
        SchedulerLost
            The scheduler does not answer.
        """
        return dict(self._identity(-1)["workers"])

    async def ask_threads(self) -> int:
        """Return the number of threads of all present workers, in the client's loop.

        Raises
        ------
        OSError
            The scheduler does not answer.
        """
        answer = await self.client.scheduler.identity(n_workers=0)
        return int(answer["total_threads"])

    def total_threads(self) -> int:
        """Return the number of threads of all present workers; one small message."""
        return int(self._identity(0)["total_threads"])

    @property
    def dashboard_link(self) -> str | None:
        """Return the address of the cluster's dashboard; None if it serves none."""
        if self.presence is not None and self.client.cluster is None and self.client.scheduler is not None:
            port, address = self.presence.dashboard_port, self.client.scheduler.address
            if port is None:
                return None
            return str(format_dashboard_link(address.partition("://")[2].split(":")[0], port))
        try:
            return str(self.client.dashboard_link or "") or None
        except (AttributeError, KeyError, ValueError, OSError):  # a scheduler without one, or that is gone
            return None

    def maximum_threads(self) -> int:
        """Return the number of threads the cluster may grow to; the ones when the run began, if no maximum is set."""
        now = self.total_threads() if self.presence is None else self.presence.threads
        cores, workers = self._adapt.get("maximum_cores"), self._adapt.get("maximum")
        if cores is not None:
            return max(now, int(cores))
        if workers is None or workers == float("inf"):
            return now
        each = max((worker["nthreads"] for worker in self.workers().values()), default=1)
        return max(now, int(workers) * each)

    def begin(self, question: Coroutine[Any, Any, Any]) -> Answer[Any]:
        """Run a coroutine in the client's loop, and return the future of its answer."""
        return asyncio.run_coroutine_threadsafe(question, self.client.loop.asyncio_loop)

    def wait_any(self, futures: Sequence[Future], timeout: float, waker: Waker | None = None) -> None:
        """Wait until one of `futures` is done, however it ended, or for a wake-up, at most `timeout` seconds.

        Unlike ``distributed.wait``, whose traceback keeps the futures, and so their values, when the time is up.
        """
        also = () if waker is None else (waker.wait(),)
        self.client.sync(_any_done, [*map(wait_for_end, futures), *also], timeout)

    def _identity(self, n_workers: int) -> dict[str, Any]:
        if self.client.status != "running" or self.client.scheduler is None:
            raise SchedulerLost(f"the connection to the scheduler is {self.client.status}")
        try:
            answer: dict[str, Any] = self.client.sync(self.client.scheduler.identity, n_workers=n_workers)
        except OSError as fault:
            raise SchedulerLost(f"the scheduler does not answer: {fault}") from fault
        return answer

    def __repr__(self) -> str:
        scheduler = self.client.scheduler
        return f"<Connection to {masked(scheduler.address) if scheduler else 'a closed scheduler'}>"


async def _any_done(coroutines: Sequence[Coroutine[Any, Any, Any]], timeout: float) -> None:
    waits = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


@contextmanager
def connect(
    address: str | None = None,
    *,
    client: Client | None = None,
    scheduler_file: str | os.PathLike[str] | None = None,
    dashboard: bool = False,
    cluster_class: str | Callable[..., Any] | None = None,
    cluster_kwargs: Mapping[str, Any] | None = None,
    adapt_kwargs: Mapping[str, Any] | None = None,
    client_kwargs: Mapping[str, Any] | None = None,
    security: Security | Mapping[str, Any] | bool | None = None,
    require_tls: bool = False,
    debug: bool | None = None,
) -> Iterator[Connection]:
    """Connect to a cluster, or start one, for the time of a ``with`` block.

    Parameters
    ----------
    address
        Of a scheduler, like ``tcp://host:8786``.
    client
        A client that is used as it is, and not closed.
    scheduler_file
        File with the address of a scheduler.
    dashboard
        Serve the dashboard of a temporary cluster, and log the address of that of any other.
    cluster_class
        Called with `cluster_kwargs`; or its dotted name.
    adapt_kwargs
        For the ``adapt`` method of the cluster that is started.
    client_kwargs
        For the client that is opened.
    security
        ``distributed.Security``, its arguments, or True for temporary certificates of a cluster that is started.
    require_tls
        Refuse connections that are not encrypted.
    debug
        Let a temporary cluster log.

    Raises
    ------
    ValueError
        The arguments contradict one another.
    SchedulerLost
        There is no scheduler, or it refuses the connection.
    EnvironmentMismatch
        Scheduler or workers cannot run what the run sends them.

    Warns
    -----
    UserWarning
        The scheduler can be reached from other machines, without authentication: any peer can run code on it.
    """
    _check(
        {
            "address": address,
            "client": client,
            "cluster_class": cluster_class,
            "cluster_kwargs": cluster_kwargs,
            "adapt_kwargs": adapt_kwargs,
            "client_kwargs": client_kwargs,
            "security": security,
        }
    )
    with ExitStack() as stack:
        if client is not None:
            if dashboard:
                log_dashboard(client.dashboard_link)
            yield _borrow(client, require_tls)
            return
        arguments = dict(client_kwargs or {})
        if scheduler_file is not None:
            address = address_in(scheduler_file, _timeout(arguments))
        elif address is None and cluster_class is None and cluster_kwargs is None and adapt_kwargs is None:
            address = None if dashboard else configured_address()
        if address is not None:
            found, opened = _find(address, security, require_tls, arguments)
        elif cluster_class is not None:
            found, opened = _start(stack, cluster_class, cluster_kwargs or {}, adapt_kwargs, security, require_tls)
        else:
            kwargs = dict(cluster_kwargs or {})
            if dashboard:
                kwargs.setdefault("dashboard_address", "127.0.0.1:0")
            found, opened = _start_own(stack, kwargs, adapt_kwargs, security, require_tls, bool(debug))
        client = _open(stack, found, opened, arguments)
        if dashboard:
            log_dashboard(client.dashboard_link)
        # A temporary cluster runs what this process runs.
        presence = preflight(client) if address is not None or cluster_class is not None else None
        yield Connection(
            client, owned=True, temporary=address is None, adapt_kwargs=adapt_kwargs, presence=lambda: presence
        )


def _check(given: Mapping[str, Any]) -> None:
    """Refuse arguments that contradict one another."""
    named = [name for name in ("address", "client", "cluster_class") if given[name] is not None]
    if len(named) > 1:
        raise FlowDefinitionError(f"only one of {' and '.join(named)} may be given: each names a cluster")
    checked_address(given["address"])
    for name in _MEANINGLESS.get("".join(named), ()):
        if given[name] is not None:
            raise FlowDefinitionError(f"{name} has no meaning with {named[0]}=..., which names one that runs already")
    if (given["client_kwargs"] or {}).get("asynchronous"):
        raise FlowDefinitionError("client_kwargs must not set asynchronous: a run waits for its client")


# ---------------------------------------------------------------------- a client of the user


def _borrow(client: Client, require_tls: bool) -> Connection:
    """Check a client of the user."""
    if not isinstance(client, Client):
        raise FlowDefinitionError(f"client must be a distributed.Client, got a {type(client).__name__}")
    if is_asynchronous(client):
        raise FlowDefinitionError(
            "client must not be asynchronous: a run waits for its tasks, and would block the loop that runs them; "
            "pass Client(..., asynchronous=False), which works beside a running loop too"
        )
    if client.status != "running" or client.scheduler is None:
        raise SchedulerLost(f"client must be connected to its scheduler, got one that is {client.status}")
    _check_encrypted(client.scheduler.address, require_tls)
    return Connection(client, owned=False, temporary=False, presence=begun(client))


# ---------------------------------------------------------------------- a scheduler at an address


def _find(address: str, security: Any, require_tls: bool, arguments: Mapping[str, Any]) -> tuple[str, Security]:
    """Wait for a scheduler at `address`."""
    _check_encrypted(address, require_tls)
    if not is_encrypted(address) and not is_loopback(address) and address not in _warned:
        _warned.add(address)
        warnings.warn(
            f"{masked(address)}: unauthenticated scheduler: any peer can run code on it; use tls:// with security=",
            stacklevel=2,
        )
    secure = _security(security if security is not None else _load_security(address))
    await_scheduler(address, secure, _timeout(arguments))
    return address, secure


def _load_security(address: str) -> Any:
    """Return what the security loader of Dask's configuration returns for an address, as a Client does."""
    loader = dask.config.get("distributed.client.security-loader")
    return imported(loader)({"address": address}) if loader else None


def _timeout(arguments: Mapping[str, Any]) -> float:
    """Return the time to connect, in seconds."""
    given = arguments.get("timeout") or dask.config.get("distributed.comm.timeouts.connect")
    return float(parse_timedelta(given, default="s"))


# ---------------------------------------------------------------------- a cluster for the run


def _start(
    stack: ExitStack, cluster_class: Any, kwargs: Mapping[str, Any], adapt_kwargs: Any, security: Any, require_tls: bool
) -> tuple[Any, Security]:
    """Start a cluster of a class of the user."""
    if isinstance(cluster_class, str):
        cluster_class = imported(cluster_class)
    if security is not None:
        kwargs = {"security": _security(security)} | dict(kwargs)
    cluster = cluster_class(**kwargs)
    stack.callback(cluster.close)
    if getattr(cluster, "asynchronous", False):
        raise FlowDefinitionError("cluster_kwargs must not set asynchronous: a run waits for its cluster")
    _check_encrypted(cluster.scheduler_address, require_tls)
    if adapt_kwargs is not None:
        cluster.adapt(**adapt_kwargs)
    return cluster, kwargs.get("security") or cluster.security


def _start_own(
    stack: ExitStack, kwargs: Mapping[str, Any], adapt_kwargs: Any, security: Any, require_tls: bool, debug: bool
) -> tuple[Any, Security]:
    """Start the temporary cluster of a run."""
    wanted = True if security is None and require_tls else security
    secure = None if wanted is None else _security(wanted)
    if sys.platform == "win32":
        return _start_guarded(stack, kwargs, adapt_kwargs, secure)
    cluster = start_own_cluster(kwargs, adapt_kwargs, secure, debug)
    stack.callback(cluster.close)
    return cluster.address, cluster.security


def _start_guarded(
    stack: ExitStack, kwargs: Mapping[str, Any], adapt_kwargs: Any, security: Security | None
) -> tuple[Any, Security]:
    """Start workers as multiprocessing does on Windows: each imports the main script again."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise FlowDefinitionError(
            "this script is being imported by a worker that it started; on Windows put what runs the flow under "
            "`if __name__ == '__main__':`"
        )
    defaults = {"dashboard_address": None, "security": security}
    return _start(stack, "distributed.LocalCluster", defaults | dict(kwargs), adapt_kwargs, None, False)


# ---------------------------------------------------------------------- a client for the run


def _open(stack: ExitStack, target: Any, security: Security, arguments: Mapping[str, Any]) -> Client:
    """Open a client with set_as_default=False, so that the user's other computations keep their client."""
    timeout = _timeout(arguments)
    try:
        client = Client(target, **{"security": security, "set_as_default": False, "timeout": timeout} | dict(arguments))
    except OSError as fault:
        where = masked(target if isinstance(target, str) else target.scheduler_address)
        raise SchedulerLost(f"no Dask scheduler at {where} after {timeout:g} s: {fault}") from None
    stack.callback(_close, client)
    return client


def _close(client: Client) -> None:
    """Close a client; if the scheduler is lost, Dask's log need not say so once more."""
    log = logging.getLogger("distributed.client")
    lost = client.status != "running"
    with ExitStack() as stack:
        if lost:
            log.addFilter(_drop)
            stack.callback(log.removeFilter, _drop)
        with suppress(TimeoutError, OSError):
            client.close(timeout=_CLOSE_LIMIT)


def _drop(record: logging.LogRecord) -> bool:
    return False


def _check_encrypted(address: str, require_tls: bool) -> None:
    if require_tls and not is_encrypted(address):
        raise FlowDefinitionError(f"require_tls=True, and {masked(address)} is not encrypted; use a tls:// address")


def _security(given: Any) -> Security:
    """Return what a user gave for `security` as Dask's object; without it, what the configuration says."""
    if given is None or given is False:
        return Security()
    if given is True:
        try:
            return Security.temporary()
        except ImportError as fault:
            raise FlowDefinitionError(f"security=True makes temporary certificates, which failed: {fault}") from None
    return Security(**given) if isinstance(given, Mapping) else given


def imported(name: str) -> Any:
    """Return what a dotted name stands for.

    Raises
    ------
    FlowDefinitionError
        There is nothing of that name.
    """
    module, _, attribute = name.rpartition(".")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as fault:
        hint = '; pip install "prefectish[slurm]"' if getattr(fault, "name", None) == "dask_jobqueue" else ""
        raise FlowDefinitionError(f"{name!r} is not the dotted name of anything: {fault}{hint}") from fault
    finally:  # dask_jobqueue 0.9 sets handlers as it is imported, and Ctrl-C would not end a run as it should
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
