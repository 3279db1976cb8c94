"""DaskExecutor: runs flows on a distributed cluster."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any

from distributed import Client

from prefectish.engine.driver.executor_options import check_count, check_keywords, check_seconds, check_tag_limits
from prefectish.engine.plan.steps import Plan
from prefectish.engine.worker.body_progress import SENDER
from prefectish.engine.worker.yielding import SENDER as YIELD_SENDER
from prefectish.executors.addresses import check_one_cluster, check_size, split_client_kwargs
from prefectish.executors.connect import Connection, connect, imported
from prefectish.executors.first_calls import TaskChecks
from prefectish.executors.probe import checked_address, masked
from prefectish.executors.progress_reports import send_by_cluster, yield_by_cluster
from prefectish.executors.seceding import seceded
from prefectish.executors.session import ClusterSession
from prefectish.executors.shipping import checked
from prefectish.validation import unknown_argument


class DaskExecutor:
    """Runs a flow on a Dask cluster, one Dask task for each child.

    Parameters
    ----------
    address
        Address of a scheduler. Without it, and without `client`, `scheduler_file` and what a cluster is started from,
        the scheduler of Dask's configuration is used, ``DASK_SCHEDULER_ADDRESS``; if it names none, a temporary
        cluster on this machine is started for each run, listening on loopback only.
    client
        A Client that you opened; neither it nor its cluster is closed.
    scheduler_file
        File with the address of a scheduler, as ``dask scheduler --scheduler-file`` writes it.
    n_workers, threads_per_worker, memory_limit
        Of the cluster that is started.
    cluster_class, cluster_kwargs, adapt_kwargs
        A cluster class, or its dotted name, its keyword arguments, and those of its ``adapt`` method; without a class,
        `cluster_kwargs` go to the temporary cluster.
    client_kwargs, security
        For the Client; `address`, `scheduler_file` and `security` among `client_kwargs` are taken as if given here.
    dashboard
        Serve the dashboard of a temporary cluster, on loopback, and log its address; needs bokeh.
    require_tls
        Refuse an unencrypted connection.
    debug
        Show what Dask's workers log: a temporary cluster logs to the error output, the workers of any other to the
        handlers of this process.
    max_branches
        Branches of maps open at once, at most; default: as many as keep the cluster busy.
    tag_limits
        Children of all tasks with a tag that run at once, at most, by tag.
    no_workers_timeout
        Seconds without a worker, or without an answer of the scheduler, after which open children have crashed.
    max_inline_bytes
        Largest result that is sent to the client with its record, in bytes; larger ones stay on the workers.
    performance_report_path
        Where to write Dask's performance report of each run (an HTML page); needs bokeh.
    verify_results
        Unpickle each result once more where it was made, so that one that cannot be unpickled fails there.
    ship
        ``"project"``: modules of your own that the tasks reach travel with them, by value; or a list of modules,
        packages (imported, or their names) and folders. By default workers must have them.
    stall_warning
        Seconds without a finished task after which a warning says what runs; None for no warning.

    Examples
    --------
    >>> DaskExecutor("tcp://127.0.0.1:8786")
    <DaskExecutor: tcp://127.0.0.1:8786>
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        client: Client | None = None,
        scheduler_file: str | os.PathLike[str] | None = None,
        cluster_class: Any = None,
        cluster_kwargs: Mapping[str, Any] | None = None,
        adapt_kwargs: Mapping[str, Any] | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        n_workers: int | None = None,
        threads_per_worker: int | None = None,
        memory_limit: Any = None,
        security: Any = None,
        require_tls: bool = False,
        dashboard: bool = False,
        debug: bool | None = None,
        max_branches: int | None = None,
        tag_limits: Mapping[str, int] | None = None,
        no_workers_timeout: float = 300,
        max_inline_bytes: int = 4096,
        performance_report_path: str | None = None,
        verify_results: bool = False,
        stall_warning: float | None = 60,
        ship: Any = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise _unknown(unknown)
        for name, keywords in (("cluster", cluster_kwargs), ("adapt", adapt_kwargs), ("client", client_kwargs)):
            check_keywords(f"{name}_kwargs", keywords)
        if client_kwargs:
            own, client_kwargs = split_client_kwargs(client_kwargs)
            address = address if address is not None else own.get("address")
            scheduler_file = scheduler_file if scheduler_file is not None else own.get("scheduler_file")
            security = security if security is not None else own.get("security")
        named = {"address": address, "client": client, "scheduler_file": scheduler_file, "cluster_class": cluster_class}
        check_one_cluster(named)
        n_workers = check_count("n_workers", n_workers, 0)
        threads_per_worker = check_count("threads_per_worker", threads_per_worker)
        size = {"n_workers": n_workers, "threads_per_worker": threads_per_worker, "memory_limit": memory_limit}
        if size := {name: value for name, value in size.items() if value is not None}:
            check_size(size, named)
            cluster_kwargs = {**size, **(cluster_kwargs or {})}
        check_seconds("no_workers_timeout", no_workers_timeout, optional=False)
        check_seconds("stall_warning", stall_warning)
        if isinstance(cluster_class, str):
            imported(cluster_class)  # here: a run may have a thread, where dask_jobqueue cannot be imported
        self.address = checked_address(address)
        self.scheduler_file = scheduler_file
        self.dashboard = dashboard
        self.client = client
        self.cluster_class = cluster_class
        self.cluster_kwargs = cluster_kwargs
        self.adapt_kwargs = adapt_kwargs
        self.client_kwargs = client_kwargs
        self.security = security
        self.require_tls = require_tls
        self.debug = debug
        self.max_branches = check_count("max_branches", max_branches, endless=True)
        self.tag_limits = check_tag_limits(tag_limits)
        self.no_workers_timeout = no_workers_timeout
        self.max_inline_bytes = check_count("max_inline_bytes", max_inline_bytes, 0)
        self.performance_report_path = performance_report_path
        self.verify_results = verify_results
        self.stall_warning = stall_warning
        self.ship = checked(ship)

    def connected(self) -> AbstractContextManager[Connection]:
        """Return the block in which the executor is connected to its cluster."""
        return connect(
            self.address,
            client=self.client,
            scheduler_file=self.scheduler_file,
            dashboard=self.dashboard,
            cluster_class=self.cluster_class,
            cluster_kwargs=self.cluster_kwargs,
            adapt_kwargs=self.adapt_kwargs,
            client_kwargs=self.client_kwargs,
            security=self.security,
            require_tls=self.require_tls,
            debug=self.debug,
        )

    @contextmanager
    def start(self, plan: Plan, run: Mapping[str, Any]) -> Iterator[ClusterSession]:
        """Connect, and open a session for one run."""
        with ExitStack() as stack:
            connection = stack.enter_context(self.connected())
            if self.debug and (self.address or self.client or self.cluster_class):
                stack.enter_context(_worker_logs(connection.client))
            checks = TaskChecks(connection, run["flow_run_id"], placements=self.adapt_kwargs is None)
            stack.callback(checks.close)
            session = self._session(connection, plan, key_name(run))
            session.checks = checks
            stack.callback(session.close)
            checks.check((step.label, step.task, step.store) for step in plan.steps if step.literal is None)
            if self.performance_report_path is not None:
                stack.enter_context(_performance_report(connection.client, self.performance_report_path))
            if isinstance(run, dict):
                run[SENDER], run[YIELD_SENDER] = send_by_cluster, yield_by_cluster
            yield session

    def _session(self, connection: Connection, plan: Plan, key: str) -> ClusterSession:
        return ClusterSession(
            connection,
            plan,
            key,
            max_branches=self.max_branches,
            max_inline_bytes=self.max_inline_bytes,
            no_workers_timeout=self.no_workers_timeout,
            verify_results=self.verify_results,
            stall_warning=self.stall_warning,
            ship=self.ship,
        )

    def waited_for(self) -> AbstractContextManager[None]:
        """Return the block in which a thread waits for a run: a body on this cluster gives up its place meanwhile."""
        scheduler = getattr(self.client, "scheduler", None)  # None of a client that is closed, which is refused later
        address = self.address if self.client is None else getattr(scheduler, "address", None)
        return nullcontext() if address is None else seceded(address)

    def __repr__(self) -> str:
        address = masked(self.address) if self.address else None
        where = address or (self.scheduler_file and f"scheduler of {os.fspath(self.scheduler_file)}")
        where = where or (self.client and "an existing client") or self.cluster_class or "temporary cluster"
        return f"<DaskExecutor: {where}>"


