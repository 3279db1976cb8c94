"""Ctrl-C: whether the user interrupted the run, as against a body that raised KeyboardInterrupt; waits that hear it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

#: Seconds after which a thread that waits lets Python run the handlers of signals.
HEARD_WITHIN = 1.0


class InterruptFlag:
    """Remembers that the user interrupted the run, as against a body that raised KeyboardInterrupt.

    A plain flag: it is set inside a signal handler, where a lock could block for ever.
    """

    __slots__ = ("happened",)

    def __init__(self) -> None:
        self.happened = False

    def set(self) -> None:
        """Record an interrupt."""
        self.happened = True

    def clear(self) -> None:
        """Forget the interrupt."""
        self.happened = False

    def is_set(self) -> bool:
        """Whether the run was interrupted."""
        return self.happened


interrupt = InterruptFlag()


class Latch:
    """An event whose waits no signal can spoil, whenever it comes.

    Two moments are bad for the waits of ``threading.Event``. Of a signal that comes just before the system begins to
    wait, Python runs the handler once the wait ends, which may be never. And what a handler raises as the event's lock
    is taken leaves it taken, so that the thread that sets the event waits for ever. Here a plain flag is the truth, the
    lock only wakes, and a wait looks at the flag every second.
    """

    __slots__ = ("_gate", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._gate = threading.Lock()  # taken as long as there is something to wait for
        self._gate.acquire()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Wake all threads that wait, and let none wait from now on."""
        self._is_set = True
        with suppress(RuntimeError):  # it was set before
            self._gate.release()

    def clear(self) -> None:
        """Let who comes wait again."""
        self._is_set = False
        self._gate.acquire(blocking=False)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is set, at most so long; return whether it is."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self._is_set:
            left = HEARD_WITHIN if end is None else min(HEARD_WITHIN, end - time.monotonic())
            if left <= 0:
                return False
            if self._gate.acquire(timeout=left) and self._is_set:
                with suppress(RuntimeError):  # let the next one through
                    self._gate.release()
        return True


def is_users(error: BaseException) -> bool:
    """Whether what code of the user's raised is the interrupt of the run, which nothing may hold up."""
    return issubclass(type(error), KeyboardInterrupt) and interrupt.is_set()
