"""Mask the values of secrets in the exceptions and states of an attempt, before handlers and records see them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from prefectish.engine.signals import Signal
from prefectish.engine.state import Failed, State
from prefectish.errors import RemoteError, shorten, text_of
from prefectish.kinds import is_a
from prefectish.secrets import masking
from prefectish.secrets.masking import mask, masked

#: Exceptions of a chain that are masked one by one; if a later one shows a secret, the whole is replaced.
LONGEST_CHAIN = 50


def redacted(error: BaseException) -> BaseException:
    """Return an exception without secrets: itself with masked parts, or a stand-in if that is not enough.

    Its arguments and attributes are masked in place, to keep its type, which retries and handlers may check. An
    exception that still shows a secret afterwards, because its text comes from elsewhere, is replaced by a RemoteError
    with its type's name and masked text.
    """
    if masking.pattern is None:
        return error
    for link in _chain(error):
        _conceal(link)
    if not _shows_secret(error):
        return error
    import traceback

    text = "".join(traceback.format_exception(error, limit=-30))
    return RemoteError(type(error).__name__, text_of(error), shorten(text))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    open_ = [error]
    while open_ and len(seen) < LONGEST_CHAIN:
        link = open_.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        open_.extend(e for e in (link.__cause__, link.__context__) if e is not None)
        if isinstance(link, BaseExceptionGroup):
            open_.extend(link.exceptions)


def _conceal(error: BaseException) -> None:
    """Mask texts among the arguments and attributes of one exception; some types do not allow it."""
    with suppress(BaseException):
        error.args = masked(error.args)
    for name, value in list(vars(error).items()):
        if isinstance(error, Signal) and name == "state":
            error.state = redacted_state(value)
        else:
            vars(error)[name] = masked(value)
    for name in _members(type(error)):
        with suppress(BaseException):
            old = getattr(error, name)
            if (new := masked(old)) is not old:
                setattr(error, name, new)


def _members(cls: type) -> Iterator[str]:
    """Yield the names of the attributes that exceptions like OSError keep beside their arguments."""
    for base in cls.__mro__:
        for name, member in vars(base).items():
            if isinstance(member, MemberDescriptorType | GetSetDescriptorType) and not name.startswith("__"):
                yield name


def _shows_secret(error: BaseException) -> bool:
    import traceback

    try:
        texts = (str(error), repr(error), *traceback.format_exception(error))
    except BaseException:  # one that cannot be formatted shows nothing
        return False
    return any(mask(text) != text for text in texts)


def redacted_state(state: State) -> State:
    """Return a state without secrets in its message, exception and traceback; other results stay as they are."""
    if masking.pattern is None:
        return state
    changes: dict[str, Any] = {}
    if type(state.message) is str and (hidden := mask(state.message)) != state.message:
        changes["message"] = hidden
    result = state._raw_result
    if is_a(result, BaseException) and not is_a(result, Signal):  # a signal's state was masked with it
        stand_in = redacted(result)
        if stand_in is not result:
            changes["result"] = stand_in
    if isinstance(state, Failed) and state.traceback and (text := mask(state.traceback)) != state.traceback:
        changes["traceback"] = text
    return state.replace(**changes) if changes else state
