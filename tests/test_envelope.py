"""The envelope: values, exceptions and states as bytes."""

from __future__ import annotations

import pickle
import threading

import pytest

from prefectish.engine.jobs import envelope
from prefectish.engine.jobs.envelope import (
    Encoded,
    EncodedError,
    encode,
    encode_error,
    encode_state,
    remote_error,
)
from prefectish.engine.state import Failed, Looped, Success
from prefectish.errors import RemoteError, ResultUnpickleError


class BreaksWhenLoaded:
    def __reduce__(self):
        return int, ("no number",)


class Buffered:
    """A value whose pickle has a buffer out of band."""

    def __init__(self, content):
        self.content = content

    def __reduce_ex__(self, protocol):
        return Buffered, (pickle.PickleBuffer(self.content) if protocol >= 5 else self.content,)


def sent(value, protocol=5):
    """Return a value as another process receives it."""
    buffers = []
    if protocol < 5:
        return pickle.loads(pickle.dumps(value, protocol=protocol))
    return pickle.loads(pickle.dumps(value, protocol=5, buffer_callback=buffers.append), buffers=buffers)


@pytest.mark.parametrize("value", [None, True, 5, 2.5, 1j, "text", b"bytes"])
def test_simple_values_are_sent_as_they_are(value):
    assert encode(value, "x") is value


def test_subclass_of_a_simple_type_is_sent_in_an_envelope():
    class Name(str):
        pass

    assert type(encode(Name("a"), "x")) is Encoded


@pytest.mark.parametrize("protocol", [4, 5])
def test_value_is_the_same_in_another_process(protocol):
    packed = encode({"a": [1, 2]}, "load-1")
    there = sent(packed, protocol)
    assert there.get() == {"a": [1, 2]}
    assert (there.label, there.nbytes) == ("load-1", packed.nbytes)


@pytest.mark.parametrize("protocol", [4, 5])
def test_buffers_are_sent_beside_the_pickle_and_counted(protocol):
    packed = encode(Buffered(b"x" * 1000), "load-1")
    assert b"xx" not in packed.head
    assert packed.nbytes == len(packed.head) + 1000
    assert bytes(sent(packed, protocol).get().content) == b"x" * 1000


def test_value_is_unpickled_once_in_a_process():
    there = sent(encode([1], "load-1"))
    assert there.get() is there.get()


@pytest.mark.parametrize("keep", [True, False])
def test_live_object_is_kept_for_readers_in_this_process_only_if_asked(keep):
    value = [1]
    packed = encode(value, "load-1", keep=keep)
    assert (packed.get() is value) is keep


def test_value_that_cannot_be_unpickled_raises_for_its_reader():
    there = sent(encode(BreaksWhenLoaded(), "load-1[3]"))
    with pytest.raises(ResultUnpickleError, match=r"upstream load-1\[3\] could not be unpickled on the worker: Value"):
        there.get()


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return caught


def test_exception_arrives_with_the_text_of_its_traceback():
    there = sent(encode_error(raised(KeyError("a")), "load-1"))
    assert type(there) is EncodedError
    assert repr(there.get()) == "KeyError('a')"
    assert isinstance(there.get().__cause__, RemoteError)
    assert "in raised" in there.traceback_text


def test_exception_that_cannot_be_pickled_is_sent_as_text():
    packed = encode_error(raised(ValueError(threading.Lock())), "load-1")
    assert isinstance(packed, RemoteError)
    assert str(packed).startswith("ValueError")


def test_exception_that_is_too_large_is_sent_as_text(monkeypatch):
    monkeypatch.setattr(envelope, "MAX_ERROR_BYTES", 100)
    assert isinstance(encode_error(raised(ValueError("x" * 200)), "load-1"), RemoteError)


def test_exception_whose_text_raises_is_described():
    class Silent(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    assert remote_error(raised(Silent())).traceback


def test_state_of_a_result_that_cannot_be_pickled_is_failed():
    state = encode_state(Success(None, threading.Lock()), "load-1[2]")
    assert state.is_failed()
    assert state.message.startswith("result of load-1[2] could not be pickled: TypeError")


@pytest.mark.parametrize("verify", [False, True])
def test_result_that_cannot_be_unpickled_fails_where_it_was_made_under_verify(verify):
    state = encode_state(Success(None, BreaksWhenLoaded()), "load-1", verify)
    assert state.is_failed() is verify


def test_failed_state_carries_its_exception_and_traceback():
    there = sent(encode_state(Failed("no", raised(KeyError("a"))), "load-1"))
    assert repr(there.result) == "KeyError('a')"
    assert "in raised" in there.traceback


def test_what_a_loop_passes_on_is_in_an_envelope():
    state = encode_state(Looped("again", None, context={"task_loop_result": [1]}), "load-1")
    assert type(state.context["task_loop_result"]) is Encoded


def test_simple_result_leaves_the_state_as_it_is():
    state = Success(None, 5)
    assert encode_state(state, "load-1") is state
