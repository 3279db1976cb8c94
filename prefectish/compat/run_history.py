"""Which history a run has, for what its bodies keep there from other processes."""

from __future__ import annotations

import os
from typing import Any

from prefectish.config import home

#: Its key in the context of a run.
KEY = "history_of_run"


class RunHistory:
    """The history of a run; no tuple and no dataclass, which would be printed and written as JSON with the password.

    Attributes
    ----------
    address
        What opens it, a password included.
    home
        The path of the history in the home folder of the process that began the run.
    """

    __slots__ = ("address", "home")

    def __init__(self, address: str, home: str) -> None:
        self.address = address
        self.home = home

    def __repr__(self) -> str:
        return "<history of the run>"


def home_history() -> str:
    """Return the path of the history in the home folder of this process."""
    return os.path.abspath(os.path.join(home(), "history.db"))


def history_in_context(history: Any) -> dict[str, RunHistory]:
    """Return what the context of a run with this option says of its history; nothing for a run that has none."""
    if isinstance(history, bool):
        return {}
    place = home_history() if history is None else os.fspath(history)
    return {KEY: RunHistory(place if "://" in place else os.path.abspath(place), home_history())}
