"""Check once, before anything is submitted, that scheduler and workers can run what a run sends them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from distributed import Client

import prefectish
from prefectish.errors import EnvironmentMismatch

# An expression, because a function of this package could be loaded only where it is installed.
_QUESTION = """(
    tuple(__import__("sys").version_info[:2]),
    __import__("prefectish").__version__ if __import__("importlib.util").util.find_spec("prefectish") else None,
)"""


def preflight(client: Client) -> None:
    """Compare this process with the scheduler and its present workers.

    Raises
    ------
    EnvironmentMismatch
        Prefectish is missing somewhere, or runs on another minor version of Python.

    Warns
    -----
    UserWarning
        Prefectish has another version somewhere. (Dask itself warns of other packages.)
    """
    compare(_ask(client), sys.version_info[:2], prefectish.__version__)


def _ask(client: Client) -> dict[str, tuple[tuple[int, int], str | None]]:
    """Return the versions of Python and prefectish by address; without those that do not answer."""
    answers: dict[str, Any] = client.run(eval, _QUESTION, on_error="return")
    workers = {f"worker {address}": answer for address, answer in answers.items() if isinstance(answer, tuple)}
    try:
        scheduler = {f"scheduler {client.scheduler.address}": client.run_on_scheduler(eval, _QUESTION)}
    except ValueError:  # it does not run functions: some clusters are set up so
        scheduler = {}
    return scheduler | workers


def compare(answers: Mapping[str, tuple[tuple[int, int], str | None]], python: tuple[int, int], version: str) -> None:
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
