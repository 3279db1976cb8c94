"""What a run that is resumed takes over from its record: finished children are kept, everything else runs.

A child is *dirty* if its record is not final, if it failed and failures are to be retried, if its task changed, or if
something it reads is dirty. A child that is not dirty is kept, provided that its result can be read by whoever still
needs it; one whose result is gone runs again, without making anything else dirty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from prefectish.engine.state import State


class Recorded(NamedTuple):
    """A recorded final state.

    Attributes
    ----------
    state : with a result that reads from the store, or a stand-in that says why it cannot be read.
    readable : whether the result can be read.
    attempts, seconds, worker : of the attempt that made it.
    """

    state: State
    readable: bool
    attempts: int
    seconds: float
    worker: str | None


class Recall:
    """The record of a run.

    Parameters
    ----------
    children : recorded final states by slug, then by item key (``@row`` for a child without one, ``@0`` for a single
        task).
    widths : recorded number of children by slug.
    changed : slugs of tasks whose bodies changed since, and whose record does not count.
    retry_failed : run failed children again.
    """

    def __init__(
        self,
        children: Mapping[str, Mapping[str, Recorded]],
        widths: Mapping[str, int],
        changed: frozenset[str] = frozenset(),
        retry_failed: bool = False,
    ) -> None:
        self._children = children
        self._widths = widths
        self._changed = changed
        self._retry_failed = retry_failed

    def find(self, slug: str, key: str) -> Recorded | None:
        """Return the record of a child that may be kept; None if it has to run."""
        if slug in self._changed:
            return None
        found = self._children.get(slug, {}).get(key)
        if found is None or (self._retry_failed and found.state.is_failed()):
            return None
        return found

    def same_width(self, slug: str, width: int) -> bool:
        """Whether a map has as many children as it had."""
        return self._widths.get(slug) == width


def key_of(item_key: str | None, row: int) -> str:
    """Return what a child is called in a record."""
    return f"@{row}" if item_key is None else item_key
