"""The caller of an isolated body, by values: what it sends, and what it makes of the frames that come back."""

from __future__ import annotations

import logging
import pickle
import signal
import threading
from types import SimpleNamespace

import pytest

from prefectish import task
from prefectish.engine.signals import FAIL
from prefectish.engine.state import Crashed
from prefectish.engine.worker.attempt_context import KILLED_PROCESS
from prefectish.engine.worker.isolation import frames, parent


@pytest.fixture
def call():
    """Return an isolated call whose process was never started."""
    made = object.__new__(parent._IsolatedCall)
    made.ctx = {"logger": logging.getLogger("prefectish.sum[3]"), "task_full_name": "sum[3]"}
    made.began, made.ended, made.answer = threading.Event(), threading.Event(), None
    return made


def test_frames_set_what_is_waited_for(call):
    call._take(frames.BEGAN, b"")
    assert (call.began.is_set(), call.ended.is_set(), call.answer) == (True, False, None)
    call._take(frames.ENDED, b"answer")
    assert (call.ended.is_set(), call.answer) == (True, b"answer")


def test_prints_and_records_come_out_here(call, capsys, caplog):
    call._take(frames.PRINTED, pickle.dumps(("stderr", "printed\n")))
    assert capsys.readouterr().err == "printed\n"
    with caplog.at_level(logging.INFO, "elsewhere"):
        record = logging.makeLogRecord({"name": "elsewhere", "levelno": logging.INFO, "msg": "logged"})
        call._take(frames.LOGGED, pickle.dumps(record.__dict__))
    assert caplog.messages == ["logged"]


def test_frame_that_cannot_be_shown_ends_nothing(call):
    call._take(frames.PRINTED, pickle.dumps(("no such stream", "text")))
    assert not call.ended.is_set()


@pytest.mark.parametrize(
    ("code", "text"),
    [(7, "process died while running sum-1[3]: exit code 7"), (-signal.SIGSEGV, "signal 11")],
)
def test_death_is_a_crash_with_its_evidence(code, text):
    state = parent._died("sum-1[3]", SimpleNamespace(pid=42, returncode=code))
    assert type(state) is Crashed
    assert text in state.message
    assert (state.cause, state.evidence["pid"]) == (KILLED_PROCESS, 42)


def test_what_cannot_be_pickled_is_named():
    names = {"x": "argument 'x' of sum-1", "y": "argument 'y' of sum-1"}
    with pytest.raises(parent._Unpackable, match="argument 'y' of sum-1 could not be pickled: TypeError"):
        parent._packed({"x": 1, "y": threading.Lock()}, None, names)


def test_task_is_sent_without_what_only_the_engine_reads():
    whole = task(lambda x: x, name="sum", state_handlers=[print], tags=["a"])
    bare = parent._without_engine_options(whole)
    assert type(bare) is type(whole)
    assert (bare.name, bare.tags, "state_handlers" in bare.__dict__) == ("sum", {"a"}, False)
    assert whole.state_handlers == [print]


def test_context_is_sent_without_its_logger_and_what_cannot_be_pickled():
    sent = parent._portable({"logger": "a logger", "name": "sum", "lock": threading.Lock()})
    assert pickle.loads(sent) == {"name": "sum"}


def test_error_in_an_envelope_is_opened():
    assert type(parent._opened(pickle.dumps(("error", FAIL("no")))).exception) is FAIL


def test_levels_that_loggers_have_themselves_are_sent():
    logging.getLogger("quiet").setLevel(logging.ERROR)
    try:
        levels = parent._levels()
    finally:
        logging.getLogger("quiet").setLevel(logging.NOTSET)
    assert levels["quiet"] == logging.ERROR
    assert levels[""] == logging.root.level
