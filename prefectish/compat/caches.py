"""Caches of one context: there a run of a flow kept cached states in `prefect.context.caches`, and a runner none."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from prefectish.caching.memory import Caches
from prefectish.engine.context import current
from prefectish.engine.worker.cache import CACHES


@contextmanager
def of_context() -> Iterator[None]:
    """Keep cached states in the context's `caches` for the time of a `with` block, if the user put some there."""
    own = current().get("caches")
    if not isinstance(own, MutableMapping):
        yield
        return
    with forgotten():
        try:
            yield
        finally:
            own.update(CACHES)


@contextmanager
def forgotten() -> Iterator[None]:
    """Begin without cached states, and forget those that come up in a `with` block."""
    before: Any = Caches()
    CACHES.exchange(before)
    try:
        yield
    finally:
        CACHES.exchange(before)
