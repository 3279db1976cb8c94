"""What failures have in common: type of the exception, its message without the particulars, and the user's frames."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import NamedTuple

from prefectish.engine.jobs.envelope import EncodedError
from prefectish.engine.jobs.failures import SHORT_TEXT
from prefectish.engine.signals import TRIGGERFAIL
from prefectish.engine.state import State, TriggerFailed
from prefectish.errors import RemoteError, text_of
from prefectish.exception_classes import dotted_name
from prefectish.kinds import is_a

#: What differs between failures of one cause: numbers, quoted text, addresses, paths.
_PARTICULARS = re.compile(r"0x[0-9a-fA-F]+|'[^']*'|\"[^\"]*\"|/[\w./-]+|\d+(?:\.\d+)?")
_FRAME = re.compile(r'^  File "(?P<file>[^"]+)", line \d+, in (?P<function>\S+)', re.MULTILINE)


class Cause(NamedTuple):
    """Why a child failed; equal fingerprints are one cause."""

    fingerprint: str
    type: str
    message: str
    traceback: str | None


def cause_of(state: State) -> Cause:
    """Return the cause of a failed state."""
    kind, message = described(state)
    traceback = getattr(state, "traceback", None)
    frames = [f"{m['file']}:{m['function']}" for m in _FRAME.finditer(traceback or "")]
    dotted = None if traceback is None else dotted_name(kind, message, traceback)  # its module is only there
    parts = "\n".join((type(state).__name__, dotted or kind, normalised(message[:SHORT_TEXT]), *frames))
    return Cause(blake2b(parts.encode(errors="replace"), digest_size=16).hexdigest(), kind, message, traceback)


def is_consequence(state: State) -> bool:
    """Whether a task failed only because of upstream failures: its trigger did not let it run."""
    return isinstance(state, TriggerFailed) and described(state)[0] == TRIGGERFAIL.__name__


def normalised(message: str) -> str:
    """Return a message without what differs between failures of one cause.

    Examples
    --------
    >>> normalised("no file 'a/b-17.png' at 0x7f31, 3 tries")
    'no file ? at ?, ? tries'
    """
    return _PARTICULARS.sub("?", message)


def described(state: State) -> tuple[str, str]:
    """Return the name of the exception's type and its text, without loading an exception that travelled as bytes."""
    result = state._raw_result
    if is_a(result, EncodedError):
        result = result.stand_in
    if is_a(result, RemoteError):
        return result.type_name, result.message
    if is_a(result, BaseException):
        return type(result).__name__, text_of(result)
    return type(state).__name__, str(state.message or "")
