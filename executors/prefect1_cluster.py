"""`prefect.executors.DaskExecutor`, in a module of its own: only it imports distributed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from prefectish.engine.jobs.preparation import Preparation
from prefectish.engine.plan.placement import resources_of
from prefectish.executors.cluster import DaskExecutor as OwnDaskExecutor
from prefectish.executors.prefect1 import Executor, call, results


class DaskExecutor(OwnDaskExecutor, Executor):
    """Runs a flow on a Dask cluster; see :class:`prefectish.executors.DaskExecutor`.

    Parameters
    ----------
    address, cluster_class, debug
        As for that class; if left out, those of the settings.
    local_processes
        Whether the workers of a cluster that it starts are processes; threads of one process otherwise.
    **kwargs
        As for that class.
    """

    def __init__(
        self,
        address: str | None = None,
        cluster_class: Any = None,
        cluster_kwargs: Mapping[str, Any] | None = None,
        adapt_kwargs: Mapping[str, Any] | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        debug: bool | None = None,
        local_processes: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if address and (cluster_class or cluster_kwargs or adapt_kwargs):
            raise ValueError("Cannot specify `address` and `cluster_class`/`cluster_kwargs`/`adapt_kwargs`")
        config = import_module("prefectish.compat.configuration").config
        dask = config.engine.executor.dask
        if not (address or cluster_class or kwargs.get("client") or kwargs.get("scheduler_file")):
            address = dask.get("address")
            cluster_class = None if address else dask.get("cluster_class")
        if local_processes is not None and not cluster_class and not address:
            cluster_kwargs = {"processes": local_processes, **(cluster_kwargs or {})}
        super().__init__(
            address or None, cluster_class=cluster_class or None, cluster_kwargs=cluster_kwargs,
            adapt_kwargs=adapt_kwargs, client_kwargs=client_kwargs, debug=config.debug if debug is None else debug,
            **kwargs,
        )  # fmt: skip
        self._open: Any = None

    __repr__ = Executor.__repr__

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, **({"_open": None, "client": None} if self._open else {})}

    @contextmanager
    def start(self, plan: Any = None, run: Any = None) -> Iterator[Any]:
        """Open a session for a run; or, without a plan, connect for submissions."""
        if plan is not None:
            with super().start(plan, run) as session:
                yield session
            return
        with self.connected() as connection:
            given, self.client, self._open = self.client, connection.client, connection.client
            try:
                yield self
            finally:
                self.client, self._open = given, None

    def submit(self, fn: Callable[..., Any], *args: Any, extra_context: Any = None, **kwargs: Any) -> Any:
        """Call a function on a worker and return its Dask future."""
        if self._open is None:
            raise ValueError("Executor must be started: submit in `with executor.start():`")
        told = extra_context or {}
        name = str(told.get("task_full_name") or getattr(fn, "__name__", "call"))
        return self._open.submit(
            call, fn, args, kwargs, Preparation(), key=f"{name}-{uuid.uuid4().hex}",
            resources=resources_of(told.get("task_tags") or (), name) or None,
        )  # fmt: skip

    def wait(self, futures: Any) -> Any:
        """Return Dask futures, in whatever lists and dicts, as their results."""
        if self._open is None:
            raise ValueError("Executor must be started: wait in `with executor.start():`")
        return results(self._open.gather(futures))
