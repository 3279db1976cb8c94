"""Requests on their way to a run, without a run."""

from __future__ import annotations

import threading

import pytest

from prefectish.engine.capture import Error, Value
from prefectish.engine.driver.control import (
    Approve,
    CancelRun,
    CancelTask,
    Mailbox,
    PauseRun,
    Reply,
    ResumeRun,
    RunControl,
    SetTagLimit,
    carry_out,
)


def test_requests_are_delivered_in_their_order() -> None:
    mailbox = Mailbox()
    mailbox.post(PauseRun())
    mailbox.post_later(SetTagLimit("net", 2))
    mailbox.post(ResumeRun())
    assert mailbox.requests
    seen: list[object] = []
    mailbox.deliver(seen.append)
    assert [type(request) for request in seen] == [PauseRun, SetTagLimit, ResumeRun]
    assert not mailbox.requests


def test_request_ends_the_wait_for_receipts_at_once_or_in_its_own_time() -> None:
    mailbox, woken = Mailbox(), []
    mailbox.connect(lambda: woken.append("woken"))
    mailbox.post_later(CancelRun())
    assert woken == []
    mailbox.post(CancelRun())
    assert woken == ["woken"]


def test_request_that_came_before_the_wait_ends_it() -> None:
    mailbox = Mailbox()
    mailbox.post(PauseRun())
    mailbox.idle(60)  # returns at once
    assert mailbox


def test_answer_is_known_to_the_thread_that_waits() -> None:
    mailbox, good, bad = Mailbox(), Reply(), Reply()
    mailbox.post(Approve("load", None, "yes"), good)
    mailbox.post(Approve("other", None, "yes"), bad)

    def act(request: Approve) -> bool:
        if request.slug == "other":
            raise ValueError("not paused")
        return True

    threading.Thread(target=mailbox.deliver, args=(act,)).start()
    assert good.known.wait(60)
    assert bad.known.wait(60)
    assert isinstance(good.answer, Value)
    assert good.answer.value is True
    assert isinstance(bad.answer, Error)
    assert str(bad.answer.exception) == "not paused"


def test_requests_are_frozen_and_tell_what_they_ask_for() -> None:
    request = CancelTask("load-1", 3)
    with pytest.raises(AttributeError):
        request.row = 4  # type: ignore[misc]
    assert repr(request) == "CancelTask(slug='load-1', row=3)"


def test_other_values_are_no_requests() -> None:
    with pytest.raises(TypeError, match="request must be one of"):
        carry_out("stop", None, None)  # type: ignore[arg-type]


def test_run_has_begun_once_it_has_tables() -> None:
    control, woken = RunControl(), []
    assert not control.begun.is_set()
    control.begin("tables", lambda: woken.append(1))  # type: ignore[arg-type]
    control.mailbox.wake()
    assert (control.begun.is_set(), control.progress, woken) == (True, "tables", [1])
