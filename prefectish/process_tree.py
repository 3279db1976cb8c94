"""Processes: the name of this one, how another one ended, and ending one together with what it started."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

#: Shared with forks of this process, which have other pids.
_TOKEN = os.urandom(8).hex()
_named: tuple[int, str] | None = None


class Forks:
    """How often what became this process was forked off from another one since this module was imported."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._add)

    def _add(self) -> None:
        self.count += 1


forks = Forks()


def end_fork(raised: BaseException | None) -> None:
    """End a process that code of the user's forked, at the end of that code: the run continues in the other one.

    It ends as Python would: with the code of ``sys.exit``, else with 1 if something was raised.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    code = raised.code if type(raised) is SystemExit else int(raised is not None)
    os._exit(code & 0xFF if type(code) is int else int(code is not None))


def process_name() -> str:
    """Return the name of this process for people, ``host:pid``."""
    global _named
    pid = os.getpid()
    if _named is None or _named[0] != pid:
        _named = (pid, f"{os.uname().nodename if hasattr(os, 'uname') else os.environ.get('COMPUTERNAME', '')}:{pid}")
    return _named[1]


def process_id() -> str:
    """Return an id of this process that is unique also if two containers have the same host name and pid."""
    return f"{process_name()}:{_TOKEN}"


def exit_evidence(code: int) -> dict[str, Any]:
    """Return the exit code of a process, as Python counts them, and the name of the signal that it stands for."""
    if code >= 0:
        return {"exit_code": code}
    try:
        return {"exit_code": code, "signal": signal.Signals(-code).name}
    except ValueError:
        return {"exit_code": code}


def exit_text(evidence: Mapping[str, Any]) -> str:
    """Say in a message how a process ended; empty if that is not known.

    Examples
    --------
    >>> exit_text({"exit_code": 7}), exit_text(exit_evidence(-9)), exit_text({})
    ('exit code 7', 'killed by signal 9 (SIGKILL)', '')
    """
    code = evidence.get("exit_code")
    if code is None:
        return ""
    if code >= 0:
        return f"exit code {code}"
    return f"killed by signal {-code} ({evidence.get('signal', 'unknown')})"


def exit_with_parent(wait: Callable[[], object], clean_up: Callable[[], object]) -> None:
    """End this process, after `clean_up`, when its parent has ended, however that ended; `wait` returns then."""

    def watch() -> None:
        wait()
        clean_up()
        os._exit(1)

    threading.Thread(target=watch, name="prefectish-parent", daemon=True).start()


def kill_tree(pid: int) -> None:
    """Kill a process that leads a process group, its group, and its descendants that left the group.

    The process may have ended; then the rest of its group is killed.
    """
    # The descendants first: it may be this very process that ends itself.
    for process in _descendants(pid):
        with suppress(Exception):  # it has exited, or belongs to another user
            process.kill()
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    else:
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)  # on Windows it ends the process at once


def _descendants(pid: int) -> list[Any]:
    psutil = import_module("psutil")  # late: it takes a while, and few processes have to be ended
    try:
        found: list[Any] = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return found
