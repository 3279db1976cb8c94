"""Mask the logs and prints of this process once it has resolved a secret.

Log records are masked where they are made, for all loggers: a library that logs an address with a token in it is
configured by its user. Prints are masked where they leave the process through ``sys.stdout`` and ``sys.stderr``; what
a program started by the task is not masked.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from prefectish.secrets.masking import mask, register

if TYPE_CHECKING:
    import logging

_lock = threading.Lock()


def mask_output(value: Any) -> Any:
    """Mask the value of a secret in all output of this process from now on, and return the value."""
    register(value)
    _mask_streams()
    _mask_logs()
    return value


def _mask_streams() -> None:
    """Put a masking stream before each of the two; again if one was replaced meanwhile."""
    with _lock:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and not isinstance(stream, MaskingStream):
                setattr(sys, name, MaskingStream(stream))


class MaskingStream:
    """A proxy of a stream that masks secrets in what is written."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str, /) -> Any:
        """Write a text, masked."""
        return self._stream.write(mask(text) if type(text) is str else text)

    def writelines(self, texts: Iterable[str], /) -> None:
        """Write texts, masked."""
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":  # a copy whose attributes are not set yet
            raise AttributeError(name)
        return getattr(self._stream, name)


class _MaskingFactory:
    """Factory of log records that masks secrets."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        _mask_message(record)
        if record.exc_info and record.exc_info[0] is not None:
            _mask_traceback(record)
        return record


def _mask_logs() -> None:
    import logging

    with _lock:
        make = logging.getLogRecordFactory()
        if not isinstance(make, _MaskingFactory):
            logging.setLogRecordFactory(_MaskingFactory(make))


def _mask_message(record: logging.LogRecord) -> None:
    try:
        text = record.getMessage()
    except Exception:  # the arguments do not fit; logging reports it when it writes the record
        record.args = tuple(mask(str(arg)) for arg in record.args) if isinstance(record.args, tuple) else None
        return
    hidden = mask(text)
    if hidden != text:
        record.msg, record.args = hidden, None


def _mask_traceback(record: logging.LogRecord) -> None:
    """Keep a traceback with a secret in it as masked text only."""
    import traceback

    assert record.exc_info
    text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
    hidden = mask(text)
    if hidden != text:
        record.exc_text, record.exc_info = hidden, None
