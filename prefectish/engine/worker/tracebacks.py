"""Tracebacks of bodies begin in the user's code, and a debugger that is quit in a body ends the run.

The frames of the engine that lead to a body are removed from its tracebacks. A debugger that a body starts in a process
without a terminal says where to debug instead.

``PREFECTISH_FULL_TRACEBACKS=1``, or ``full_tracebacks = true`` in `config.toml`, keeps all frames. Where
the body is called in the user's own thread (:func:`debuggable`), to quit the debugger is to end the run.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import TracebackType

from prefectish import config
from prefectish.engine.context import current
from prefectish.errors import text_of
from prefectish.slugs import child_label

#: Modules whose frames only lead to a body and are removed; below the first frame of the user they stay.
_LEADING = ("prefectish", "asyncio", "concurrent", "contextlib", "threading")
#: Ident of the thread whose bodies a debugger may be quit in.
_debugged: ContextVar[int | None] = ContextVar("prefectish.debugging", default=None)
_NO = frozenset({"", "0", "false", "no", "off"})


def shorten_traceback(error: BaseException) -> BaseException:
    """Let the tracebacks of an exception, and of those that it came of, begin in the user's code; return it."""
    if not keeps_all():
        for link in chain_of(error):
            link.__traceback__ = users_part(link.__traceback__)
    return error


def users_part(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame outside the engine on; all of it if every frame is the engine's."""
    part = traceback
    while part is not None and _is_leading(part.tb_frame.f_globals.get("__name__")):
        part = part.tb_next
    return part or traceback


def _is_leading(module: object) -> bool:
    if not isinstance(module, str) or module.startswith("prefectish.examples"):
        return False
    return module.partition(".")[0] in _LEADING


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, what it was caused by or raised in the handling of, and the members of groups; each once."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        link = todo.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            todo += [link.__cause__, link.__context__]
            if issubclass(type(link), BaseExceptionGroup):
                todo += link.exceptions  # type: ignore[attr-defined]  # it is a group


def keeps_all() -> bool:
    """Whether tracebacks are shown in full."""
    return _keeps_all(os.environ.get("PREFECTISH_FULL_TRACEBACKS"))


@cache
def _keeps_all(variable: str | None) -> bool:
    """Return the setting of the environment variable, else that of the configuration file, which is read once."""
    if variable is None:
        return config.settings().get("full_tracebacks") is True
    return variable.strip().lower() not in _NO


@contextmanager
def debuggable() -> Iterator[None]:
    """Let a debugger that is quit in a body end the run that this thread drives."""
    token = _debugged.set(threading.get_ident())
    try:
        yield
    finally:
        _debugged.reset(token)


def is_quit(error: BaseException) -> bool:
    """Whether a body ended because the user quit the debugger in it, which ends the run."""
    bdb = sys.modules.get("bdb")
    return bdb is not None and isinstance(error, bdb.BdbQuit) and _debugged.get() == threading.get_ident()


def refuse_debuggers() -> None:
    """Let ``breakpoint()`` say where to debug instead, in a process that runs bodies for another and has no terminal.

    A hook of the user's own, or ``PYTHONBREAKPOINT``, is left alone: a remote debugger needs no terminal.
    """
    if sys.breakpointhook is sys.__breakpointhook__ and "PYTHONBREAKPOINT" not in os.environ and not _has_terminal():
        sys.breakpointhook = _refuse


def _refuse(*args: object, **kwargs: object) -> None:
    raise NoTerminal(_instead("breakpoint()"))


def where_to_debug(error: BaseException) -> BaseException:
    """Return what stands for the end of a debugger that found no terminal; any other error as it is."""
    bdb = sys.modules.get("bdb")
    if bdb is None or not isinstance(error, bdb.BdbQuit) or sys.breakpointhook is not _refuse:
        return error
    instead = NoTerminal(_instead("a debugger"))
    instead.__traceback__ = error.__traceback__
    return instead


class NoTerminal(RuntimeError):
    """Raised when a body starts a debugger in a process that has no terminal."""


def _instead(what: str) -> str:
    known = current()
    task, index = known.get("task_label", "task"), known.get("map_index")
    child = f"{task!r}, {0 if index is None else index}"
    label = child_label(task, index)
    return (
        f"{what} in {label}: this process has no terminal; run the flow with LocalExecutor(), or only this child, in "
        f'your own process: history.run("{known.get("flow_run_id", "last")}").child({child}).replay(pdb=True)'
    )


def _has_terminal() -> bool:
    try:
        return sys.stdin is not None and sys.stdin.isatty()
    except ValueError:  # it is closed
        return False


def one_line(error: BaseException) -> str:
    """Return the type and text of an error, and the line of code that raised it, if that is not ours."""
    text = f"{type(error).__name__}: {text_of(error)}"
    part = users_part(error.__traceback__)
    while part is not None and part.tb_next is not None:
        part = part.tb_next
    if part is None or isinstance(error, SyntaxError) or "prefectish" in part.tb_frame.f_globals.get("__name__", ""):
        return text
    return f"{text} ({os.path.basename(part.tb_frame.f_code.co_filename)}:{part.tb_lineno})"
