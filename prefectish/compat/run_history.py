"""Which history a run has, for what its bodies keep there from other processes."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from prefectish.config import home

#: Its key in the context of a run.
KEY = "history_of_run"


class RunHistory(NamedTuple):
    """The history of a run.

    Attributes
    ----------
    address
        What opens it, a password included.
    """

    address: str

    def __repr__(self) -> str:
        return "<history of the run>"


def history_in_context(history: Any) -> dict[str, RunHistory]:
    """Return what the context of a run with this option says of its history; nothing for a run that has none."""
    if isinstance(history, bool):
        return {}
    place = os.path.join(home(), "history.db") if history is None else os.fspath(history)
    return {KEY: RunHistory(place if "://" in place else os.path.abspath(place))}
