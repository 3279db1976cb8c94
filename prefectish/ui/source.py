"""What queries read: an open history, and what is remembered of it between two requests."""

from __future__ import annotations

from prefectish.history.store import HistoryStore


class Source:
    """An open history.

    Attributes
    ----------
    store
        The history.
    """

    def __init__(self, store: HistoryStore) -> None:
        self.store = store


class NotFound(Exception):
    """There is no such run, task, item or deployment; the text says so."""
