"""The one place where user code is called.

Whatever comes out, `BaseException` included, becomes a value: a body that calls `sys.exit` must not
take a worker down, and no rule of the engine has to think about exceptions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from prefectish.errors import readable, text_of
from prefectish.interrupting import InterruptFlag as InterruptFlag
from prefectish.interrupting import interrupt as interrupt
from prefectish.process_tree import end_fork, forks


@final
class Value:
    """Holds what a call returned."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Value({self.value!r})"


@final
class Error:
    """Holds what a call raised."""

    __slots__ = ("exception",)

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception

    def __repr__(self) -> str:
        return f"Error({self.exception!r})"


def capture(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Value | Error:
    """Call `fn` and return its outcome as a value.

    A process that `fn` forked ends here: only the parent process waits for the outcome.

    Raises
    ------
    KeyboardInterrupt
        Only if the `interrupt` flag is set: then it is the user's, not the body's own.
    """
    before = forks.count
    try:
        value = fn(*args, **kwargs)
    except KeyboardInterrupt as error:
        if forks.count != before:
            end_fork(error)
        if interrupt.is_set():
            raise
        return Error(_without_our_frame(readable(error)))
    except BaseException as error:
        if forks.count != before:
            end_fork(error)
        return Error(_without_our_frame(readable(error)))
    if forks.count != before:
        end_fork(None)
    return Value(value)


def _without_our_frame(error: BaseException) -> BaseException:
    """Let the traceback begin in the user's code; an error of the call itself has only the frame of this module."""
    if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
        error.__traceback__ = error.__traceback__.tb_next
    return error


def same_value(left: Any, right: Any) -> bool:
    """Compare two values of the user's; what has no plain answer, such as arrays, is the same only if identical."""
    if left is right:
        return True
    try:
        return bool(left == right)
    except Exception:
        return False


def is_true(question: Callable[..., Any], /, *about: Any) -> bool:
    """Whether a function answers yes; for :func:`capture`: the truth of an answer may be code of the user's, too."""
    return bool(question(*about))


def sound_message(message: Any) -> Any:
    """Return a message of the user's, which may be any object; its text, if its text or its truth cannot be asked for.

    Examples
    --------
    >>> sound_message(3)
    3
    >>> sound_message(type("Rows", (), {"__bool__": lambda self: 1 / 0, "__str__": lambda self: "two rows"})())
    'two rows'
    """
    if isinstance(capture(str, message), Error) or isinstance(capture(bool, message), Error):
        return text_of(message)
    return message
