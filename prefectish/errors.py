"""Exceptions raised by prefectish, each with the exit code of a program that ends with it.

Errors in user code do not use these classes: they become the state of a task.  These are for wrong
usage and for failures of the infrastructure of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from prefectish.interrupting import is_users
from prefectish.secrets.masking import mask

MAX_TEXT_LENGTH = 10_000
"""Maximum length of the text of an error, in characters."""


class PrefectishError(Exception):
    """Base class of all prefectish exceptions."""

    exit_code: ClassVar[int] = 1


class FlowDefinitionError(PrefectishError, ValueError):
    """Raised when a flow is defined in a way that cannot run."""

    exit_code = 2


class ParameterError(PrefectishError, ValueError):
    """Raised when a flow is started with missing, unknown or invalid parameters."""

    exit_code = 2


class RemoteError(PrefectishError):
    """Replacement for an exception that could not be pickled or unpickled.

    Parameters
    ----------
    type_name
        Name of the class of the original exception.
    message
        Its text, at most `MAX_TEXT_LENGTH` characters and a mark if it was cut.
    traceback
        Its formatted traceback, including its causes, if available.
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


class InvalidTransition(PrefectishError):
    """Raised under ``PREFECTISH_VALIDATE=1`` when a state follows one that it may not follow."""


class InvalidRunState(PrefectishError):
    """Raised under ``PREFECTISH_VALIDATE=1`` when the tables of a run contradict each other."""


class ResultUnpickleError(PrefectishError):
    """Raised when a result was received, but cannot be unpickled in this process."""


class ResultReleased(PrefectishError):
    """Raised when a result that was not kept is read after its release."""


class HistoryCorrupt(PrefectishError):
    """Raised when a file is not a prefectish history; the file is not changed."""

    exit_code = 4


class HistoryTooNew(PrefectishError):
    """Raised when a history was written by a later version; the history is not changed."""

    exit_code = 4


class HistoryWriteError(PrefectishError, OSError):
    """Raised when a history cannot be written; earlier records are intact."""

    exit_code = 4


class HistoryUnavailable(HistoryWriteError):
    """Raised when a history is locked by another process, or its server does not answer: it may come back."""


class HistoryUnsafe(PrefectishError):
    """Raised when a history is on a file system where its journal is not safe."""

    exit_code = 4


class SecretsUnsafe(PrefectishError, PermissionError):
    """Raised when other users can read the file of secrets, which is therefore not used."""

    exit_code = 2


class ResumeMismatch(PrefectishError):
    """Raised when a run cannot be resumed because its flow has changed."""

    exit_code = 2


class RunLocked(PrefectishError):
    """Raised when a run is active in another process."""

    exit_code = 4


class RunLost(PrefectishError):
    """Raised when another client has taken over a run; what this one was doing of it ends as if interrupted.

    Attributes
    ----------
    state
        The state of the flow with those of its tasks, as this client knew them.
    """

    exit_code = 7

    def __init__(self, text: str, state: Any = None) -> None:
        super().__init__(text)
        self.state = state


class RunNotActive(PrefectishError):
    """Raised when a run is not active and cannot take requests."""

    exit_code = 2


class NotDeployed(PrefectishError, KeyError):
    """Raised when nothing is deployed under a name, or the version is archived."""

    exit_code = 2

    def __str__(self) -> str:
        return str(self.args[0])


class ResultCorrupt(PrefectishError):
    """Raised when a stored result is truncated, altered, not written by a result store, or not signed."""

    exit_code = 4


class ResultStoreNotShared(PrefectishError):
    """Raised when workers store results where the client or other workers cannot read them."""

    exit_code = 3


class TaskRunFailed(PrefectishError):
    """Raised when the result of a task run is read that was cancelled or never ran, so that it has no exception.

    Attributes
    ----------
    state
        The state of the task run.
    """

    def __init__(self, text: str, state: Any = None) -> None:
        super().__init__(text)
        self.state = state


class Unhashable(PrefectishError, TypeError):
    """Raised when a value, or a part of it, has no hash that is the same in every process.

    Parameters
    ----------
    reason
        What it is that cannot be hashed.
    path
        Its place in the value: ``rows[3].client``.
    """

    exit_code = 2

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return f"{self.path or 'it'} cannot be hashed: {self.reason}"


