"""Calls that wait for a pool of processes, in two lines: those that go first, and the others.

A ``ProcessPoolExecutor`` runs calls in the order in which it was given them. So of calls that take long it is given no
more than keep its processes busy, and the next one as one of these ends. Calls that take no time are handed over many
at once: each hand-over wakes the thread that serves the processes. The next ones may take longer: they are taken back
when a call comes that goes first, unless they have gone to a process.
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
        self.given: Future[Any] | None = None  # of the pool, which has the call or has made it
        self.error: BaseException | None = None  # of handing it over

    def add_done_callback(self, done: Callable[[QueuedCall], None]) -> None:
        """Queue the call; `done` is called at its end."""
        self.done = done
        self._queue.add(self)

    def ended(self, given: Future[Any]) -> None:
        """Note that the pool has made the call; in the thread that serves the processes."""
        if (calls := self._queue.ended(self, given)) is None:
            return
        self.args = ()
        self.done(self)
        self._queue.hand(calls)

    def take_back(self) -> bool:
        """Take the call back from the pool, unless it has gone to a process."""
        given, self.given = self.given, None  # `ended` is called meanwhile
        if given is None or given.cancel():
            return given is not None
        self.given = given
        return False

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
        self._rest_given: dict[QueuedCall, None] = {}  # those of them that the pool has, in their order
        self._lock = threading.RLock()

    def submit(self, first: CallsAhead | None, fn: Callable[..., Any], *args: Any) -> QueuedCall:
        """Return the future of a call; those that go `first` overtake the others that wait here."""
        return QueuedCall(self, first, fn, args)

    def add(self, call: QueuedCall) -> None:
        """Put a call into its line, and hand over what the pool has room for."""
        with self._lock:
            (self._rest if call.first is None else self._first).append(call)
            if call.first is not None and self._given > self._fewest:
                self._take_back()
            calls = self._next_calls() if self._given < self._fewest else []
        self.hand(calls)
        if call.first is not None:
            call.first.submitted()

    def ended(self, call: QueuedCall, given: Future[Any]) -> list[QueuedCall] | None:
        """Return the calls that take the place of one that has ended; None if it was taken back."""
        with self._lock:
            if call.given is not given:
                return None
            self._given -= 1
            self._rest_given.pop(call, None)
            if self._given > self._room // 2 and self._room > self._fewest:
                return []
            if self._first or self._rest:
                self._adapt()
            elif not self._given:
                self._room = self._fewest  # the next calls may take longer
            return self._next_calls()

    def _take_back(self) -> None:
        """Put those that do not go first back into their line, as far as no process has them."""
        for call in reversed([*self._rest_given]):
            if call.take_back():
                del self._rest_given[call]
                self._rest.appendleft(call)
                self._given -= 1
        self._room = self._fewest

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
            calls.append(call := line.popleft())
            self._given += 1
            if line is self._rest:
                self._rest_given[call] = None
        return calls

    def hand(self, calls: list[QueuedCall]) -> None:
        """Give calls to the pool."""
        for call in calls:
            given = capture(self._hand_over, call.fn, *call.args)
            if isinstance(given, Error):
                with self._lock:
                    self._given -= 1
                    self._rest_given.pop(call, None)
                call.refused(given.exception)
            else:
                call.given = given.value
                given.value.add_done_callback(call.ended)