def _unknown(arguments: Mapping[str, Any]) -> TypeError:
    """Return the error for arguments that `DaskExecutor` does not take: most are meant for the cluster."""
    name = next(iter(arguments))
    own = inspect.signature(DaskExecutor).parameters
    if difflib.get_close_matches(name, own, 1, 0.75):
        return unknown_argument(DaskExecutor, name)
    meant = ", ".join(f"{key!r}: {value!r}" for key, value in arguments.items())
    return TypeError(
        f"DaskExecutor got an unexpected keyword argument {name!r}; what is meant for the cluster goes into "
        f"cluster_kwargs={{{meant}}}"
    )


def key_name(run: Mapping[str, Any]) -> str:
    """Return the name of a run in keys: a run that is resumed must not use a key a second time."""
    part = run.get("flow_run_part", 0)
    return f"{run['flow_run_id']}-{part}" if part else str(run["flow_run_id"])


@contextmanager
def _worker_logs(client: Client) -> Iterator[None]:
    """Forward what Dask logs on the workers to this process."""
    client.forward_logging("distributed")
    try:
        yield
    finally:
        client.unforward_logging("distributed")


@contextmanager
def _performance_report(client: Client, path: str) -> Iterator[None]:
    """Write the performance report of Dask."""
    from distributed import performance_report

    if find_spec("bokeh") is None:  # Dask would say so at the end of the run
        raise ModuleNotFoundError("performance_report_path needs bokeh, which is not installed here; pip install bokeh")
    with client.as_current(), performance_report(filename=path):
        yield
