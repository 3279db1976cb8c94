"""Failures that may stop a map, and that the loop of the run has not read yet.

Threads of a pool run bodies of microseconds by the hundred before the loop's thread has its turn. Once one has failed
whose map may be stopped by that, nothing more of such maps begins before the loop has acted on it.
"""

from __future__ import annotations

import threading

#: Seconds after which a body begins although a failure seems to be unread: a graph that broke may have lost it.
LONGEST = 1.0


class UnreadFailures:
    """Counts them, and lets bodies wait until they are read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted = 0
        self._taken = 0
        self._none = threading.Event()
        self._none.set()

    def note(self) -> None:
        """Note a failure, in the thread of its body, before it is reported."""
        with self._lock:
            self._noted += 1
            self._none.clear()

    def take(self) -> None:
        """Note that one is among the receipts that the loop gets."""
        self._taken += 1

    def acted(self) -> None:
        """Note that the loop has acted on the receipts that it got."""
        with self._lock:
            if self._taken >= self._noted:
                self._none.set()

    def wait(self) -> None:
        """Wait until the loop has acted on all that are known."""
        if not self._none.wait(LONGEST):
            with self._lock:
                self._taken = self._noted
                self._none.set()
