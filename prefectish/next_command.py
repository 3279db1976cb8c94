"""Commands that are printed to be pasted: in a terminal, in logs, reports and notifications, and on the page."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from prefectish import config
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

    @classmethod
    def of_history(cls, address: str, source: str | None = None) -> NextCommand:
        """Return the commands about runs of a history, which name it unless they find it by themselves.

        Parameters
        ----------
        address
            The address that opens it, including its password.
        """
        return cls(source, history=None if _is_at_home(address) else address)

    def command(self, *words: str) -> str:
        """Return a command: its name, what it is about, and its options."""
        return " ".join([*map(shlex.quote, ("prefectish", *words)), *_option("history", self.history)])

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


def _is_at_home(address: str) -> bool:
    """Whether an address is of the history in the home folder, as the settings have it opened."""
    home = os.path.abspath(os.path.join(config.home(), "history.db"))
    if "://" not in address:
        return os.path.abspath(address) == home
    return address == f"sqlite:///{home}?journal={config.setting('history_journal')}"


def is_plain(value: str) -> bool:
    """Whether a value can be printed: it is neither a secret nor a URL with a password.

    Examples
    --------
    >>> is_plain("eu.csv"), is_plain("postgresql://me@host/runs"), is_plain("postgresql://me:pw@host/runs")
    (True, True, False)
    >>> is_plain("postgresql://me@host/runs?password=pw")
    False
    """
    try:
        url = urlsplit(value)
        has_password = url.password is not None
    except ValueError:  # no URL
        return mask(value) == value
    in_query = url.scheme and any("password" in name.lower() for name, _ in parse_qsl(url.query))
    return not (has_password or in_query) and mask(value) == value


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
