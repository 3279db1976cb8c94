"""Calls that wait for a pool of processes, in two lines: those that go first, and the others.

A ``ProcessPoolExecutor`` runs calls in the order in which it was given them. So it is given no more than keep its
processes busy, and the next one as one of these ends.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from prefectish.engine.capture import Error, capture

#: Calls that the pool has, for each process: one that it runs, and one that follows.
_PER_PROCESS = 2

Call = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class ProcessQueue:
    """Hands calls to a pool.

    Parameters
    ----------
    hand_over
        Gives the pool a call, and returns its future.
    size
        Number of processes.
    """

    def __init__(self, hand_over: Callable[..., Future[Any]], size: int) -> None:
        self._hand_over = hand_over
        self._room = _PER_PROCESS * size
        self._first: deque[Call] = deque()
        self._rest: deque[Call] = deque()
        self._lock = threading.Lock()

    def submit(self, first: bool, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        """Return the future of a call; those that go `first` overtake the others that wait here."""
        with self._lock:
            waits = self._room <= 0
            if waits:
                future: Future[Any] = Future()
                (self._first if first else self._rest).append((future, fn, args))
                return future
            self._room -= 1
        return self._handed(fn, args)

    def _handed(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Future[Any]:
        given = capture(self._hand_over, fn, *args)
        if isinstance(given, Error):  # the pool broke, or is closed
            self._next()
            raise given.exception
        future: Future[Any] = given.value
        future.add_done_callback(lambda ended: self._next())
        return future

    def _next(self) -> None:
        """Hand over the next call, in the place of one that has ended."""
        while True:
            with self._lock:
                line = self._first or self._rest
                if not line:
                    self._room += 1
                    return
                future, fn, args = line.popleft()
            given = capture(self._hand_over, fn, *args)
            if not isinstance(given, Error):
                given.value.add_done_callback(partial(self._end, future))
                return
            future.set_exception(given.exception)

    def _end(self, future: Future[Any], ended: Future[Any]) -> None:
        """Give the outcome of a call to the future that stands for it."""
        self._next()
        if ended.cancelled():
            future.cancel()
        elif (error := ended.exception()) is not None:
            future.set_exception(error)
        else:
            future.set_result(ended.result())
