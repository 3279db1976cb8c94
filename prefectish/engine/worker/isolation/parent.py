"""``isolation="process"``: a body in a process of its own, which really ends at its limit.

The process is started by `subprocess`, because a worker under a nanny is daemonic and may not use multiprocessing. It
reads what to call from its standard input, and answers in frames over its former standard output: that the body begins,
what it prints and logs, how it ended (:mod:`prefectish.engine.worker.isolation.child` is the other side). User objects
cross as bytes and are opened under capture. A result stays in its envelope until it is
read.

The limit counts from the moment the body begins: starting Python and importing what the body needs is not its time. The
process leads a process group of its own, which is killed as a whole; it ends itself when this process dies.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import IO, Any

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.context import get_logger
from prefectish.engine.deferred import Deferred
from prefectish.engine.jobs.envelope import dumps
from prefectish.engine.jobs.preparation import required
from prefectish.engine.side_thread import SideThread
from prefectish.engine.signals import ENDRUN, FAIL, TimeoutSignal
from prefectish.engine.state import Crashed
from prefectish.engine.worker.attempt_context import KILLED_PROCESS, AttemptContext
from prefectish.engine.worker.isolation import frames
from prefectish.errors import text_of
from prefectish.process_tree import exit_evidence, exit_text, kill_tree
from prefectish.secrets import masking
from prefectish.tasks.task import Task

#: Longest time to start Python and open the arguments, if the body has a limit, in seconds; a longer limit allows more.
START_SECONDS = 60.0
#: Seconds that a process has to exit after its body has ended, before it is killed.
LINGER_SECONDS = 2.0
#: Time between looks at whether the process is alive, in seconds: the end of its pipe may be held by what it started.
LOOK_SECONDS = 0.5

#: The folder that holds the package goes last: from a checkout it would hide what is installed.
_START = (
    "import sys; sys.path.append(sys.argv[1]); import prefectish.engine.worker.isolation.child as child; child.main()"
)


def call_isolated(ctx: AttemptContext, inputs: dict[str, Any], limit: float | None) -> Value | Error:
    """Call a body in a process of its own; if that dies, the attempt ends Crashed, and the client may retry it."""
    called = capture(_call, ctx, inputs, limit)
    outcome: Value | Error = called.value if type(called) is Value else called
    return outcome


def _call(ctx: AttemptContext, inputs: dict[str, Any], limit: float | None) -> Value | Error:
    label = ctx.spec.place_of(ctx.index)
    try:
        request = _request(ctx, inputs, label)
    except _Unpackable as fault:
        return Error(FAIL(str(fault), result=fault.__cause__))
    call = _IsolatedCall(ctx, request)
    try:
        in_time = call.began.wait(None if limit is None else max(START_SECONDS, limit)) and call.wait_for_end(limit)
    finally:
        call.close()
    if not in_time:
        return Error(TimeoutSignal())
    if call.answer is None:
        return Error(ENDRUN(_died(label, call.process)))
    return _opened(call.answer)


def _opened(answer: bytes) -> Value | Error:
    """Read how the body ended; an exception is opened here, a result is left in its envelope."""
    kind, content = pickle.loads(answer)
    if kind == "value":
        return Value(content)
    return Error(content.get() if isinstance(content, Deferred) else content)


def _died(label: str, process: subprocess.Popen[bytes]) -> Crashed:
    evidence = {"pid": process.pid, **exit_evidence(process.returncode)}
    text = f"process died while running {label}: {exit_text(evidence)}"
    return Crashed(text, cause=KILLED_PROCESS, evidence=evidence)


# -- what is sent ------------------------------------------------------------------------------------------------------


class _Unpackable(Exception):
    """Something that the body needs cannot be pickled; the cause says why."""


def _request(ctx: AttemptContext, inputs: dict[str, Any], label: str) -> bytes:
    return pickle.dumps(
        {
            "path": sys.path,
            "prepare": required(),
            "label": label,
            "levels": _levels(),
            "masked": masking.known(),
            "logger": (ctx.spec.name, ctx.index if ctx.spec.mapped else None),
            "by_position": ctx.spec.by_position,
            "context": _portable(ctx),
            "body": _packed(_without_engine_options(ctx.spec.task), f"task {ctx.spec.slug}", {}),
            "inputs": _packed(inputs, None, {name: f"argument {name!r} of {label}" for name in inputs}),
        }
    )


def _packed(value: Any, name: str | None, parts: Mapping[str, str]) -> bytes:
    """Pickle a value, or the parts of a mapping; the error names what cannot be pickled."""
    try:
        return dumps(value)
    except BaseException as error:  # pickling runs the user's code
        for key, part in parts.items():
            _packed(value[key], part, {})
        raise _Unpackable(f"{name} could not be pickled: {type(error).__name__}: {text_of(error)}") from error


def _without_engine_options(task: Task) -> Task:
    """Return a task without the options that only the engine reads: a handler often holds what cannot be pickled."""
    bare: Task = object.__new__(type(task))
    bare.__dict__.update(task.__getstate__())
    for name in ("state_handlers", "trigger", "retry_delay", "retry_backoff", "priority", "resources", "workers"):
        bare.__dict__.pop(name, None)
    return bare


def _portable(ctx: Mapping[str, Any]) -> bytes:
    """Pickle the context, save for the logger, which is made anew, and what cannot be pickled."""
    fields = {name: ctx[name] for name in ctx if name != "logger"}
    whole = capture(dumps, fields)
    if type(whole) is Value:
        return whole.value  # type: ignore[no-any-return]
    kept = {name: value for name, value in fields.items() if type(capture(dumps, value)) is Value}
    get_logger("engine").debug("context of an isolated body lacks %s", ", ".join(sorted(fields.keys() - kept.keys())))
    return dumps(kept)


def _levels() -> dict[str, int]:
    """Return the level of each logger that has one of its own, so that the process sends what would be shown."""
    import logging

    found = {"": logging.root.level}
    for name, known in logging.root.manager.loggerDict.copy().items():
        if isinstance(known, logging.Logger) and known.level:
            found[name] = known.level
    return found


# -- the process -------------------------------------------------------------------------------------------------------


class _IsolatedCall:
    """The process of one body, and the thread that writes to it and reads its frames.

    Attributes
    ----------
    began
        Set when the body begins, or nothing more will come.
    ended
        Set when the body ended, or nothing more will come.
    answer
        How the body ended; None if it never did.
    """

    def __init__(self, ctx: AttemptContext, request: bytes) -> None:
        self.ctx = ctx
        self.began = threading.Event()
        self.ended = threading.Event()
        self.answer: bytes | None = None
        root = str(Path(__file__).resolve().parents[4])
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.thread = SideThread(partial(capture, self._converse, request), "prefectish-isolated-body")

    def wait_for_end(self, limit: float | None) -> bool:
        """Wait for the end of the body, or of its process; False if neither came in time."""
        end = None if limit is None else monotonic() + limit
        while not self.ended.wait(LOOK_SECONDS if end is None else min(LOOK_SECONDS, max(0.0, end - monotonic()))):
            if end is not None and monotonic() >= end:
                return False
            if self.process.poll() is not None:  # it is gone, but what it started holds the pipe
                self.ended.wait(LINGER_SECONDS)
                return True
        return True

    def _converse(self, request: bytes) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            with suppress(OSError):  # it died before it read everything: its frames, or their end, show it
                frames.write(self.process.stdin, frames.REQUEST, request)
            while (frame := frames.read(self.process.stdout)) is not None:
                self._take(*frame)
        finally:
            self.began.set()
            self.ended.set()

    def _take(self, kind: bytes, content: bytes) -> None:
        if kind == frames.BEGAN:
            self.began.set()
        elif kind == frames.ENDED:
            self.answer = content
            self.ended.set()
        elif kind == frames.PRINTED:
            capture(_show, *pickle.loads(content))
        elif kind == frames.LOGGED:
            capture(self._log, pickle.loads(content))

    def _log(self, fields: dict[str, Any]) -> None:
        import logging

        record = logging.makeLogRecord(fields)
        own = self.ctx["logger"]
        (own if record.name == own.name else logging.getLogger(record.name)).handle(record)

    def close(self) -> None:
        """Wait until the process exits if it has answered, else kill it."""
        if self.answer is not None and not self._gone(LINGER_SECONDS):
            self.ctx["logger"].warning(
                "Task %r: its process did not end after the body had, and was killed",
                self.ctx.spec.label_of(self.ctx.index),
            )
        if self.answer is None or self.process.poll() is None:
            kill_tree(self.process.pid)
        self.process.wait()
        self.thread.wait(LINGER_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            _close(pipe)

    def _gone(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def _show(name: str, text: str) -> None:
    stream = getattr(sys, name)
    if stream is not None:
        stream.write(text)
        stream.flush()


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        with suppress(OSError, ValueError):
            pipe.close()
