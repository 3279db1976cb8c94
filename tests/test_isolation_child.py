"""The process of an isolated body, by values: what it answers, prints and logs, written to a buffer."""

from __future__ import annotations

import io
import logging
import pickle
import threading
from contextvars import copy_context

import pytest

from prefectish import Task, context
from prefectish.engine.capture import Error, Value
from prefectish.engine.signals import FAIL
from prefectish.engine.worker.isolation import child, frames
from prefectish.engine.worker.isolation.parent import _opened


class Sum(Task):
    def run(self, x, y):
        return x + y + context.get("offset", 0)


class Refuses:
    """Cannot be unpickled."""

    def __reduce__(self):
        return divmod, (1, 0)


@pytest.fixture
def sink():
    return io.BytesIO()


@pytest.fixture
def pipe(sink):
    return child._ParentPipe(sink)


def said(sink):
    sink.seek(0)
    found = []
    while (frame := frames.read(sink)) is not None:
        found.append(frame)
    return found


def called(pipe, monkeypatch, inputs, by_position=(), **facts):
    monkeypatch.setattr(child, "refuse_debuggers", lambda: None)
    request = {
        "body": pickle.dumps(Sum()),
        "inputs": pickle.dumps(inputs),
        "context": pickle.dumps(facts),
        "label": "sum-1[3]",
        "logger": ("sum", 3),
        "by_position": by_position,
    }
    return copy_context().run(child._call, pipe, request)


def test_body_is_called_with_its_context_and_its_begin_is_reported(pipe, sink, monkeypatch):
    outcome = called(pipe, monkeypatch, {"x": 1, "y": 2}, offset=10)
    assert type(outcome) is Value
    assert outcome.value == 13
    assert said(sink) == [(frames.BEGAN, b"")]


def test_arguments_are_given_by_position_where_they_were(pipe, monkeypatch):
    assert called(pipe, monkeypatch, {"x": 1, "y": 2}, by_position=("x", "y")).value == 3


def test_argument_that_cannot_be_opened_is_a_failure_before_the_begin(pipe, sink, monkeypatch):
    outcome = called(pipe, monkeypatch, {"x": Refuses(), "y": 2})
    assert type(outcome) is Error
    text = "an argument of sum-1[3] could not be unpickled in its process: ZeroDivisionError"
    assert isinstance(outcome.exception, FAIL)
    assert str(outcome.exception).startswith(text)
    assert said(sink) == []


def test_answer_is_read_where_the_flow_runs():
    value = _opened(child._answer(Value([1, 2]), "sum-1"))
    assert value.value.get() == [1, 2]
    error = _opened(child._answer(Error(KeyError("a")), "sum-1"))
    assert type(error.exception) is KeyError
    assert error.exception.args == ("a",)


def test_signal_is_answered_as_it_is():
    error = _opened(child._answer(Error(FAIL("no", result=[1])), "sum-1"))
    assert type(error.exception) is FAIL
    assert error.exception.state.result == [1]


def test_result_that_cannot_be_pickled_is_answered_as_a_failure():
    error = _opened(child._answer(Value(threading.Lock()), "sum-1"))
    assert str(error.exception).startswith("result of sum-1 could not be pickled: TypeError")


def test_prints_are_sent_line_by_line(pipe, sink):
    stream = child._Printed(pipe, "stdout", 1)
    print("a", "b", file=stream)
    print("no end", end="", file=stream)
    assert stream.writable()
    assert [(kind, pickle.loads(content)) for kind, content in said(sink)] == [(frames.PRINTED, ("stdout", "a b\n"))]
    stream.flush()
    assert pickle.loads(said(sink)[1][1]) == ("stdout", "no end")


def test_log_record_is_sent_as_text_without_what_cannot_be_pickled(pipe, sink):
    record = logging.LogRecord("mine", logging.INFO, "file.py", 1, "%s of %s", (1, 2), None)
    record.lock = threading.Lock()
    record.plain = "kept"
    child._Sender(pipe).emit(record)
    ((kind, content),) = said(sink)
    fields = pickle.loads(content)
    assert (kind, fields["msg"], fields["plain"]) == (frames.LOGGED, "1 of 2", "kept")
    assert "lock" not in fields
