"""Ends a wait from another thread: one in this thread, or one in the loop of a client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from prefectish.interrupting import Latch


class Waker:
    """Ends the wait of a session, in whatever thread it waits; a wake-up between two waits ends the next one.

    Parameters
    ----------
    call
        Calls a function in the client's loop, as ``IOLoop.add_callback`` does.
    """

    def __init__(self, call: Callable[[Callable[[], Any]], Any]) -> None:
        self._call = call
        self._thread_event = Latch()
        self._loop_event = asyncio.Event()

    def wake(self) -> None:
        """End the wait."""
        if not self._thread_event.is_set():
            self._thread_event.set()
            self._call(self._loop_event.set)

    def take_wakeup(self) -> bool:
        """Return whether there was a wake-up, and forget it."""
        if not self._thread_event.is_set():
            return False
        self._thread_event.clear()
        self._call(self._loop_event.clear)
        return True

    def sleep(self, seconds: float) -> None:
        """Wait so long, or until a wake-up."""
        self._thread_event.wait(seconds)

    async def wait(self) -> None:
        """Wait for a wake-up, in the client's loop."""
        await self._loop_event.wait()
