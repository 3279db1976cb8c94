"""What queries read: an open history, and what is remembered of it between two requests."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import Any, NamedTuple, TypeVar

from prefectish.history.store import HistoryStore

T = TypeVar("T")
#: What is remembered at most: pictures of maps, timelines, comparisons.
MOST_REMEMBERED = 64
#: Seconds for which an answer is given to all who ask the same: viewers of one run fetch what changed at once.
MOMENT = 0.4
#: What is computed in the background is left so many times as long as it took: it takes a fifth of a core at most.
COST_FACTOR = 4
#: Seconds that a page waits for what takes long; it is shown without it then, and completed later.
PATIENCE = 0.15


class NotFound(Exception):
    """There is no such run, task, item or deployment; the text says so."""


class _Memory(NamedTuple):
    at: float
    value: Any
    cost: float = 0.0  # seconds that it took


class Source:
    """An open history.

    Attributes
    ----------
    store
        The history.
    """

    def __init__(self, store: HistoryStore) -> None:
        self.store = store
        self._known: OrderedDict[Hashable, _Memory] = OrderedDict()
        self._pending: dict[Hashable, Future[Any]] = {}
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._recent: OrderedDict[Hashable, _Memory] = OrderedDict()
        self._asked: OrderedDict[Hashable, threading.Lock] = OrderedDict()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="prefectish-ui")

    def close(self) -> None:
        """Compute nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def recent(self, key: Hashable) -> Any:
        """Return what was answered to the same question a moment ago; None if it was not asked then."""
        found = self._recent.get(key)
        return None if found is None or time.monotonic() - found.at > MOMENT else found.value

    def answered(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the answer to a question, for all who ask it in the same moment."""
        with self._lock:
            alone = self._asked.setdefault(key, threading.Lock())
        with alone:
            known: T | None = self.recent(key)
            if known is not None:
                return known
            value = compute()
            with self._lock:
                self._recent[key] = _Memory(time.monotonic(), value)
                while len(self._recent) > MOST_REMEMBERED:
                    self._recent.popitem(last=False)
                while len(self._asked) > MOST_REMEMBERED:
                    self._asked.popitem(last=False)
            return value

    def forget_answers(self) -> None:
        """Answer anew: something was asked for."""
        with self._lock:
            self._recent.clear()

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return an object that lives between requests, made when it is asked for first."""
        with self._lock:
            found: T = self._kept.pop(key) if key in self._kept else make()
            self._kept[key] = found
            while len(self._kept) > MOST_REMEMBERED:
                self._kept.popitem(last=False)
            return found

    def soon(
        self, key: Hashable, compute: Callable[[], T], *, fresh_for: float, patience: float | None = PATIENCE
    ) -> T | None:
        """Return what a computation gives, in `patience` seconds; else what it gave last, or None if it never did.

        Parameters
        ----------
        key
            What is computed: two requests for the same share one computation.
        fresh_for
            Seconds for which a value is not computed again; longer if that took long.
        patience
            None: as long as it takes.
        """
        with self._lock:
            known = self._known.get(key)
            if known is not None and time.monotonic() - known.at < max(fresh_for, COST_FACTOR * known.cost):
                self._known.move_to_end(key)
                value: T = known.value
                return value
            pending = self._pending.get(key)
            if pending is None:
                pending = self._pending[key] = self._threads.submit(self._computed, key, compute)
        try:
            found: T = pending.result(patience)
            return found
        except NotYet:
            if known is None:
                return None
            earlier: T = known.value
            return earlier

    def _computed(self, key: Hashable, compute: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            value = compute()
            with self._lock:
                self._known[key] = _Memory(time.monotonic(), value, time.monotonic() - began)
                self._known.move_to_end(key)
                while len(self._known) > MOST_REMEMBERED:
                    self._known.popitem(last=False)
            return value
        finally:
            with self._lock:
                del self._pending[key]
