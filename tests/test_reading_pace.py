"""When a session on a cluster reads what is done, by values; without a cluster."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from prefectish.executors.reading_pace import MAX_STOP_WAIT, ReadingPace


def keys(count, position=0, index=0):
    job = SimpleNamespace(index=index)
    return {
        number: SimpleNamespace(position=position, jobs=[job], future=f"future {number}") for number in range(count)
    }


class Waits:
    """Notes how long is waited, and for what."""

    def __init__(self):
        self.slept = []
        self.waited = []

    def sleep(self, seconds):
        self.slept.append(seconds)

    def wait_any(self, futures, seconds, waker):
        self.waited.append((futures, seconds))


@pytest.fixture
def waits():
    return Waits()


@pytest.fixture
def pace(waits):
    return ReadingPace(waits, waits, threads=2)


def test_few_of_many_children_wait_for_more_of_their_group(pace):
    opened = keys(400)
    assert not pace.is_time([1], opened, 10.0)
    assert not pace.is_time([1, 2], opened, 10.3)
    assert pace.is_time([1, 2], opened, 10.5), "a millisecond for each open key is over"
    assert not pace.is_time([3], opened, 10.6), "the next group waits anew"


def test_quarter_of_the_children_is_a_group(pace):
    assert pace.is_time(range(101), keys(400), 10.0)


def test_many_are_a_group_whatever_is_open(pace):
    assert pace.is_time(range(250), keys(100_000), 10.0)


def test_groups_of_a_wide_cluster_are_larger_for_all_its_workers_are_asked(waits):
    pace = ReadingPace(waits, waits, threads=64)
    assert not pace.is_time(range(1_023), keys(100_000), 10.0)
    assert pace.is_time(range(1_024), keys(100_000), 10.0)
    assert pace.is_time(range(101), keys(400), 10.1), "a quarter of what is open is a group there, too"


@pytest.mark.parametrize("what", [{"position": None}, {"index": -1}])
def test_batch_and_single_task_are_read_at_once(pace, what):
    assert pace.is_time([1], keys(400, **what), 10.0)


def test_map_that_a_failure_stops_is_read_sooner(pace):
    pace.wait_at_most(MAX_STOP_WAIT)
    opened = keys(400)
    assert not pace.is_time([1], opened, 10.0)
    assert pace.is_time([1], opened, 10.0 + 2 * MAX_STOP_WAIT)


def test_few_keys_are_waited_for_and_many_are_polled(pace, waits):
    pace.pause(keys(2), None, 10.0)
    pace.pause(keys(400), None, 10.0)
    pace.pause({}, 10.1, 10.0)
    assert waits.waited == [(["future 0", "future 1"], 0.5)]
    assert waits.slept == [pytest.approx(0.01), pytest.approx(0.1)]
