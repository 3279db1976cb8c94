"""Check once, before anything is submitted, that scheduler and workers can run what a run sends them.

What a process answers holds as long as it lives. So a client asks each process once, and before each further run only
the scheduler, which workers there are: those that joined since are asked, too. The run is set up while it answers.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future as Answer
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from distributed import Client

import prefectish
from prefectish.engine.capture import Error, capture
from prefectish.errors import EnvironmentMismatch
from prefectish.executors.dask_api import asked_on_scheduler

# An expression, because a function of this package could be loaded only where it is installed.
_QUESTION = """(
    tuple(__import__("sys").version_info[:2]),
    __import__("prefectish").__version__ if __import__("importlib.util").util.find_spec("prefectish") else None,
)"""


#: Versions of Python and prefectish, None if it is missing.
Versions = tuple[tuple[int, int], str | None]


class Presence(NamedTuple):
    """What a scheduler says of its cluster, when a run begins.

    Attributes
    ----------
    scheduler
        Identifier of its process.
    workers
        Identifiers of the processes of workers, by address.
    threads
        Of all workers.
    dashboard_port
        None if it serves no dashboard.
    plugins
        Names of the plugins it has.
    """

    scheduler: str
    workers: Mapping[str, str]
    threads: int
    dashboard_port: int | None
    plugins: Collection[str]


class _Known:
    """What the processes of a client's cluster have answered."""

    def __init__(self) -> None:
        self.presence: Presence | None = None
        self.versions: dict[str, Versions] = {}  # by identifier of the process


_known: WeakKeyDictionary[Client, _Known] = WeakKeyDictionary()


def begun(client: Client) -> Callable[[], Presence | None]:
    """Begin a :func:`preflight`; return what ends it. One of a client that was not looked at before ends at once."""
    if client not in _known or not _known[client].versions:
        presence = preflight(client)
        return lambda: presence
    looking = asyncio.run_coroutine_threadsafe(asked_on_scheduler(client, who_is_there), client.loop.asyncio_loop)
    return partial(preflight, client, looking)


def preflight(client: Client, looking: Answer[Presence] | None = None) -> Presence | None:
    """Compare this process with the scheduler and its present workers.

    Parameters
    ----------
    looking
        The answer to which workers there are, if the scheduler was asked before.

    Returns
    -------
    What the scheduler says of its cluster; None if it runs no functions, or not those of this package.

    Raises
    ------
    EnvironmentMismatch
        Prefectish is missing somewhere, or runs on another minor version of Python.

    Warns
    -----
    UserWarning
        Prefectish has another version somewhere. (Dask itself warns of other packages.)
    """
    compare(_ask(client, looking), sys.version_info[:2], prefectish.__version__)
    known = _known.get(client)
    return None if known is None else known.presence


def _ask(client: Client, looking: Answer[Presence] | None) -> dict[str, Versions]:
    """Return the versions of Python and prefectish by address; without those that do not answer."""
    known = _known.setdefault(client, _Known())
    place = f"scheduler {client.scheduler.address}"
    versions = known.versions  # a run of another thread may replace them meanwhile
    presence = _look(client, looking) if versions else None
    if presence is None or presence.scheduler not in versions:
        known.presence, known.versions = None, {}
        try:
            there: Versions = client.run_on_scheduler(eval, _QUESTION)
        except ValueError:  # it does not run functions: some clusters are set up so
            return {f"worker {address}": answer for address, answer in _ask_workers(client, None).items()}
        presence = _look(client) if there[1] == prefectish.__version__ else None
        if presence is None:
            workers = {f"worker {address}": answer for address, answer in _ask_workers(client, None).items()}
            return {place: there, **workers}
        versions = {presence.scheduler: there}
    present = {presence.scheduler, *presence.workers.values()}
    versions = {ident: there for ident, there in versions.items() if ident in present}
    new = [address for address, ident in presence.workers.items() if ident not in versions]
    for address, answer in (_ask_workers(client, new) if new else {}).items():
        versions[presence.workers[address]] = answer
    known.presence, known.versions = presence, versions
    answered = {f"worker {a}": versions[i] for a, i in presence.workers.items() if i in versions}
    return {place: versions[presence.scheduler], **answered}


def _ask_workers(client: Client, which: list[str] | None) -> dict[str, Versions]:
    """Ask workers, all or those at some addresses."""
    answers: dict[str, Any] = client.run(eval, _QUESTION, workers=which, on_error="return")
    return {address: answer for address, answer in answers.items() if isinstance(answer, tuple)}


def _look(client: Client, looking: Answer[Presence] | None = None) -> Presence | None:
    """Ask the scheduler who is there, or take its answer; None if it does not run functions of this package."""
    if looking is None:
        outcome = capture(client.sync, asked_on_scheduler, client, who_is_there)
    else:
        outcome = capture(looking.result)
    return None if isinstance(outcome, Error) else outcome.value


def who_is_there(dask_scheduler: Any = None) -> Presence:
    """Say of a scheduler, where this runs, which processes its cluster has."""
    workers = {address: worker.server_id for address, worker in dask_scheduler.workers.items()}
    dashboard = dask_scheduler.services.get("dashboard")
    port = None if dashboard is None else dashboard.port
    return Presence(dask_scheduler.id, workers, dask_scheduler.total_nthreads, port, [*dask_scheduler.plugins])


def compare(answers: Mapping[str, Versions], python: tuple[int, int], version: str) -> None:
    """Raise or warn as :func:`preflight` says.

    Parameters
    ----------
    answers
        Versions of Python and prefectish, None if it is missing, by place.
    """
    missing = [place for place, (_, there) in answers.items() if there is None]
    if missing:
        raise EnvironmentMismatch(f"prefectish cannot be imported on {_listed(missing)}; pip install prefectish there")
    others = [f"{place} ({_dotted(there)})" for place, (there, _) in answers.items() if there != python]
    if others:
        raise EnvironmentMismatch(
            f"Python is {_dotted(python)} here and another minor version on {_listed(others)}: what one pickles the "
            "other may not load; run the flow with the cluster's Python"
        )
    older = [f"{place} ({there})" for place, (_, there) in answers.items() if there != version]
    if older:
        warnings.warn(f"prefectish is {version} here and another version on {_listed(older)}", stacklevel=2)


def _dotted(version: Iterable[int]) -> str:
    return ".".join(map(str, version))


def _listed(places: list[str], most: int = 3) -> str:
    rest = f" and {len(places) - most} more" if len(places) > most else ""
    return ", ".join(places[:most]) + rest
