"""Ends a wait, from another thread: one that sleeps, and one that goes on in a client's loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any


class Waker:
    """Rings in whatever thread waits for it; a ring that nobody heard is heard by the next wait.

    Parameters
    ----------
    call
        Has a function called in the client's loop, as ``IOLoop.add_callback`` does.
    """

    def __init__(self, call: Callable[[Callable[[], Any]], Any]) -> None:
        self._call = call
        self._here = threading.Event()
        self._there = asyncio.Event()

    def ring(self) -> None:
        """End the wait."""
        if not self._here.is_set():
            self._here.set()
            self._call(self._there.set)

    def heard(self) -> bool:
        """Return whether it rang, and forget it."""
        if not self._here.is_set():
            return False
        self._here.clear()
        self._call(self._there.clear)
        return True

    def sleep(self, seconds: float) -> None:
        """Wait so long, or until it rings."""
        self._here.wait(seconds)

    async def wait(self) -> None:
        """Wait until it rings, in the client's loop."""
        await self._there.wait()
