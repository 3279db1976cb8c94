"""The envelope: objects of the user leave a process as bytes, and are unpickled where their errors are captured.

Dask unpickles the arguments of a task outside of the task, on the scheduler too, and a value that raises there kills
workers. So a graph holds no object of the user: :func:`encode` pickles it where it is made, :class:`Encoded` holds the
bytes, and only an attempt, or a reader of ``state.result``, unpickles them.

Numbers, text, bytes and None are sent as they are: they cannot raise. Buffers (arrays) are sent out of band,
without a copy.
"""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from prefectish.callable_pickling import check_name, is_dispatch, reduce_dispatch, reduce_view
from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.context import context
from prefectish.engine.deferred import Deferred
from prefectish.engine.state import Failed, Mapped, State
from prefectish.errors import RemoteError, ResultUnpickleError, describe, shorten, text_of
from prefectish.exception_pickling import rebuild_exception, reduce_exception
from prefectish.kinds import is_a
from prefectish.source_lines import pickler_class

#: Types that are sent as they are. Subclasses are not: their classes may be missing elsewhere.
SIMPLE = frozenset({type(None), bool, int, float, complex, str, bytes})
#: Those of them that are small, whatever their value.
SMALL = frozenset({type(None), bool, int, float, complex})
#: Exceptions with a larger pickle, in bytes, are sent as text.
MAX_ERROR_BYTES = 64 << 10
#: An exception takes along so many of those that it was raised after.
LONGEST_CONTEXT = 5
_MAIN = b"__main__"
#: What the pickle of a result has in it that holds a reference to a value of a Dask cluster.
_LIVE = re.compile(rb"distributed\.(?:client|actor).{0,64}?\x8c(?:\x06Future|\x05Actor)\x94", re.DOTALL)
_TEXT = frozenset({str, type(None)})


class Encoded(Deferred):
    """A value of the user as bytes; unpickled when it is read, once in each process."""

    __slots__ = ("_live", "buffers", "head", "label", "nbytes")

    def __init__(self, label: str, head: bytes, buffers: Sequence[Any], live: tuple[Any] | None = None) -> None:
        self.label = label  # the child that made it, ``load-1[17]``
        self.head = head  # its pickle
        self.buffers = buffers  # what pickle left out of band
        self.nbytes = len(head) + sum(_size(b) for b in buffers)  # bytes in all
        self._live = live

    def get(self) -> Any:
        """Return the value; a ResultUnpickleError if it cannot be unpickled here."""
        if self._live is None:
            self._live = (self._load(),)
        return self._live[0]

    def _load(self) -> Any:
        try:
            return pickle.loads(self.head, buffers=self.buffers)
        except BaseException as error:  # unpickling runs code of the user
            raise ResultUnpickleError(
                f"upstream {self.label} could not be unpickled on the worker: {type(error).__name__}: {text_of(error)}"
            ) from error

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # Dask sends with protocol 4 to its scheduler, which has no buffers out of band: there they are copied.
        outside = _outside if protocol >= 5 else bytes
        return type(self), (self.label, self.head, [outside(b) for b in self.buffers])

    def __sizeof__(self) -> int:
        return self.nbytes + 100

    def __repr__(self) -> str:
        return f"<value of {self.label}, {self.nbytes} bytes>"


class EncodedError(Encoded):
    """An exception as bytes, with the text that takes its place where it cannot be unpickled."""

    __slots__ = ("stand_in",)

    def __init__(self, label: str, head: bytes, stand_in: RemoteError, live: tuple[Any] | None = None) -> None:
        super().__init__(label, head, (), live)
        self.stand_in = stand_in

    @property
    def traceback_text(self) -> str | None:
        """Return the traceback as text."""
        return self.stand_in.traceback

    def _load(self) -> Any:
        try:
            error = _rebuilt(self.head)
        except BaseException:  # the stand-in says what is known; that it cannot be unpickled here adds nothing
            return self.stand_in
        if error.__cause__ is None:
            error.__cause__ = self.stand_in
        return error

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return EncodedError, (self.label, self.head, self.stand_in)


