"""Values that are elsewhere: every class that stands for a value where the value is not.

Most are :class:`~prefectish.engine.state.Deferred`: a state holds one as its result, and reading ``state.result`` calls
``get``. The classes that are defined in other modules are listed too.

======================  ==========================  ============================  =============================  ==================
class                   where the value is          who makes it                  who resolves it                what it pickles to
======================  ==========================  ============================  =============================  ==================
Encoded, EncodedError   here, as bytes              envelope.encode, where a      ``get``, once in each process  the bytes; buffers
(envelope)                                          value leaves its process                                     are not copied
Stored                  in a result store           worker.storage, after the     ``get`` reads the file, once   store and place, a
(worker.storage)                                    body                          in each process                small value too
LazySecret              nowhere: it is computed     secrets.lazy, for what is     ``get``, once in each process  function, inputs
(secrets.lazy)                                      made of secrets
Held                    on a worker                 ClusterSession, for a large   ``get`` fetches it; Packer     never pickled
                                                    result                        makes a ResultRef of it
BatchPart               in a Batch on a worker      ClusterSession, as the        ClusterSession: a task takes   never pickled
(executors.session)                                 handle of a Held              it out of the batch
LeftOnWorker            where its record was made   wire.execute, lower.weigh     ClusterSession makes a Held    a number
ResultRef               beside a call               wire.pack.Packer              wire.execute.substitute        a number
UpstreamRef             beside a call, with its     wire.pack.Packer, for an      wire.execute.substitute        a number
                        whole state                 Upcoming
Upcoming (job)          nowhere yet: another job    functions.calls, for a call   Packer makes an UpstreamRef    never pickled
                        makes it                    that follows an open one      of it
Discarded               nowhere                     wire.execute, for a large     nothing: ResultReleased        label and size
                                                    result of an earlier step
Unpicklable             at the client               wire.pack, for an input       nothing: PrefectishError       names and reason
RecordedResult          in the history              history.recorded_states, for  ``get`` reads the states       the row of the run
(history)                                           a run of another process
Gone                    nowhere                     history.resume, for what was  nothing: ResultReleased        label
                                                    not stored
Pick (job)              in the value of a state     scheduling, for an item of a  worker.run_steps               state and position
                                                    value that is not here
Slot (slots)            in another input            functions.arguments           worker.decide, fill_slots      a name
======================  ==========================  ============================  =============================  ==================
"""  # noqa: E501  a table

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefectish.engine.context import current
from prefectish.engine.deferred import Deferred
from prefectish.engine.jobs.struct import Struct
from prefectish.errors import PrefectishError, ResultReleased, text_of
from prefectish.kinds import is_a
from prefectish.slugs import child_label


class Held(Deferred):
    """A result that is on a worker. Reading it fetches it; after its release reading it is an error."""

    __slots__ = ("__weakref__", "_fetch", "_reason", "_value", "handle", "label", "nbytes")

    def __init__(self, label: str, nbytes: int, handle: Any, fetch: Callable[[Any], Any]) -> None:
        self.label = label  # the child that made it, for errors
        self.nbytes = nbytes  # its size in bytes
        self.handle = handle  # what the session finds it by; the value is released with the handle
        self._fetch = fetch
        self._reason = "it was released after its last consumer ran"
        self._value: Any = None

    def get(self) -> Any:
        """Fetch the value and return it; it is not kept here. Raises ResultReleased after its release."""
        value = self._value
        if value is None:
            if self.handle is None:
                raise ResultReleased(
                    f"result of {self.label} ({self.nbytes} bytes) cannot be read: {self._reason}; pass "
                    f"keep_results=True, or a list of tasks, to flow.run, or a client of your own to the executor"
                )
            value = self._fetch(self.handle)
        return value.get() if is_a(value, Deferred) else value

    @property
    def is_here(self) -> bool:
        """Whether the value can be read without what made it: it was fetched."""
        return self._value is not None

    def peek(self) -> Any:
        """Return the value and keep it here; it stays on its worker for other readers."""
        if self._value is None and self.handle is not None:
            self._value = self._fetch(self.handle)
        return self.get()

    def held_again(self) -> Held | None:
        """Return another reference to the value, which is released when both are; None if it was released."""
        if self.handle is None and self._value is None:
            return None
        other = Held(self.label, self.nbytes, self.handle, self._fetch)
        other._value = self._value
        return other

    def fetch(self) -> None:
        """Fetch the value, keep it here and release it there."""
        self._value = self._fetch(self.handle)
        self.handle = None

    def release(self, reason: str | None = None) -> None:
        """Release the value; reading it raises ResultReleased for this reason."""
        self.handle = None
        self._reason = reason or self._reason

    def __repr__(self) -> str:
        return f"<{'released' if self.handle is None else 'held'} result of {self.label}, {self.nbytes} bytes>"


class ResultRef(Struct, Deferred):
    """Stands for a value that is sent beside the call."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def get(self) -> Any:
        """Refuse: a value takes its place before anything reads it."""
        raise AssertionError(f"reference {self.number} was read before its value was put in its place")


class UpstreamRef(Struct):
    """Stands for the state that another call made, which is sent beside this one."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class Discarded(Struct, Deferred):
    """Stands for a large result of an earlier step that no task outside its branch reads; it was not sent."""

    __slots__ = ("label", "nbytes")

    def __init__(self, label: str, nbytes: int) -> None:
        self.label = label
        self.nbytes = nbytes

    @property
    def is_here(self) -> bool:
        """Whether the value can be read without what made it: never."""
        return False

    def get(self) -> Any:
        """Refuse, and name the option that keeps the result."""
        raise ResultReleased(
            f"result of {self.label} ({self.nbytes} bytes) was not kept: no task outside its branch reads it; "
            f"pass keep_results=True (or a list of tasks) to flow.run to keep it"
        )


class LeftOnWorker(Struct):
    """Stands for a large result in a record that was sent without it."""

    __slots__ = ("nbytes",)

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


class Unpicklable(Struct, Deferred):
    """Stands for an input that cannot be pickled: the child that reads it fails, and says why."""

    __slots__ = ("label", "name", "reason")

    def __init__(self, name: str, label: str, reason: BaseException | str) -> None:
        self.name = name
        self.label = label
        self.reason = f"{type(reason).__name__}: {text_of(reason)}" if isinstance(reason, BaseException) else reason

    def get(self) -> Any:
        """Refuse: raise the error that says why."""
        index = current().get("map_index")
        label = child_label(self.label, index)
        raise PrefectishError(f"argument {self.name!r} of {label} could not be pickled: {self.reason}")


class Gone(Struct, Deferred):
    """Stands for a result of an earlier part of a resumed run that was not stored, or cannot be read any more."""

    __slots__ = ("label",)

    def __init__(self, label: str) -> None:
        self.label = label

    @property
    def is_here(self) -> bool:
        """Whether the value can be read without what made it: never."""
        return False

    def get(self) -> Any:
        """Refuse, and name the option that keeps the result."""
        raise ResultReleased(
            f"result of {self.label} was made before the run was resumed, and was not stored; "
            f"give the flow a result store"
        )
