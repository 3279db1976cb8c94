"""Rows that take no time run several in one turn of the loop in this process; what follows from one waits for it."""

from __future__ import annotations

import os
import signal

import pytest
from jobs import jobs_of
from owner import Owner, labels, named

from prefectish import Flow, task
from prefectish.engine.driver.inline import PAGE_SECONDS, LocalExecutor, SerialSession
from prefectish.engine.jobs.job import Receipt, Record
from prefectish.engine.scheduling.admission import QUICK_ROW, ROWS_AT_ONCE
from prefectish.engine.state import Failed, Success


def session_of(count, ends):
    """Return a session with so many jobs, whose records are given."""
    with Flow("page") as flow:
        named("load").map(list(range(count)))
    session = SerialSession(lambda job: [(0, ends[job.index])])
    session.submit(jobs_of(flow)[1])
    return session


def indexes(receipts):
    return [receipt.job.index for receipt in receipts]


def test_jobs_that_take_no_time_have_their_receipts_together():
    assert indexes(session_of(5, [Record(Success())] * 5).receipts(None)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("record", [Record(Failed("it failed")), Record(Success(), seconds=2 * PAGE_SECONDS)])
def test_failure_and_time_end_a_page(record):
    session = session_of(5, [Record(Success()), record, *[Record(Success())] * 3])
    assert indexes(session.receipts(None)) == [0, 1]
    assert indexes(session.receipts(None)) == [2, 3, 4]


def test_request_ends_a_page():
    session = session_of(3, [Record(Success())] * 3)
    session.wake()
    assert indexes(session.receipts(None)) == [0]
    assert indexes(session.receipts(None)) == [1, 2]


def test_what_has_ended_before_an_interrupt_has_its_receipts():
    session = session_of(3, [])
    ended = [Record(Success())]

    def run(job):
        if job.index == 1:
            raise KeyboardInterrupt
        return [(0, ended[0])]

    session._run = run
    assert indexes(session.receipts(None)) == [0]
    with pytest.raises(KeyboardInterrupt):
        session.receipts(None)


def test_interrupted_run_keeps_the_states_of_all_that_ended():
    done = []

    @task
    def load(x):
        if x == 40:
            os.kill(os.getpid(), signal.SIGINT)
        done.append(x)

    with Flow("interrupted") as flow:
        loaded = load.map(list(range(60)))
    with pytest.raises(KeyboardInterrupt) as raised:
        flow.run(executor=LocalExecutor(), history=False)
    states = raised.value.state.result[loaded].map_states
    assert [index for index, state in enumerate(states) if state.is_successful()] == done == list(range(40))


def rows_at_once(make, seconds):
    """Return how many rows start after the first one took so many seconds, where one job runs at a time."""
    with Flow("rows") as flow:
        make()
    owner = Owner(flow, window=1, in_order=True)
    (job,) = owner.start()
    return len(owner.advance(receipt(job, seconds)))


def receipt(job, seconds):
    return Receipt(job, [(p, Record(Success(None, name), seconds)) for p, name in enumerate(labels(job))])


def many(**options):
    return named("load", **options).map(list(range(100)))


@pytest.mark.parametrize(
    ("make", "seconds", "rows"),
    [
        (many, 0.0, ROWS_AT_ONCE),
        (many, 2 * QUICK_ROW, 1),
        (lambda: many(on_child_failure="stop"), 0.0, 1),
        (lambda: many(max_failures=3), 0.0, 1),
        (lambda: many(max_concurrency=2), 0.0, 1),
        (lambda: named("load").map(iter(range(100))), 0.0, 1),
        (lambda: named("second", max_concurrency=9).map(many()), 0.0, 1),
        (lambda: named("total")(many()), 0.0, ROWS_AT_ONCE),
    ],
)
def test_rows_start_together_if_none_decides_what_follows(make, seconds, rows):
    assert rows_at_once(make, seconds) == rows


def test_other_executors_fill_the_window_and_no_more():
    with Flow("window") as flow:
        many()
    assert len(Owner(flow, window=40).start()) == 40
