"""Ctrl-C and SIGTERM while a run is driven from the main thread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from prefectish.engine.capture import interrupt

#: Exit codes of a program that ends with the state of an interrupted run.
INTERRUPTED, TERMINATED = 130, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a run as Ctrl-C does, and the program with exit code 143."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Tell the user's Ctrl-C from a body that raises KeyboardInterrupt: our handler sets a flag before it raises.

    SIGTERM is taken only if nobody else takes it. Outside the main thread signals are not ours to handle.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    before = {signal.SIGINT: signal.signal(signal.SIGINT, _on_interrupt)}
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, _on_terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        interrupt.clear()


@contextmanager
def terminable() -> Iterator[None]:
    """Raise :class:`Terminated` at SIGTERM in the block, if nobody else takes it; only in the main thread.

    For one who waits for a run that another thread drives; Ctrl-C is raised there as everywhere.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def raise_swallowed() -> None:
    """Raise an interrupt again that was lost: Python drops what is raised in a ``__del__``, or a callback of its own.

    Only in the main thread, where signals are handled: runs in other threads are not interrupted.
    """
    if interrupt.is_set() and threading.current_thread() is threading.main_thread():
        raise _last


_last: type[KeyboardInterrupt] = KeyboardInterrupt


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    _note(KeyboardInterrupt)
    raise KeyboardInterrupt


def _on_terminate(number: int, frame: FrameType | None) -> None:
    _note(Terminated)
    raise Terminated


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _note(kind: type[KeyboardInterrupt]) -> None:
    global _last
    _last = kind
    interrupt.set()
