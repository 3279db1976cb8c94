"""Calls that wait for a pool of processes, in two lines: those that go first, and the others.

A ``ProcessPoolExecutor`` runs calls in the order in which it was given them. So of calls that take long it is given no
more than keep its processes busy, and the next one as one of these ends. Calls that take no time are handed over many
at once: each hand-over wakes the thread that serves the processes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from prefectish.engine.capture import Error, capture
from prefectish.executors.pool_session import CallsAhead

#: Calls that the pool has at least, for each process: one that it runs, and one that follows.
_FEWEST = 2
#: Calls that the pool has at most, for each process.
_MOST = 8
#: Calls that were handed over together and took less than so many seconds are followed by more; those that took longer
#: than the second figure by fewer.
_QUICK, _SLOW = 0.01, 0.02


class QueuedCall:
    """A call, and later its outcome.

    It needs no lock: Dask adds its callback right after ``submit``, and the call is queued only then.
    """

    __slots__ = ("_queue", "args", "done", "error", "first", "fn", "given")

    def __init__(
        self, queue: ProcessQueue, first: CallsAhead | None, fn: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self._queue = queue
        self.first = first
        self.fn = fn
        self.args = args
        self.done: Callable[[QueuedCall], None]
        self.given: Future[Any] | None = None  # of the pool
        self.error: BaseException | None = None  # of handing it over

    def add_done_callback(self, done: Callable[[QueuedCall], None]) -> None:
        """Queue the call; `done` is called at its end."""
        self.done = done
        self._queue.add(self)

    def ended(self, given: Future[Any]) -> None:
        """Note that the pool has made the call; in the thread that serves the processes."""
        self.given, self.args = given, ()
        self.done(self)
        self._queue.call_ended()

    def refused(self, error: BaseException) -> None:
        """Note that the pool broke, or is closed."""
        self.error = error
        self.done(self)

    def result(self) -> Any:
        """Return what the call returned, or raise what it raised; it has ended."""
        if self.error is not None:
            raise self.error
        assert self.given is not None
        return self.given.result()


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
        self._fewest, self._most = _FEWEST * size, _MOST * size
        self._room = self._fewest
        self._given = 0  # calls that the pool has
        self._filled = 0.0  # when it was last given some
        self._first: deque[QueuedCall] = deque()
        self._rest: deque[QueuedCall] = deque()
        self._lock = threading.Lock()

    def submit(self, first: CallsAhead | None, fn: Callable[..., Any], *args: Any) -> QueuedCall:
        """Return the future of a call; those that go `first` overtake the others that wait here."""
        return QueuedCall(self, first, fn, args)

    def add(self, call: QueuedCall) -> None:
        """Put a call into its line, and hand over what the pool has room for."""
        with self._lock:
            (self._rest if call.first is None else self._first).append(call)
            calls = self._next_calls() if self._given < self._fewest else []
        self._hand(calls)
        if call.first is not None:
            call.first.submitted()

    def call_ended(self) -> None:
        """Hand over the next calls, in the place of those that have ended."""
        with self._lock:
            self._given -= 1
            if self._given > self._room // 2 and self._room > self._fewest:
                return
            if self._first or self._rest:
                self._adapt()
            calls = self._next_calls()
        self._hand(calls)

    def _adapt(self) -> None:
        """Choose how many calls the pool has, by the time that the last ones took."""
        now = time.monotonic()
        took, self._filled = now - self._filled, now
        if took > _SLOW:
            self._room = max(self._fewest, self._room // 2)
        elif took < _QUICK:
            self._room = min(self._most, 2 * self._room)

    def _next_calls(self) -> list[QueuedCall]:
        """Take as many calls out of the lines as the pool has room for."""
        calls: list[QueuedCall] = []
        while self._given < self._room and (line := self._first or self._rest):
            calls.append(line.popleft())
            self._given += 1
        return calls

    def _hand(self, calls: list[QueuedCall]) -> None:
        for call in calls:
            given = capture(self._hand_over, call.fn, *call.args)
            if isinstance(given, Error):
                with self._lock:
                    self._given -= 1
                call.refused(given.exception)
            else:
                given.value.add_done_callback(call.ended)