#: Types of what the engine puts into the context of a state.
_PORTABLE = SIMPLE | {Encoded, datetime, timedelta}


def _size(buffer: Any) -> int:
    return buffer.raw().nbytes if isinstance(buffer, pickle.PickleBuffer) else memoryview(buffer).nbytes


def _outside(buffer: Any) -> pickle.PickleBuffer:
    return buffer if isinstance(buffer, pickle.PickleBuffer) else pickle.PickleBuffer(buffer)


def dumps(value: Any, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None) -> bytes:
    """Pickle a value for another process: by reference if it can be imported there, else by value."""
    try:
        head = pickle.dumps(value, protocol=5, buffer_callback=buffer_callback)
        if _MAIN not in head and not _by_value():
            return head
    except Exception:  # cloudpickle raises what is wrong if it fails too
        pass
    if buffer_callback is not None:
        buffer_callback.__self__.clear()  # type: ignore[attr-defined]
    return _by_cloudpickle(value, buffer_callback)


def _by_cloudpickle(value: Any, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None) -> bytes:
    import io

    file = io.BytesIO()
    _pickler()(file, buffer_callback).dump(value)
    return file.getvalue()


@cache
def _pickler() -> Any:
    base = pickler_class()

    class Pickler(base):  # type: ignore[misc, valid-type]
        """Sends `prefectish.context` by name: a body of ``__main__`` that reads it holds the object itself."""

        def reducer_override(self, obj: Any) -> Any:
            if obj is context:
                return "context"
            if type(obj) is memoryview:
                return reduce_view(obj)
            check_name(obj)
            reduced = super().reducer_override(obj)
            return reduce_dispatch(obj) if reduced is not NotImplemented and is_dispatch(obj) else reduced

    return Pickler


def _by_value() -> bool:
    """Whether the user registered modules to be pickled by value, which the standard pickle does not know of."""
    import sys

    cloudpickle = sys.modules.get("cloudpickle")
    return cloudpickle is not None and bool(cloudpickle.list_registry_pickle_by_value())


def encode(value: Any, label: str, keep: bool = True) -> Any:
    """Return `value` itself if it is simple, else its envelope; raise whatever pickling it raises.

    Errors call it `label`. With `keep`, the live object stays for readers in this process.
    """
    if type(value) in SIMPLE or is_a(value, Encoded):
        return value
    buffers: list[pickle.PickleBuffer] = []
    head = dumps(value, buffers.append)
    return Encoded(label, head, buffers, (value,) if keep else None)


def weight(result: Any) -> int:
    """Return the size in bytes, or nearly, of a result as it travels."""
    if type(result) in SMALL:
        return 8
    if is_a(result, Encoded):
        return result.nbytes
    return len(result) if is_a(result, (str, bytes)) else 8


def encode_error(error: BaseException, label: str) -> EncodedError | RemoteError:
    """Return the envelope of an exception, or a stand-in if it does not survive a round trip.

    The traceback is sent as text, and is the cause of the exception that arrives.
    """
    stand_in = remote_error(error)
    try:
        head = _packed_error(error)
        if len(head) > MAX_ERROR_BYTES:
            return stand_in
        _rebuilt(head)
    except BaseException:  # the stand-in says what is known
        return stand_in
    return EncodedError(label, head, stand_in, (error,))


def _packed_error(error: BaseException, links: int = LONGEST_CONTEXT) -> bytes:
    """Return an exception as bytes, with those that it was raised after as far as they can be pickled."""
    earlier = error.__context__
    packed = None if earlier is None or not links else capture(_packed_error, earlier, links - 1)
    context = packed.value if isinstance(packed, Value) and len(packed.value) <= MAX_ERROR_BYTES // 2 else None
    return dumps((reduce_exception(error), context))


def _rebuilt(head: bytes) -> BaseException:
    content = pickle.loads(head)
    # Stores of earlier releases hold errors without what they were raised after.
    parts, context = content if isinstance(content[0], tuple) else (content, None)
    error = rebuild_exception(parts)
    if context is not None:
        earlier = capture(_rebuilt, context)
        error.__context__ = earlier.value if isinstance(earlier, Value) else None
    return error


