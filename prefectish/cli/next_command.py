"""The command that continues a run, to be pasted as it is printed."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from prefectish.secrets.masking import mask

#: Begins the names of environment variables that stand for what is not printed.
PREFIX = "PREFECTISH_"


class NextCommand(NamedTuple):
    """The options that a command about a run has to repeat.

    Attributes
    ----------
    source
        The location of the flow, None if the history knows it.
    param
        Parameters, as they were given: ``key=value``.
    history, executor, address
        As they were given.
    """

    source: str | None = None
    param: Sequence[str] = ()
    history: str | None = None
    executor: str | None = None
    address: str | None = None

    def command(self, name: str, run_id: str, *options: str) -> str:
        """Return a command about a run."""
        return " ".join([*map(shlex.quote, ("prefectish", name, run_id, *options)), *_option("history", self.history)])

    def resume_command(self, name: str, run_id: str, *options: str) -> str:
        """Return a command that resumes a run."""
        words = [*map(shlex.quote, ("prefectish", name, run_id, *([] if self.source is None else [self.source])))]
        words += map(shlex.quote, options)
        for pair in self.param:
            key, _, value = pair.partition("=")
            words += ["-p", shlex.quote(pair) if is_plain(value) else f"{shlex.quote(key)}={stand_in(key, value)}"]
        words += _option("executor", self.executor)
        words += _option("address", self.address)
        return " ".join([*words, *_option("history", self.history)])


def _option(name: str, value: str | None) -> list[str]:
    if value is None:
        return []
    return [f"--{name}", shlex.quote(value) if is_plain(value) else stand_in(name, value)]


def is_plain(value: str) -> bool:
    """Whether a value can be printed: it is neither a secret nor a URL with a password.

    Examples
    --------
    >>> is_plain("eu.csv"), is_plain("postgresql://me@host/runs"), is_plain("postgresql://me:pw@host/runs")
    (True, True, False)
    """
    try:
        has_password = urlsplit(value).password is not None
    except ValueError:  # no URL
        has_password = False
    return not has_password and mask(value) == value


def stand_in(name: str, value: str, environment: Mapping[str, str] | None = None) -> str:
    """Return the shell's word for an environment variable that holds a value.

    Examples
    --------
    >>> stand_in("history", "x:pw@y", {}), stand_in("history", "x:pw@y", {"PREFECTISH_DB": "x:pw@y"})
    ('"$PREFECTISH_HISTORY"', '"$PREFECTISH_DB"')
    """
    known = os.environ if environment is None else environment
    holders = [variable for variable, held in known.items() if held == value and variable.startswith(PREFIX)]
    variable = holders[0] if holders else PREFIX + re.sub(r"\W", "_", name).upper()
    return f'"${variable}"'


def executor_options(recorded: str | None) -> tuple[str | None, str | None]:
    """Return ``--executor`` and ``--address`` of a run by the repr of its executor, None for what is not known.

    Examples
    --------
    >>> executor_options("<LocalDaskExecutor: threads, 2 workers>"), executor_options("<LocalExecutor>")
    (('threads', None), ('local', None))
    >>> executor_options("<DaskExecutor: tcp://host:8786>"), executor_options("<DaskExecutor: a client of yours>")
    (('dask', 'tcp://host:8786'), ('dask', None))
    """
    kind, _, what = (recorded or "").strip("<>").partition(": ")
    if kind == "LocalDaskExecutor":
        name = what.partition(",")[0]
        return (name if name in ("threads", "processes") else "local"), None
    if kind == "DaskExecutor":
        return "dask", what if "://" in what else None
    return ("local" if kind == "LocalExecutor" else None), None
