"""Calls that wait for a pool of processes: how many the pool has, and who overtakes whom."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool

import pytest

from prefectish.executors import process_queue
from prefectish.executors.pool_session import CallsAhead
from prefectish.executors.process_queue import ProcessQueue


class Pool:
    """Takes calls, and ends them when it is told to."""

    def __init__(self):
        self.open = []

    def hand_over(self, name):
        if name == "refused":
            raise BrokenProcessPool("a process died")
        future = Future()
        self.open.append((name, future))
        return future

    def end(self):
        name, future = self.open.pop(0)
        if future.cancelled():
            return self.end()
        future.set_result(name)
        return name


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(process_queue.time, "monotonic", lambda: now[0])
    return now


def queued(queue, names, first=None):
    ended = []
    for name in names:
        queue.submit(first, name).add_done_callback(lambda call: ended.append(call.result()))
    return ended


def queue_of(pool, size=2):
    return ProcessQueue(lambda fn: pool.hand_over(fn), size)


def test_pool_has_two_calls_for_each_process_of_those_that_take_long(clock):
    pool = Pool()
    ended = queued(queue_of(pool), range(20))
    for _ in range(10):
        assert len(pool.open) == 4
        clock[0] += 1.0
        pool.end()
    assert ended == list(range(10))


def test_calls_that_take_no_time_are_handed_over_together(clock):
    pool = Pool()
    ended = queued(queue_of(pool), range(200))
    most = 0
    while pool.open:
        most = max(most, len(pool.open))
        clock[0] += 0.0001
        pool.end()
    assert most == 16
    assert ended == list(range(200))


def test_pool_has_few_calls_again_once_they_take_long(clock):
    pool = Pool()
    queued(queue_of(pool), range(200))
    for _ in range(100):
        pool.end()
    for _ in range(60):
        clock[0] += 1.0
        pool.end()
    assert len(pool.open) == 4


def test_calls_that_go_first_overtake_those_that_wait(clock):
    pool = Pool()
    queue = queue_of(pool, size=1)
    queued(queue, range(5))
    ahead = CallsAhead(2)
    queued(queue, ["first", "second"], ahead)
    ahead.wait()
    names = []
    while pool.open:
        clock[0] += 1.0
        names.append(pool.open[0][0])
        pool.end()
    assert names == [0, 1, "first", "second", 2, 3, 4]


def grown(pool, size=2):
    """Return a queue that has given the pool as many calls as it gives at most, 16 for two processes."""
    queue = queue_of(pool, size)
    ended = queued(queue, range(100))
    while len(pool.open) < 8 * size:
        pool.end()
    return queue, ended


def test_calls_that_go_first_overtake_those_that_no_process_has(clock):
    pool = Pool()
    queue, ended = grown(pool)
    for _, future in pool.open[:5]:  # two run, and a pool has one more ready than it has processes
        future.set_running_or_notify_cancel()
    begun = [name for name, _ in pool.open[:5]]
    queued(queue, ["first", "second"], CallsAhead(2))
    order = []
    while pool.open:
        clock[0] += 1.0
        order.append(pool.end())
    assert order == [*begun, "first", "second", *range(begun[-1] + 1, 100)]
    assert ended == list(range(100))


def test_calls_that_are_taken_back_again_and_again_end_once(clock):
    pool = Pool()
    queue, ended = grown(pool)
    firsts = []
    for number in range(100, 120):
        firsts += [queued(queue, [number], CallsAhead(1))]
        pool.end()
    while pool.open:
        pool.end()
    assert sorted(ended) == list(range(100))
    assert firsts == [[number] for number in range(100, 120)]


def test_pool_that_was_idle_has_few_calls_again(clock):
    pool = Pool()
    queue, _ = grown(pool)
    while pool.open:
        pool.end()
    queued(queue, range(20))
    for _ in range(10):
        assert len(pool.open) == 4
        clock[0] += 1.0
        pool.end()


def test_call_that_the_pool_itself_cancels_has_ended(clock):
    pool = Pool()
    queue = queue_of(pool)
    ended = []
    call = queue.submit(None, 1)
    call.add_done_callback(ended.append)
    pool.open[0][1].cancel()
    assert ended == [call]
    with pytest.raises(CancelledError):
        call.result()


def test_call_that_pool_refuses_raises_and_holds_no_place(clock):
    pool = Pool()
    queue = queue_of(pool, size=1)
    call = queue.submit(None, "refused")
    ended = []
    call.add_done_callback(ended.append)
    assert ended == [call]
    with pytest.raises(BrokenProcessPool):
        call.result()
    queued(queue, range(5))
    assert len(pool.open) == 2