def remote_error(error: BaseException) -> RemoteError:
    """Describe an exception in words: type, message, and traceback with its causes."""
    if isinstance(error, RemoteError):
        return error
    came_with = error.__cause__
    if error.__traceback__ is None and isinstance(came_with, RemoteError):  # raised in an isolated body
        return RemoteError(type(error).__name__, text_of(error), came_with.traceback)
    import traceback

    try:
        text = "".join(traceback.format_exception(error, limit=-30))
    except BaseException as broken:  # formatting calls __str__ of the user
        text = f"traceback cannot be formatted: {describe(broken)}"
    return RemoteError(type(error).__name__, text_of(error), shorten(text))


def encode_state(state: State, label: str, verify: bool = False) -> State:
    """Return the state as it leaves a process: the result in its envelope.

    A result that cannot be pickled makes the state Failed; an exception that cannot is replaced by a RemoteError. To
    `verify`, the bytes are unpickled once more, so that a result that cannot be fails where it was made.
    """
    refused, state = _encode_beside(state, label)
    if refused is not None:
        return refused
    result = state._raw_result
    if type(result) in SIMPLE or is_a(result, RemoteError):
        return state
    if is_a(result, Deferred):
        return _with_packed(state, result, label)
    if is_a(result, BaseException):
        return _with_error(state, result, label)
    if type(state) is Mapped:
        return state
    try:
        packed = encode(result, label)
        if is_a(packed, Encoded) and "distributed" in sys.modules and _LIVE.search(packed.head):
            raise TypeError(
                "the future or actor of Dask that it holds ends with the body that made it; return a computed value, "
                "or keep it by client.publish_dataset(...)"
            )
        if verify:
            pickle.loads(packed.head, buffers=packed.buffers)
        return state.replace(result=packed)
    except BaseException as error:  # pickling runs code of the user
        return _unpicklable("result", error, label)


def _encode_beside(state: State, label: str) -> tuple[State | None, State]:
    """Return the failure of a state that cannot leave a process for what it has beside its result, and the state."""
    if state._context:
        outcome = capture(_encode_loop, state, label)
        if isinstance(outcome, Error):
            return _unpicklable("loop result", outcome.exception, label), state
        state = outcome.value
    if _is_users_own(state):
        trial = capture(_round_trip, state)
        if isinstance(trial, Error):
            return _unpicklable("state", trial.exception, label), state
    return None, state


def _is_users_own(state: State) -> bool:
    """Whether a state has parts beside its result that a user made, and that may fail to leave the process."""
    if type(state).__module__ != State.__module__ or type(state.message) not in _TEXT:
        return True
    parts = [*(state._context or {}).values(), *(state._cached_inputs or {}).values()]
    return not all(type(part) in _PORTABLE for part in parts)


def _round_trip(state: State) -> None:
    pickle.loads(pickle.dumps((state.replace(result=None), getattr(state, "__dict__", None)), protocol=5))


def _with_packed(state: State, result: Deferred, label: str) -> State:
    packed = capture(result.packed, label)
    if isinstance(packed, Error):
        return _unpicklable("result", packed.exception, label)
    return state if packed.value is result else state.replace(result=packed.value)


def _unpicklable(what: str, error: BaseException, label: str) -> State:
    text = f"{what} of {label} could not be pickled: {type(error).__name__}: {text_of(error)}"
    return _with_error(Failed(text), error, label)


def _with_error(state: State, error: BaseException, label: str) -> State:
    packed = encode_error(error, label)
    if not isinstance(state, Failed):
        return state.replace(result=packed)
    text = packed.traceback if isinstance(packed, RemoteError) else packed.traceback_text
    return state.replace(result=packed, traceback=text)


def _encode_loop(state: State, label: str) -> State:
    """Put what a loop passes to its next turn into an envelope too."""
    value = state.context.get("task_loop_result")
    if type(value) in SIMPLE:
        return state
    return state.replace(context={**state.context, "task_loop_result": encode(value, label)})
