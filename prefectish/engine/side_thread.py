"""Threads beside the slot, for bodies that the slot must be free to leave, or whose slot has a loop running in it.

A side thread runs in a copy of the context of the thread that starts it: the context of the run, tags, and what the
executor keeps there (Dask's ``get_worker()`` reads a context variable). A thread cannot be stopped: one that is left
behind runs on until its body ends, as a daemon, and what it returns is thrown away.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar

from prefectish.engine.capture import Error, Value
from prefectish.interrupting import Latch

#: Seconds that a cancelled coroutine may take to end before its thread counts as left behind.
GRACE_SECONDS = 0.2

_here: ContextVar[SideThread | None] = ContextVar("prefectish.side_thread", default=None)
_left_behind: set[SideThread] = set()
_lock = threading.Lock()


class SideThread:
    """One call in a thread of its own; the call captures what the user's code raises."""

    __slots__ = ("_ended", "_outcome", "stop", "thread")

    def __init__(self, call: Callable[[], Value | Error], name: str) -> None:
        # Cancels what runs, if that is possible: a coroutine, not a function.
        self.stop: Callable[[], object] | None = None
        self._outcome: Value | Error | None = None
        self._ended = Latch()
        scope = contextvars.copy_context()
        self.thread = threading.Thread(target=scope.run, args=(self._run, call), name=name, daemon=True)
        self.thread.start()

    def _run(self, call: Callable[[], Value | Error]) -> None:
        _here.set(self)
        try:
            self._outcome = call()
        except BaseException as error:  # only the user's own interrupt passes `capture`
            self._outcome = Error(error)
        finally:
            with _lock:
                if self in _left_behind:  # its outcome is discarded
                    _left_behind.remove(self)
                    self._outcome = None
                self._ended.set()

    def wait(self, seconds: float | None = None) -> Value | Error | None:
        """Wait until the call ends, at most so long; return its outcome, None if it still runs."""
        self._ended.wait(seconds)
        return self._outcome

    def abandon(self) -> int:
        """Leave the thread to itself; return 0 if it has ended.

        Else return how many threads of this process were left behind and still run, this one included.
        """
        stop = self.stop
        if stop is not None:
            with suppress(RuntimeError):  # its loop closed a moment ago
                stop()
            self._ended.wait(GRACE_SECONDS)
        with _lock:
            if self._ended.is_set():
                return 0
            _left_behind.add(self)
            return len(_left_behind)


def current_side_thread() -> SideThread | None:
    """Return the SideThread that runs this code; a thread that a body starts in a copy of its context is not one."""
    found = _here.get()
    return found if found is not None and found.thread is threading.current_thread() else None
