"""Task runners of later Prefects: executors under their names there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_EXECUTORS = "prefectish.executors"


def _executor(name: str, **options: Any) -> Any:
    """Make an executor, which is loaded by its name: nothing of the package imports Dask by itself."""
    from importlib import import_module

    return getattr(import_module(_EXECUTORS), name)(**{k: v for k, v in options.items() if v is not None})


def DaskTaskRunner(
    cluster: Any = None,
    address: str | None = None,
    cluster_class: str | Callable[..., Any] | None = None,
    cluster_kwargs: Mapping[str, Any] | None = None,
    adapt_kwargs: Mapping[str, Any] | None = None,
    client_kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """Return a :class:`prefectish.executors.DaskExecutor`, for ``task_runner=``.

    Parameters
    ----------
    cluster
        A cluster that runs; its address is used.
    address, cluster_class, cluster_kwargs, adapt_kwargs, client_kwargs
        As for the executor.
    """
    if cluster is not None:
        if address is not None:
            raise ValueError("give one of cluster and address: both say which cluster is used")
        address = cluster.scheduler_address
    return _executor(
        "DaskExecutor",
        address=address,
        cluster_class=cluster_class,
        cluster_kwargs=cluster_kwargs,
        adapt_kwargs=adapt_kwargs,
        client_kwargs=client_kwargs,
    )


def ThreadPoolTaskRunner(max_workers: int | None = None) -> Any:
    """Return a :class:`prefectish.executors.LocalDaskExecutor` with so many threads, for ``task_runner=``."""
    return _executor("LocalDaskExecutor", scheduler="threads", num_workers=max_workers)