class ExecutorFailed(PrefectishError):
    """Raised where an executor of the user's own raised an error, which is in `error`."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"the executor raised {error!r}")
        self.error = error


class SchedulerLost(PrefectishError, ConnectionError):
    """Raised when the connection to the scheduler of a cluster is lost or cannot be made."""

    exit_code = 3


class EnvironmentMismatch(PrefectishError):
    """Raised when client and workers have incompatible environments."""

    exit_code = 3


def shorten(text: str) -> str:
    """Mask secrets in a text and cut it to `MAX_TEXT_LENGTH` characters, followed by a mark with its full length."""
    text = mask(text)
    if len(text) <= MAX_TEXT_LENGTH:
        return text
    return f"{text[:MAX_TEXT_LENGTH]}… (cut, {len(text)} characters)"


def is_cut(text: str) -> bool:
    """Whether a text ends with the mark of :func:`shorten`, or with that of a later failure, in ASCII.

    Examples
    --------
    >>> is_cut("zz… (cut, 50000 characters)"), is_cut("zz... (cut, 700 characters)"), is_cut("two characters)")
    (True, True, False)
    """
    return text.endswith(" characters)") and ("… (cut, " in text[-40:] or "... (cut, " in text[-40:])


def describe(error: BaseException) -> str:
    """Return the repr of an exception, cut to `MAX_TEXT_LENGTH`, even if its `__repr__` raises."""
    return _safe_text(repr, error)


def text_of(error: BaseException) -> str:
    """Return the message of an exception, cut to `MAX_TEXT_LENGTH`, even if its `__str__` raises."""
    return _safe_text(str, error)


def _safe_text(form: Callable[[object], str], error: BaseException) -> str:
    try:
        return shorten(form(error))
    except BaseException as broken:  # `__repr__` and `__str__` are user code
        if is_users(broken):
            raise
        return f"<{type(error).__name__} whose {form.__name__} raises {type(broken).__name__}>"


def readable(error: BaseException) -> BaseException:
    """Return an exception of the user's, or what stands for one that raises when it is looked at.

    Its class can compute what everybody reads of an exception: its arguments, its notes, what it was raised after.
    Asked once, where it is caught, it can raise nowhere else.
    """
    try:
        seen: set[int] = set()
        todo: list[BaseException | None] = [error]
        while todo:
            link = todo.pop()
            if link is None or id(link) in seen:
                continue
            seen.add(id(link))
            _ = type(link).__name__, link.args, link.__traceback__, link.__suppress_context__
            todo += [link.__cause__, link.__context__]
            if (notes := getattr(link, "__notes__", None)) is not None:
                tuple(notes)
            if issubclass(type(link), BaseExceptionGroup):
                todo += link.exceptions  # type: ignore[attr-defined]  # it is a group
        return error
    except BaseException as broken:  # what it computes is code of the user's
        if is_users(broken):
            raise
        return _stand_in(error, type.__dict__["__name__"].__get__(type(broken)))


def _stand_in(error: BaseException, broken: str) -> RemoteError:
    """Return what stands for an exception that cannot be read, with the lines that it was raised at."""
    from traceback import format_tb

    name = type.__dict__["__name__"].__get__(type(error))
    frames = BaseException.__dict__["__traceback__"].__get__(error)
    text = f"an exception that raises {broken} when it is looked at"
    users = frames if frames is None else frames.tb_next or frames  # the first one is of who caught it
    lines = ["Traceback (most recent call last):\n", *format_tb(users, limit=-30), f"{name}: {text}\n"]
    stand_in = RemoteError(name, text, shorten("".join(lines)))
    stand_in.__traceback__ = frames
    return stand_in


def after_earlier(error: BaseException, earlier: BaseException | None) -> str:
    """Make an earlier error the context of one that came after it, and return the words that name it.

    Examples
    --------
    >>> error = RuntimeError("in a handler")
    >>> after_earlier(error, ValueError("in the body")), error.__context__
    ("; after ValueError('in the body')", ValueError('in the body'))
    >>> after_earlier(error, error), after_earlier(error, None)
    ('', '')
    """
    if earlier is None or earlier is error:
        return ""
    last = error
    known = {id(link) for link in (earlier, *_contexts(earlier))}
    for link in _contexts(error):
        last = link
    if id(last) not in known and id(error) not in known:
        last.__context__ = earlier
    return f"; after {describe(earlier)}"


def _contexts(error: BaseException) -> Iterator[BaseException]:
    """Yield what an error was raised after, the latest first."""
    seen = {id(error)}
    link = error.__context__
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__context__


#: Values whose repr is Python's own.
_PLAIN_ARGUMENTS = frozenset({type(None), bool, int, float, complex, str, bytes})


def is_plain(error: BaseException) -> bool:
    """Whether no code of the user is called to show an exception: class and arguments are Python's own."""
    kind = type(error)
    if not all(type(method) is _SLOT for method in (kind.__repr__, kind.__str__)):
        return False
    return all(type(argument) in _PLAIN_ARGUMENTS for argument in error.args)


_SLOT = type(BaseException.__repr__)
