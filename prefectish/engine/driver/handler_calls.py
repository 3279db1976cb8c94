"""Handlers that the thread of a run calls itself: they end at the `timeout` of their task, others are reported.

They see changes of state that no attempt makes: of maps, of flows, of what the engine ends. Nothing else of the run
moves while they are called.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from prefectish.engine import clock as clocks
from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.context import get_logger
from prefectish.engine.side_thread import SideThread
from prefectish.engine.signals import TimeoutSignal
from prefectish.interrupting import Latch

T = TypeVar("T")
#: Seconds after which a call is reported.
WARN_AFTER = 60.0
#: Seconds between two looks at what is being called.
_INTERVAL = 1.0


class _Calls:
    """What the threads of runs call just now; a thread that is started with the first call watches them."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[str, float]] = {}
        self._thread: threading.Thread | None = None
        self._some = Latch()

    @contextmanager
    def noted(self, what: str) -> Iterator[None]:
        """Note a call for the time of the block."""
        ident = threading.get_ident()
        outer = self._open.get(ident)
        self._open[ident] = what, time.monotonic()
        if self._thread is None or not self._thread.is_alive():  # it is not, in a process that was forked
            self._thread = threading.Thread(target=self._watch, name="prefectish-handlers", daemon=True)
            self._thread.start()
        self._some.set()
        try:
            yield
        finally:
            if outer is None:
                self._open.pop(ident, None)
            else:
                self._open[ident] = outer

    def _watch(self) -> None:
        warned: set[tuple[int, float]] = set()
        while True:
            self._some.wait()
            if not self._open:
                warned.clear()
                self._some.clear()
                if self._open:  # since it was looked at
                    self._some.set()
            for ident, (what, since) in list(self._open.items()):
                held = time.monotonic() - since
                if held >= WARN_AFTER and (ident, since) not in warned:
                    warned.add((ident, since))
                    text = "%s have not ended for %.0f s; the run waits for them. Those of a task end at its timeout"
                    get_logger("engine").warning(text, what, held)
            time.sleep(min(_INTERVAL, WARN_AFTER / 4))


_calls = _Calls()


def call(what: str, handlers: Callable[[], T], limit: float | None = None) -> T:
    """Call handlers in the thread of a run, or beside it if they must end after `limit` seconds.

    Raises
    ------
    TimeoutSignal
        They did not end in time.
    """
    with _calls.noted(what):
        if limit is None:
            return handlers()
        made = partial(capture, handlers)
        outcome = clocks.current.limited(made, limit, partial(_beside, made, limit))
    if isinstance(outcome, Value):
        value: T = outcome.value
        return value
    if isinstance(outcome.exception, TimeoutSignal):
        raise TimeoutSignal(f"Task timed out during execution: {what} did not end within timeout={limit:g} s")
    raise outcome.exception


def _beside(made: Callable[[], Value | Error], limit: float) -> Value | Error:
    thread = SideThread(made, "prefectish-handlers")
    outcome = thread.wait(limit)
    if outcome is None:
        thread.abandon()
        return Error(TimeoutSignal())
    return outcome
