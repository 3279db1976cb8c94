"""A debugger in a body: where the body is called in the user's own thread, to quit it is to end the run."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_thread: ContextVar[int | None] = ContextVar("prefectish.debugging", default=None)


@contextmanager
def debuggable() -> Iterator[None]:
    """Let a debugger that is quit in a body end the run that this thread drives."""
    token = _thread.set(threading.get_ident())
    try:
        yield
    finally:
        _thread.reset(token)


def is_quit(error: BaseException) -> bool:
    """Tell whether a body ended because somebody quit the debugger in it, and the run is to end with it."""
    bdb = sys.modules.get("bdb")
    return bdb is not None and isinstance(error, bdb.BdbQuit) and _thread.get() == threading.get_ident()
