"""The jobs of open rows: what is submitted, what waits, what is taken, without an executor."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from owner import BEGINNING, Owner, labels, named

from prefectish import Flow
from prefectish.engine.jobs.job import Receipt, Record
from prefectish.engine.scheduling.rows import slowest_children
from prefectish.engine.state import Failed, Pending, Retrying, Scheduled, Success
from prefectish.engine.worker.attempt_context import attempt_number


def two_steps(**options):
    with Flow("two") as flow:
        named("second").map(named("first", **options).map([0, 1]))
    return flow


def row_of(owner, row=0):
    chain = owner.progress.run_state.find("first-1").chain
    return chain, chain.open_rows[row]


def test_row_is_submitted_as_one_job_of_all_its_steps():
    owner = Owner(two_steps())
    jobs = owner.start()
    assert [labels(job) for job in jobs] == [["first[0]", "second[0]"], ["first[1]", "second[1]"]]
    _, row = row_of(owner)
    assert (row.submitted, row.final, row.waiting, row.counted) == (0b11, 0, 0, True)


def test_step_behind_one_that_waits_is_not_startable():
    owner = Owner(two_steps())
    job, _ = owner.start()
    owner.advance(
        Receipt(job, [(0, Record(Retrying("later", run_count=1), due_in_seconds=3.0)), (1, Record(Pending()))])
    )
    chain, row = row_of(owner)
    assert (row.submitted, row.waiting, row.counted) == (0, 0b01, False)
    assert owner.progress.rows.startable(chain, row) == ()


def test_retry_counts_from_the_time_of_its_record_whatever_the_clock_of_its_worker_says():
    owner = Owner(two_steps())
    job, _ = owner.start()
    wrong = Retrying("later", run_count=1, start_time=BEGINNING.replace(year=2040))
    owner.advance(Receipt(job, [(0, Record(wrong, due_in_seconds=3.0)), (1, Record(Pending()))]))
    _, row = row_of(owner)
    assert (row.starts[0].start_time - BEGINNING).total_seconds() == 3.0
    assert owner.progress.next_due == 3.0
    (again,) = owner.pass_time(3.0)
    assert again.submission == 1
    assert again.starts == {0: row.starts[0]}


def test_error_of_a_failed_attempt_does_not_travel_with_the_next():
    owner = Owner(two_steps())
    job, _ = owner.start()
    failed = Retrying("later", ValueError("large"), run_count=1)
    owner.advance(Receipt(job, [(0, Record(failed, due_in_seconds=1.0)), (1, Record(Pending()))]))
    assert row_of(owner)[1].starts[0]._raw_result is None


def test_state_without_a_time_waits_without_a_timer():
    owner = Owner(two_steps())
    job, _ = owner.start()
    owner.advance(Receipt(job, [(0, Record(Scheduled(start_time=None))), (1, Record(Pending()))]))
    assert row_of(owner)[1].waiting == 0b01
    assert not owner.progress.run_state.timers


def test_abandoned_job_is_cancelled_once_nothing_of_it_is_awaited():
    owner = Owner(two_steps())
    job, _ = owner.start()
    chain, row = row_of(owner)
    owner.progress.rows.abandon(chain, row, 0b10)
    assert (job.awaiting, owner.progress.run_state.cancelled) == (0b01, [])
    owner.progress.rows.abandon(chain, row, 0b01)
    assert owner.progress.run_state.cancelled == [job]
    assert owner.progress.run_state.submitted_jobs == 1


def test_final_states_of_a_row_go_along_with_the_rest_of_it():
    owner = Owner(two_steps())
    job, _ = owner.start()
    waits = Retrying("later", run_count=1)
    owner.advance(Receipt(job, [(0, Record(Success(None, 5))), (1, Record(waits, due_in_seconds=1.0))]))
    (again,) = owner.pass_time(1.0)
    assert again.positions == (1,)
    assert again.given[0].result == 5


@pytest.mark.parametrize(("start", "number"), [(None, 1), (Failed("x"), 1), (Retrying(run_count=3), 4)])
def test_attempts_are_counted_from_the_state_they_start_from(start, number):
    assert attempt_number(start) == number


def ended_step(slug, mapped=True, order=None):
    map_state = SimpleNamespace(order=lambda: order) if mapped else None
    return SimpleNamespace(step=SimpleNamespace(slug=slug, mapped=mapped), map_state=map_state)


def test_children_are_named_and_the_slowest_comes_first():
    found = slowest_children(
        [(1.0, 0, 2), (3.0, 0, 5), (2.0, 1, 0), (0.0, -1, -1)], [ended_step("load-1"), ended_step("total-1", False)]
    )
    assert [tuple(child) for child in found] == [("load-1", 5, 3.0), ("total-1", None, 2.0), ("load-1", 2, 1.0)]


def test_child_that_ran_again_is_named_once_with_its_longest_attempt():
    assert [tuple(child) for child in slowest_children([(1.0, 0, 2), (3.0, 0, 2)], [ended_step("load-1")])] == [
        ("load-1", 2, 3.0)
    ]


def test_child_of_a_flattened_map_has_its_map_index():
    (child,) = slowest_children([(1.0, 0, 0)], [ended_step("load-1", order=[1, 0])])
    assert child.map_index == 1
