"""The executors: how a flow runs.

``LocalExecutor`` runs a flow in this thread, ``LocalDaskExecutor`` on threads or processes of this machine,
``DaskExecutor`` on a cluster. Each is imported when it is asked for: only ``DaskExecutor`` imports distributed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefectish.engine.driver.inline import LocalExecutor
from prefectish.missing_names import lead_out

if TYPE_CHECKING:
    from prefectish.executors.cluster import DaskExecutor
    from prefectish.executors.pool import LocalDaskExecutor

__all__ = ["DaskExecutor", "LocalDaskExecutor", "LocalExecutor"]

_MODULES = {"DaskExecutor": "cluster", "LocalDaskExecutor": "pool"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        lead_out(__name__)(name)
    from importlib import import_module

    try:
        module = import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in ("dask", "distributed"):
            raise
        raise ModuleNotFoundError(
            f"{name} needs {library}, which is not installed here; `pip install dask distributed` installs it, "
            f"and LocalExecutor works without it",
            name=error.name,
        ) from error
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
