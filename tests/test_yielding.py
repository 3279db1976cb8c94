"""How what a generator yields is sent, without a run."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from prefectish.engine.capture import Error, Value
from prefectish.engine.context import bind, unbind
from prefectish.engine.jobs.envelope import Encoded
from prefectish.engine.worker import yielding
from prefectish.engine.worker.body_progress import OWNER
from prefectish.engine.worker.yielding import Receiver, collected, receivers
from prefectish.process_tree import process_id


class Attempt(dict):
    """A context of an attempt, as far as it is read."""

    def __init__(self, run, measure=1, mapped=False):
        super().__init__()
        self.run = run
        self.index = -1
        self.is_timed, self.allowance = False, None
        self.spec = SimpleNamespace(measure=measure, mapped=mapped, number=3, limit=None, label_of=lambda index: "read")

    @property
    def attempt(self):
        return self


def run_in(attempt, generator):
    token = bind(attempt)
    try:
        return collected(generator)
    finally:
        unbind(token)


@pytest.fixture
def taken():
    sent = []
    receivers["here"] = Receiver(sent.append, -1)
    yield sent
    del receivers["here"]


HERE = {"flow_run_id": "here", OWNER: process_id()}


def items_of(sent):
    return [item for yielded in sent for item in yielded.items]


def test_items_are_sent_in_order_and_all_of_them_are_the_result(taken):
    outcome = run_in(Attempt(HERE), (n for n in range(2000)))
    assert outcome.value == list(range(2000))
    assert items_of(taken) == list(range(2000))
    assert [y.first for y in taken] == [sum(len(b.items) for b in taken[:n]) for n in range(len(taken))]
    assert len(taken) < 20


def test_item_does_not_wait_for_the_next_one(taken):
    def slow():
        yield 1
        yield 2
        end = time.monotonic() + 30
        while items_of(taken) != [1, 2] and time.monotonic() < end:
            threading.Event().wait(0.01)
        yield len(items_of(taken))

    assert run_in(Attempt(HERE), slow()).value == [1, 2, 2]


def test_items_before_an_error_are_sent(taken):
    def broken():
        yield 1
        raise ValueError("broken")

    outcome = run_in(Attempt(HERE), broken())
    assert isinstance(outcome, Error)
    assert items_of(taken) == [1]


@pytest.mark.parametrize("options", [{"measure": 0}, {"mapped": True}], ids=["whole", "child"])
def test_nothing_is_sent_that_is_not_mapped_over(taken, options):
    assert run_in(Attempt(HERE, **options), iter_of(1, 2)).value == [1, 2]
    assert taken == []


def iter_of(*items):
    yield from items


def test_items_leave_the_process_in_envelopes_up_to_one_that_is_large():
    sent = []
    run = {"flow_run_id": "there", OWNER: "elsewhere", yielding.SENDER: lambda run_id: sent.append}
    outcome = run_in(Attempt(run), iter_of(1, [2], "x" * (yielding.LARGEST + 1), 4))
    assert isinstance(outcome, Value)
    assert len(outcome.value) == 4
    first, second = items_of(sent)
    assert (first, type(second)) == (1, Encoded)


def test_without_a_way_to_send_a_list_is_made():
    assert run_in(Attempt({"flow_run_id": "there", OWNER: "elsewhere"}), iter_of(1)).value == [1]
    assert collected(iter_of(1)).value == [1]


@pytest.mark.parametrize("limit", [{"is_timed": True}, {"allowance": object()}], ids=["run", "task"])
def test_loop_does_not_turn_under_a_time_limit(limit):
    sent = []
    receivers["here"] = Receiver(sent.append, threading.get_ident())
    try:
        attempt = Attempt(HERE)
        assert run_in(attempt, iter_of(1)).value == [1]
        vars(attempt).update(limit)
        assert run_in(attempt, iter_of(2)).value == [2]
    finally:
        del receivers["here"]
    assert items_of(sent) == [1]
