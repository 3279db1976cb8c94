"""What is kept of failures: little enough that a hundred thousand of them fit into the memory of the client.

An exception can hold megabytes, in its arguments and in the frames of its traceback. Large ones are replaced by their
text where they were raised. Of each cause the first failures are kept as they are, to be looked into; of later ones the
beginning of the text is kept, and the history has the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prefectish.engine.jobs.envelope import MAX_ERROR_BYTES, EncodedError, remote_error
from prefectish.engine.state import State
from prefectish.errors import RemoteError, text_of
from prefectish.exception_classes import dotted_name
from prefectish.kinds import is_a

#: Failures of one cause, and of a task, that are kept as they are.
WHOLE_OF_CAUSE = 100
WHOLE_OF_TASK = 1_000
#: Characters that are kept of the text of later ones.
SHORT_TEXT = 500
#: Distinct causes that are kept for each task.
MOST_CAUSES = 1_000
#: Values below an exception that are weighed, at most.
_MOST_PARTS = 10_000
_TEXTS = (str, bytes, bytearray)
_LISTS = (list, tuple, set, frozenset)


def weight(error: BaseException) -> int:
    """Return about how many bytes of text and arrays an exception holds, with those that it was raised after.

    No code of the user's runs: anything but text, buffers and builtin collections counts as nothing.
    """
    found = 0
    parts: list[Any] = [error]
    seen: set[int] = set()
    while parts and len(seen) < _MOST_PARTS and found <= MAX_ERROR_BYTES:
        part = parts.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        kind = type(part)
        if issubclass(kind, _TEXTS):
            found += next(base for base in _TEXTS if issubclass(kind, base)).__len__(part)
        elif kind in _LISTS:
            parts += part
        elif kind is dict:
            parts += [*part, *part.values()]
        elif issubclass(kind, BaseException):
            parts += _held_by(part)
        else:
            found += _buffer_size(part)
    return found


def _held_by(error: BaseException) -> Iterator[Any]:
    yield from (error.args, error.__cause__, error.__context__)
    values = BaseException.__getattribute__(error, "__dict__")
    yield values
    if issubclass(type(error), BaseExceptionGroup):
        yield BaseExceptionGroup.exceptions.__get__(error)


def _buffer_size(value: Any) -> int:
    try:
        return memoryview(value).nbytes
    except TypeError:
        return 0


def of_bounded_size(state: State) -> State:
    """Return the state of an attempt that failed with an exception that is not too large: else with its text."""
    error = state._raw_result
    if not is_a(error, BaseException) or is_a(error, RemoteError) or weight(error) <= MAX_ERROR_BYTES:
        return state
    return state.replace(result=remote_error(error))


class KeptFailures:
    """Counts the failures of one task by their causes, and says what is kept of each."""

    __slots__ = ("_causes", "_whole")

    def __init__(self) -> None:
        self._causes: dict[tuple[str, str, Any], tuple[int, str | None]] = {}
        self._whole = 0

    def take(self, state: State) -> tuple[State, State]:
        """Return what is kept of a failure, and what the history records of it."""
        result = state._raw_result
        if is_a(result, EncodedError):
            result = result.stand_in
        if is_a(result, RemoteError):
            kind, text = result.type_name, result.message
            place: Any = None if result.traceback is None else dotted_name(kind, text, result.traceback)
        elif is_a(result, BaseException):
            kind, text, place = type(result).__name__, text_of(result), _innermost(result)
        else:
            return state, state
        key = kind, _outline(text), place
        if key not in self._causes and len(self._causes) >= MOST_CAUSES:
            key = kind, "", None
        number, first = self._causes.get(key, (0, None))
        if first is None:
            first = getattr(state, "traceback", None)
        self._causes[key] = number + 1, first
        if number < WHOLE_OF_CAUSE and self._whole < WHOLE_OF_TASK:
            self._whole += 1
            return state, state
        # One text for all, which is the traceback of the first of them.
        own = {} if first is None else {"traceback": first}
        kept = state.replace(message=_short(state.message), result=RemoteError(kind, _short(text), first), **own)
        return kept, kept.replace(result=RemoteError(kind, text, first))


def _outline(text: str) -> str:
    """Return the beginning of a text without its numbers, which differ between failures of one cause."""
    return "".join(c for c in text[:SHORT_TEXT] if not c.isdigit())[: SHORT_TEXT // 2]


def _short(text: Any) -> Any:
    if type(text) is not str or len(text) <= SHORT_TEXT:
        return text
    # In ASCII: one ellipsis makes each character of a text take two bytes.
    return f"{text[:SHORT_TEXT]}... (cut, {len(text)} characters)"


def _innermost(error: BaseException) -> Any:
    """Return the module of the class of an exception, and the line of code that raised it."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    module = type.__dict__["__module__"].__get__(type(error))  # two modules may have classes of one name
    return module if frame is None else (module, frame.tb_frame.f_code.co_filename, frame.tb_lineno)
