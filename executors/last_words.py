"""The former name of :mod:`prefectish.executors.crash_log`, for ``--preload prefectish.executors.last_words``."""

from prefectish.executors.crash_log import dask_setup

__all__ = ["dask_setup"]
