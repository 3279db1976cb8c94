"""Tags for all tasks that are created, called or copied in a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefectish.engine.context import context
from prefectish.tasks.options import tag_set


@contextmanager
def tags(*names: str) -> Iterator[None]:
    """Add tags to the tasks that are created, called, bound or copied in a `with` block.

    Raises
    ------
    TypeError
        If a name is not a string.
    """
    with context(tags=active_tags() | tag_set("tags", names)):
        yield


def active_tags() -> frozenset[str]:
    """Return the tags of the enclosing blocks."""
    found: frozenset[str] = context.get("tags", frozenset())
    return found
