"""The exceptions that prefectish raises, each with the exit code of a program that dies of it.

An error of the *user's* code never gets here: it becomes the state of a task.  These are for the
caller's mistakes and for what breaks around a run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from prefectish.secrets.masking import mask

MAX_TEXT_LENGTH = 10_000
"""How many characters of an error's text are kept."""


class PrefectishError(Exception):
    """Is the base of every error that prefectish raises itself."""

    exit_code: ClassVar[int] = 1


class FlowDefinitionError(PrefectishError, ValueError):
    """Says that a flow cannot run as it is written."""

    exit_code = 2


class ParameterError(PrefectishError, ValueError):
    """Says that a flow was started with missing, unknown or unusable parameters."""

    exit_code = 2


class RemoteError(PrefectishError):
    """Stands in for an exception that could not be carried from where it was raised.

    Parameters
    ----------
    type_name
        The name of the class of the original exception.
    message
        Its text, at most `MAX_TEXT_LENGTH` characters and a mark.
    traceback
        Its formatted traceback, causes included, if there was one.
    """

    def __init__(self, type_name: str, message: str, traceback: str | None = None) -> None:
        super().__init__(type_name, message, traceback)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}"

    def __repr__(self) -> str:
        return f"RemoteError({str(self)!r})"


class ResultUnpickleError(PrefectishError):
    """Says that a result arrived, but its bytes cannot be loaded here."""


class ResultReleased(PrefectishError):
    """Says that a result was given up because nobody had asked to keep it."""


class HistoryCorrupt(PrefectishError):
    """Says that a file is not a history of ours; it is left as it is."""

    exit_code = 4


class HistoryTooNew(PrefectishError):
    """Says that a history was written by a later version; it is left as it is."""

    exit_code = 4


class HistoryWriteError(PrefectishError, OSError):
    """Says that a history cannot be written; what was written before is intact."""

    exit_code = 4


class HistoryUnsafe(PrefectishError):
    """Says that a history lies where its journal is not safe."""

    exit_code = 4


class SecretsUnsafe(PrefectishError, PermissionError):
    """Says that others can read the file of secrets, which is therefore not used."""

    exit_code = 2


class ResumeMismatch(PrefectishError):
    """Says that a run cannot be resumed with a flow that has changed."""

    exit_code = 2


class RunLocked(PrefectishError):
    """Says that somebody else drives a run."""

    exit_code = 4


class RunNotActive(PrefectishError):
    """Says that nobody drives a run of whom something could be asked."""

    exit_code = 2


class ResultCorrupt(PrefectishError):
    """Says that a stored result is not what was written: cut short, altered, foreign or without its signature."""

    exit_code = 4


class ResultStoreNotShared(PrefectishError):
    """Says that workers keep results where the client, or another worker, cannot read them."""

    exit_code = 3


class TaskRunFailed(PrefectishError):
    """A task run that has no result, and no exception of its body's that says why: it was cancelled, or never ran.

    Attributes
    ----------
    state
        Of the task run.
    """

    def __init__(self, text: str, state: Any = None) -> None:
        super().__init__(text)
        self.state = state


class Unhashable(PrefectishError, TypeError):
    """Says that a value, or a part of it, is not the same thing in another process.

    Parameters
    ----------
    reason
        What it is.
    path
        Where it is in the value: ``rows[3].client``.
    """

    exit_code = 2

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return f"{self.path or 'it'} cannot be hashed: {self.reason}"


class SchedulerLost(PrefectishError, ConnectionError):
    """Says that the scheduler of a cluster went away during a run."""

    exit_code = 3


class EnvironmentMismatch(PrefectishError):
    """Says that client and workers differ in a way that would break a run."""

    exit_code = 3


def shorten(text: str) -> str:
    """Mask secrets in a text and cut it to `MAX_TEXT_LENGTH` characters, followed by a mark with its full length."""
    text = mask(text)
    if len(text) <= MAX_TEXT_LENGTH:
        return text
    return f"{text[:MAX_TEXT_LENGTH]}… (cut, {len(text)} characters)"


def describe(error: BaseException) -> str:
    """Return the repr of an exception, cut to a sane length, even if its own repr breaks."""
    return _safe_text(repr, error)


def text_of(error: BaseException) -> str:
    """Return the message of an exception, cut to a sane length, even if its own str breaks."""
    return _safe_text(str, error)


def _safe_text(form: Callable[[object], str], error: BaseException) -> str:
    try:
        return shorten(form(error))
    except Exception as broken:  # `__repr__` and `__str__` are the user's code too
        return f"<{type(error).__name__} whose {form.__name__} raises {type(broken).__name__}>"


def reduce_exception(error: BaseException) -> tuple[Any, ...]:
    """Return what an exception says it is made of: a callable, its arguments and perhaps attributes.

    To be pickled in place of the exception. A library in this process may have registered a way of its own to pickle
    every exception, as distributed does through tblib, and by that one a SyntaxError arrives without its text, and with
    the frames of its traceback.
    """
    parts = error.__reduce_ex__(4)
    if isinstance(parts, str) or len(parts) > 3:
        raise TypeError(f"{type(error).__name__} is pickled in a way of its own")
    return parts


def rebuild_exception(parts: tuple[Any, ...]) -> BaseException:
    """Return the exception that was taken apart; raise whatever its making raises."""
    make, arguments, *state = parts
    error = make(*arguments)
    if not isinstance(error, BaseException):
        raise TypeError(f"{make!r} made no exception but {type(error).__name__}")
    if state and state[0] is not None:
        error.__setstate__(state[0])
    return error
