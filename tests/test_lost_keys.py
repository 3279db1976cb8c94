"""Which results the watch over a cluster gives up that the scheduler cannot fetch from their workers."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest

from prefectish.executors.lost_keys import LossWatch, NoAnswer, SchedulerLost

KEY, OTHER = ("make-1-run", 3, 0), ("make-1-run", 4, 0)


def watch():
    return LossWatch(None, "run", 10, None)


def test_result_that_cannot_be_fetched_for_long_is_given_up_and_told_of_once(caplog):
    watching = watch()
    assert watching.unread({KEY: ["tcp://a:1"]}, 100) == {}
    assert watching.unread({KEY: ["tcp://a:1"], OTHER: ["tcp://a:1"]}, 109) == {}
    lost = watching.unread({KEY: ["tcp://a:1"], OTHER: ["tcp://a:1"]}, 110)
    assert list(lost) == [KEY]
    assert lost[KEY].cause == "cluster-error"
    assert lost[KEY].detail == "for 10 s the scheduler could not connect to tcp://a:1, which has its result"
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert said == ["the scheduler cannot connect to tcp://a:1, which has the result of make-1[3]"]


def test_result_that_was_lost_with_its_worker_is_waited_for(caplog):
    watching = watch()
    assert watching.unread({KEY: []}, 100) == watching.unread({KEY: []}, 200) == {}
    assert not caplog.records


def test_result_that_was_computed_anew_elsewhere_has_its_own_time():
    watching = watch()
    watching.unread({KEY: ["tcp://a:1"]}, 100)
    assert watching.unread({KEY: ["tcp://b:1"]}, 115) == {}
    assert list(watching.unread({KEY: ["tcp://b:1"]}, 125)) == [KEY]


class Answer:
    """What a cluster gives to a question: a value, or nothing for ever."""

    def __init__(self, value=None):
        self.value = value

    def result(self, timeout):
        if self.value is None:
            threading.Event().wait(min(timeout, 0.01))
            raise TimeoutError
        return self.value

    def done(self):
        return self.value is not None

    def cancel(self):
        self.value = None


class Connection:
    """A cluster of which the first question hangs on a worker, and whose scheduler answers others, or does not."""

    client = SimpleNamespace(status="connecting")

    def __init__(self, answers):
        self.left = [Answer()]
        self.answers = answers

    def begin(self, question):
        question.close()
        return self.left.pop() if self.left else Answer("summary" if self.answers else None)


async def question():
    """Ask for nothing."""


@pytest.mark.parametrize(
    ("answers", "limit", "raised"), [(True, 0.3, NoAnswer), (False, 0.3, SchedulerLost), (True, None, SchedulerLost)]
)
def test_question_that_hangs_on_a_worker_is_no_silence_of_the_scheduler(answers, limit, raised):
    watching = LossWatch(Connection(answers), "run", 0.05, None)
    with pytest.raises(raised):
        watching.wait(question(), limit)
