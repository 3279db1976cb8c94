"""Ctrl-C and SIGTERM while a run is driven from the main thread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from prefectish.engine.state import State
from prefectish.errors import RunLost
from prefectish.interrupting import interrupt

#: Exit codes of a program that ends with the state of an interrupted run.
INTERRUPTED, TERMINATED = 130, 143


#: What interrupted a run, by the message of its record.
STOPS = {
    "interrupted": "Interrupted by Ctrl-C",
    "terminated": "Terminated by SIGTERM",
    "lost": "Taken over by another client",
}


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a run as Ctrl-C does, and the program with exit code 143."""


class Lost(KeyboardInterrupt):
    """Another client has taken over the run: it ends here as after Ctrl-C, with a `RunLost`."""


def ended_by(stop: BaseException, state: State | None, run_id: str | None) -> BaseException:
    """Return what a run raises that `stop` ended: itself, after SIGTERM a SystemExit, or a RunLost.

    Either carries the state that the run ended in, if there is one, with the exit code of the program.
    """
    code = TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
    if isinstance(stop, Lost):
        code = RunLost.exit_code
    if state is not None:
        state = state.replace(context={**state.context, "exit_code": code, "flow_run_id": run_id})
    if isinstance(stop, Lost):
        return RunLost(f"run {run_id} was taken over by another client, which continues it; it ended here", state)
    end: BaseException = SystemExit(code) if isinstance(stop, Terminated) else stop
    vars(end)["state"] = state
    return end


def in_record(stop: KeyboardInterrupt) -> tuple[str, int]:
    """Return the message and the exit code of the record of a run that was interrupted."""
    return ("terminated", TERMINATED) if isinstance(stop, Terminated) else ("interrupted", INTERRUPTED)


def stopped_by(stop: BaseException) -> str:
    """Return what interrupted a run, for its reader."""
    if isinstance(stop, Lost):
        return STOPS["lost"]
    return STOPS["terminated" if isinstance(stop, Terminated | SystemExit) else "interrupted"]


@contextmanager
def interruptible() -> Iterator[None]:
    """Distinguish the user's Ctrl-C from a KeyboardInterrupt of a body: the handler sets a flag before it raises.

    SIGTERM is handled only if the program does not. Outside the main thread Python handles no signals.
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
    """Raise :class:`Terminated` at SIGTERM in the block, if the program does not handle it; only in the main thread.

    For a thread that waits for a run of another thread; Ctrl-C is raised there as everywhere.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    try:
        signal.signal(signal.SIGTERM, _raise_terminated)
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def reraise_lost_interrupt() -> None:
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
