"""The ways in which Dask's users name a scheduler: its configuration, a scheduler file, arguments of the Client."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

import dask

from prefectish.errors import FlowDefinitionError, SchedulerLost
from prefectish.executors.probe import masked

#: Arguments of a Client that the executor takes itself: it looks at the scheduler before there is a client.
_OWN = ("address", "scheduler_file", "security")
#: Seconds between two looks for a file that is not there yet.
_PAUSE = 0.1
logger = logging.getLogger("prefectish.executors")


def split_client_kwargs(client_kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what among the arguments of a client is the executor's own, and the rest."""
    rest = dict(client_kwargs)
    return {name: rest.pop(name) for name in _OWN if name in rest}, rest


def check_one_cluster(named: Mapping[str, Any]) -> None:
    """Refuse arguments that name more than one cluster; `named` are all that may name one."""
    names = [name for name, given in named.items() if given is not None]
    if len(names) > 1:
        raise ValueError(
            f"only one of address, client, scheduler_file and cluster_class may be given: they name different "
            f"clusters; got {', '.join(names)}"
        )


def check_size(size: Mapping[str, Any], named: Mapping[str, Any]) -> None:
    """Refuse the size of a cluster beside one that runs already.

    Parameters
    ----------
    size
        What was given of `n_workers` and its like.
    named
        What names a cluster, by argument.
    """
    for name in ("address", "client", "scheduler_file"):
        if named[name] is not None:
            what = ", ".join(f"{key}={value!r}" for key, value in size.items())
            raise TypeError(f"{what} has no meaning with {name}=..., which names a cluster that runs already")


def configured_address() -> str | None:
    """Return the scheduler that Dask's configuration names, as a Client without an address takes it; None for none."""
    address = dask.config.get("scheduler-address", None) or os.environ.get("DASK_SCHEDULER_ADDRESS")
    if not address:
        return None
    text = (
        "runs on the scheduler at %s, which Dask's configuration names (scheduler-address); DaskExecutor(n_workers=4) "
    )
    logger.info(text + "starts a cluster", masked(str(address)))
    return str(address)


def address_in(path: str | os.PathLike[str], timeout: float) -> str:
    """Return the address in a scheduler file, once it is there.

    Raises
    ------
    SchedulerLost
        It is not written in time.
    FlowDefinitionError
        It is not a scheduler file.
    """
    end = time.monotonic() + timeout
    while not os.path.exists(path) or not os.path.getsize(path):
        if time.monotonic() > end:
            raise SchedulerLost(f"no scheduler file {os.fspath(path)!r} after {timeout:g} s")
        time.sleep(_PAUSE)
    try:
        with open(path) as file:
            return str(json.load(file)["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = (
            f"scheduler_file must be one that `dask scheduler --scheduler-file` wrote, got {os.fspath(path)!r}: {error}"
        )
        raise FlowDefinitionError(text) from error


def log_dashboard(link: str | None) -> None:
    """Say where the dashboard is that was asked for."""
    if link:
        logger.info("dashboard: %s", link)
    else:
        logger.warning("there is no dashboard: it needs bokeh, pip install bokeh, or the cluster serves none")
