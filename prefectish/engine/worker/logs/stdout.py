"""``log_stdout``: what a body prints goes to its task's logger.

There is one ``sys.stdout`` in a process, but bodies run beside one another in threads. So while such a body runs, a
stream replaces it that finds the task of a print by a context variable; other prints go where they went before.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

from prefectish.secrets.output_masking import MaskingStream

_lines_here: ContextVar[_Lines | None] = ContextVar("prefectish.prints", default=None)


class _Lines:
    """Logs whole lines; an unfinished one is held until its end."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._rest = ""

    def write(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._logger.info("%s", line)

    def close(self) -> None:
        if self._rest:
            self.write("\n")


class _Divided:
    """Writes to the lines of the context, if it has some, else to the stream that it replaces."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        lines = _lines_here.get()
        if lines is None:
            return self._stream.write(text)
        lines.write(text)
        return len(text)

    def writelines(self, texts: Iterable[str], /) -> None:
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _StandIn:
    """Replaces ``sys.stdout`` by a divided stream from the first such body until the last has ended.

    A stream that masks secrets stays where it is, before the divided one: whichever of the two comes first, neither is
    put before the other once more at each body.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._stream: TextIO | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            owner, name = _place()
            if self._users == 1 and (stream := getattr(owner, name)) is not None:
                self._stream = stream
                setattr(owner, name, _Divided(stream))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            owner, name = _place()
            if self._users == 0 and isinstance(getattr(owner, name), _Divided):
                setattr(owner, name, self._stream)


def _place() -> tuple[object, str]:
    """Return the object, and its attribute, that hold the stream to which prints go once they are masked."""
    return (sys.stdout, "_stream") if isinstance(sys.stdout, MaskingStream) else (sys, "stdout")


_stand_in = _StandIn()


@contextmanager
def logged_prints(logger: logging.Logger) -> Iterator[None]:
    """Send what is printed in this context to a logger, a line a record, at level INFO."""
    lines = _Lines(logger)
    with _stand_in:
        token = _lines_here.set(lines)
        try:
            yield
        finally:
            _lines_here.reset(token)
            lines.close()
