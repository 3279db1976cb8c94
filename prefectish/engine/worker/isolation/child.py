"""The process of an isolated body: reads a call, makes it, answers.

:mod:`prefectish.engine.worker.isolation.parent` starts it.
"""

from __future__ import annotations

import faulthandler
import io
import logging
import os
import pickle
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import IO, Any

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.context import bind
from prefectish.engine.jobs.envelope import dumps, encode, encode_error, remote_error
from prefectish.engine.jobs.preparation import prepare
from prefectish.engine.signals import FAIL, Signal
from prefectish.engine.worker.attempt_context import child_logger
from prefectish.engine.worker.body import call_body
from prefectish.engine.worker.isolation import frames
from prefectish.engine.worker.tracebacks import refuse_debuggers
from prefectish.errors import text_of
from prefectish.process_tree import exit_with_parent, kill_tree
from prefectish.secrets.output_masking import mask_output


def main() -> None:
    """Serve one request."""
    source, sink = _take_pipes()
    frame = frames.read(source)
    if frame is None:  # the parent has ended
        return
    capture(faulthandler.enable)  # a crash shows where it was
    request = pickle.loads(frame[1])
    sys.path[:] = request["path"]
    prepare(request["prepare"])
    parent = _ParentPipe(sink)
    exit_with_parent(partial(source.read, 1), partial(kill_tree, os.getpid()))  # the parent holds the pipe open
    _forward(parent, request["levels"])
    for text in request["masked"]:
        mask_output(text)
    outcome = _call(parent, request)
    sys.stdout.flush()
    sys.stderr.flush()
    parent.send(frames.ENDED, _answer(outcome, request["label"]))


def _take_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Keep standard input and output for the pipes; the body reads nothing, and what bypasses Python goes to errors.

    Copies are not inherited by what the body starts, so the pipe ends with this process.
    """
    source = open(os.dup(0), "rb", buffering=0)  # noqa: SIM115  it is read until the end
    sink = open(os.dup(1), "wb")  # noqa: SIM115
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, sink


def _call(parent: _ParentPipe, request: Mapping[str, Any]) -> Value | Error:
    body = capture(pickle.loads, request["body"])
    inputs = capture(pickle.loads, request["inputs"])
    ctx = capture(pickle.loads, request["context"])
    for what, opened in (("body", body), ("an argument", inputs), ("the context", ctx)):
        if isinstance(opened, Error):
            return Error(_unopened(what, request["label"], opened.exception))
    assert isinstance(body, Value) and isinstance(inputs, Value) and isinstance(ctx, Value)
    refuse_debuggers()
    bind({**ctx.value, "logger": child_logger(*request["logger"])})
    parent.send(frames.BEGAN)
    return call_body(body.value, inputs.value, request["by_position"])


def _unopened(what: str, label: str, error: BaseException) -> FAIL:
    text = f"{what} of {label} could not be unpickled in its process: {type(error).__name__}: {text_of(error)}"
    return FAIL(text, result=remote_error(error))


def _answer(outcome: Value | Error, label: str) -> bytes:
    packed = capture(_packed, outcome, label)
    if isinstance(packed, Error):
        error = packed.exception
        text = f"result of {label} could not be pickled: {type(error).__name__}: {text_of(error)}"
        return dumps(("error", FAIL(text, result=encode_error(error, label))))
    answer: bytes = packed.value
    return answer


def _packed(outcome: Value | Error, label: str) -> bytes:
    if isinstance(outcome, Value):
        return pickle.dumps(("value", encode(outcome.value, label, keep=False)), protocol=5)
    error = outcome.exception
    if isinstance(error, Signal):  # whole, however large: what it carries is a result
        return dumps(("error", error))
    return pickle.dumps(("error", encode_error(error, label)), protocol=5)


# -- what is printed and logged ----------------------------------------------------------------------------------------


class _ParentPipe:
    """Writes frames, one at a time, whichever thread they come from."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self._lock = threading.Lock()

    def send(self, kind: bytes, content: bytes = b"") -> None:
        with self._lock:
            frames.write(self._sink, kind, content)


def _forward(parent: _ParentPipe, levels: Mapping[str, int]) -> None:
    """Send prints and log records to where the flow runs."""
    sys.stdout, sys.stderr = _Printed(parent, "stdout", 1), _Printed(parent, "stderr", 2)
    sys.stdin = open(0)  # noqa: SIM115  it is empty
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.root.addHandler(_Sender(parent))


class _Printed(io.TextIOBase):
    """A text stream whose lines are shown where the flow runs."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, parent: _ParentPipe, name: str, number: int) -> None:
        self._parent = parent
        self._name = name
        self._number = number
        self._parts: list[str] = []

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """Return the descriptor that programs started by the body write to."""
        return self._number

    def write(self, text: str, /) -> int:
        self._parts.append(text)
        if "\n" in text or len(self._parts) > 1000:
            self.flush()
        return len(text)

    def flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts:
            self._parent.send(frames.PRINTED, pickle.dumps((self._name, "".join(parts))))


class _Sender(logging.Handler):
    """Sends log records as plain values: message and traceback as text, extra fields where they can be pickled."""

    def __init__(self, parent: _ParentPipe) -> None:
        super().__init__()
        self._parent = parent

    def emit(self, record: logging.LogRecord) -> None:
        fields = {**record.__dict__, "msg": record.getMessage(), "args": None, "exc_info": None}
        if record.exc_info and not record.exc_text:
            fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
        packed = capture(pickle.dumps, fields)
        if isinstance(packed, Error):
            packed = capture(pickle.dumps, {name: value for name, value in fields.items() if _is_plain(value)})
        if isinstance(packed, Value):
            self._parent.send(frames.LOGGED, packed.value)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float) or (isinstance(value, Sequence) and not value)
