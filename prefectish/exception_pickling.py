"""How exceptions cross to another process, or to another day: by value, or as a stand-in that shows their text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from prefectish.errors import RemoteError, describe, shorten, text_of
from prefectish.exception_classes import class_of
from prefectish.interrupting import is_users
from prefectish.kinds import is_a


def reduce_exception(error: BaseException) -> tuple[Any, ...]:
    """Return what an exception is rebuilt from: a callable, its arguments and possibly attributes.

    It is pickled in place of the exception. A library in this process may have registered its own way to pickle
    every exception, as distributed does through tblib: a SyntaxError pickled that way loses its text and carries
    the frames of its traceback.
    """
    parts = error.__reduce_ex__(4)
    if isinstance(parts, str) or len(parts) > 3:
        raise TypeError(f"{type(error).__name__} has a custom way of pickling")
    return parts


def rebuild_exception(parts: tuple[Any, ...]) -> BaseException:
    """Rebuild an exception from `reduce_exception`; raise whatever its constructor raises."""
    make, arguments, *state = parts
    error = make(*arguments)
    if not isinstance(error, BaseException):
        raise TypeError(f"{make!r} returned {type(error).__name__}, which is not an exception")
    if state and state[0] is not None:
        error.__setstate__(state[0])
    return error


def traceback_of(result: Any) -> str | None:
    """Return the text of the traceback of an exception, causes included; None if it has none."""
    if is_a(result, RemoteError):
        return result.traceback
    if not is_a(result, BaseException):
        return None
    if result.__traceback__ is None:  # raised in another process, from where its text came as the cause
        return traceback_of(result.__cause__)
    from traceback import format_exception

    try:
        return shorten("".join(format_exception(result)))
    except BaseException as broken:  # what it is made of is the user's code
        if is_users(broken):
            raise
        return f"traceback cannot be formatted: {describe(broken)}"


class PickledException:
    """An exception as bytes, so that it can break neither the pickling of its state nor the loading.

    Its name and text go beside, for the stand-in that takes its place if the bytes cannot be made or loaded.
    """

    __slots__ = ("content", "text", "type_name")

    def __init__(self, error: BaseException) -> None:
        self.content = _dumped(error)
        self.type_name = type(error).__name__
        self.text = text_of(error)

    def opened(self, traceback: str | None) -> BaseException:
        """Return the exception, or a stand-in with this traceback."""
        error = _loaded(self.content)
        return RemoteError(self.type_name, self.text, traceback) if error is None else error


def _dumped(error: BaseException) -> bytes | None:
    from prefectish.source_lines import dumps_by_value  # takes classes of `__main__` along, where pickle sends a name

    try:
        return dumps_by_value(reduce_exception(error), lines=False)
    except BaseException as broken:  # how it is pickled is the user's code
        if is_users(broken):
            raise
        return None


def _loaded(content: bytes | None) -> BaseException | None:
    if content is None:
        return None
    from pickle import loads

    try:
        return rebuild_exception(loads(content))
    except BaseException as broken:  # how it is loaded is the user's code too
        if is_users(broken):
            raise
        return None


def from_record(type_name: str, text: str, traceback: str | None) -> BaseException:
    """Return an exception of which a record has the name of its class, its text and its traceback.

    It has the class, where that is loaded in this process, and the text; of the attributes only those that Python
    makes of the text, since no constructor of the user's runs again. A RemoteError is the cause, as of one that comes
    from another process; and it stands for an exception of a class that is not known here, or would show another text.
    """
    stand_in = RemoteError(type_name, text, traceback)
    cls = class_of(type_name, text, traceback)
    if cls is None:
        return stand_in
    for arguments in _arguments(cls, text):
        try:
            error = _made(cls, arguments)
            if type(error) is cls and text_of(error) == text:
                error.__cause__ = stand_in
                return error
        except Exception:  # a class with a `__new__` or `__str__` of its own
            continue
    return stand_in


def _made(cls: type[Exception], arguments: tuple[Any, ...]) -> Exception:
    """Return an exception of a class, by the constructor of the class of Python's that it is derived from."""
    error = cls.__new__(cls, *arguments)
    own = next(base for base in cls.__mro__ if "__init__" in vars(base) and base.__module__ == "builtins")
    vars(own)["__init__"](error, *arguments)
    return error


def _arguments(cls: type[Exception], text: str) -> Iterator[tuple[Any, ...]]:
    """Yield what an exception may have been made of that shows a text."""
    from ast import literal_eval

    errno = re.fullmatch(r"\[Errno (\d+)\] (.*?)(?:: ('.*'|\".*\"))?", text, re.DOTALL)
    try:
        if issubclass(cls, OSError) and errno is not None:
            number, message, file = errno.groups()
            yield (int(number), message, *(() if file is None else (literal_eval(file),)))
        if issubclass(cls, KeyError):
            yield (literal_eval(text),)
    except (ValueError, SyntaxError, TypeError):
        pass
    if not text:
        yield ()
    yield (text,)
