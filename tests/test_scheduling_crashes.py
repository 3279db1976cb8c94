"""Suspects, and what goes on around them, without a cluster: no place is lost or made, nothing is awaited in vain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from jobs import advanced

from prefectish import Flow, task
from prefectish.engine.clock import Now
from prefectish.engine.jobs.job import Receipt, Record
from prefectish.engine.jobs.protocol import Lost
from prefectish.engine.plan.compile import compile_flow
from prefectish.engine.scheduling.crashes import PATIENCE, Suspect, Suspects
from prefectish.engine.scheduling.deaths import MOST_ASKED
from prefectish.engine.scheduling.progress import Progress
from prefectish.engine.state import Cancelled, Failed, Retrying, Success, TimedOut


@task
def work(x):
    pytest.fail("bodies are not called here")


class Owner:
    """Drives a progress by hand; jobs that were submitted and not told of are in `jobs`."""

    def __init__(self, number, **options):
        with Flow("suspects") as flow:
            work.copy(**options).map(range(number))
        self.seconds = 0.0
        plan = compile_flow(flow, {})
        self.progress = Progress(plan, {}, notify=lambda run, old, new: new, window=100)
        self.jobs = self.progress.start(self.moment)

    @property
    def moment(self):
        now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)
        return Now(self.seconds, lambda: now)

    def advance(self, *receipts, seconds=0.0):
        self.seconds += seconds
        told = [receipt.job for receipt in receipts]
        self.jobs = [job for job in self.jobs if job not in told]
        new = advanced(self.progress, receipts, self.moment)
        self.jobs = [job for job in self.jobs if job not in self.progress.run_state.cancelled] + new
        return new

    def tell(self, *jobs, state=None, due_in_seconds=None):
        record = Record(state or Success(None, 1), due_in_seconds=due_in_seconds)
        return self.advance(*(Receipt(job, [(0, record)]) for job in jobs))

    def lose(self, *jobs, lost=Lost("killed-worker", 4)):  # noqa: B008
        return self.advance(*(Receipt(job, [], lost) for job in jobs))

    def states(self):
        return self.progress.states()[-1].map_states


def test_suspect_waits_for_what_runs_and_no_longer_than_its_patience():
    suspects = Suspects()
    suspect = Suspect(None, None, 0)
    suspects.add(suspect, 10.0)
    assert suspects.busy
    assert suspects.next(2, 11.0) is None
    assert suspects.due() == 10.0 + PATIENCE
    assert suspects.next(2, 10.0 + PATIENCE) is suspect
    assert suspects.next(0, 99.0) is None, "one is alone already"
    suspects.clear(99.0)
    assert not suspects.busy


def test_suspects_run_alone_one_after_another():
    owner = Owner(4)
    first, second, third, fourth = owner.jobs
    assert owner.lose(first) == owner.lose(second) == owner.tell(third) == []
    (alone,) = owner.tell(fourth)
    assert (alone.index, alone.solo) == (0, True)
    (next_one,) = owner.tell(alone)
    assert (next_one.index, next_one.solo) == (1, True)
    owner.tell(next_one)
    assert owner.progress.done


def test_suspect_alone_gives_back_no_place_that_it_did_not_take():
    owner = Owner(6, max_concurrency=2)
    first, second = owner.jobs
    owner.lose(first)
    (alone,) = owner.tell(second)
    assert alone.solo
    owner.tell(alone)
    assert len(owner.jobs) == 2
    for _ in range(4):
        owner.tell(owner.jobs[0])
        assert len(owner.jobs) <= 2
    assert owner.progress.done


def test_batch_has_one_place_which_it_gives_back_once():
    owner = Owner(12, max_concurrency=1, batch_size=3)
    for _ in range(4):
        assert len(owner.jobs) == 3
        assert len({job.batch for job in owner.jobs}) == 1
        first, *others = owner.jobs
        assert owner.tell(first) == [], "the rest of the batch still runs"
        owner.tell(*others)
    assert owner.progress.done


def test_time_limit_of_a_map_ends_a_run_alone_too():
    owner = Owner(2, map_timeout=5)
    first, second = owner.jobs
    owner.lose(first)
    (alone,) = owner.tell(second)
    assert alone.solo
    owner.advance(seconds=6)
    assert owner.progress.run_state.cancelled == [alone]
    assert [type(state) for state in owner.states()] == [TimedOut, Success]
    assert owner.progress.done


def test_batches_that_were_given_up_keep_no_row_from_its_end():
    owner = Owner(40, map_timeout=5, batch_size=4)
    started = len(owner.jobs)
    assert started < 40
    owner.advance(seconds=6)
    kinds = [type(state) for state in owner.states()]
    assert kinds == [TimedOut] * started + [Cancelled] * (40 - started)
    assert owner.progress.done


@pytest.mark.parametrize("how", ["timeout", "stop"])
def test_cancelled_retry_is_not_waited_for(how):
    owner = Owner(2, on_child_failure="stop", map_timeout=5 if how == "timeout" else None)
    first, second = owner.jobs
    owner.tell(first, state=Retrying("later", run_count=1), due_in_seconds=600.0)
    if how == "timeout":
        owner.tell(second)
        owner.advance(seconds=6)
    else:
        owner.tell(second, state=Failed("no"))
    assert type(owner.states()[0]) is (TimedOut if how == "timeout" else Cancelled)
    assert owner.progress.next_due is None
    assert owner.progress.done


def test_lost_scheduler_makes_the_run_failed_whatever_its_tasks_came_to():
    owner = Owner(2)
    owner.advance(Receipt(owner.jobs[0], [], Lost("scheduler-lost", detail="the scheduler was lost", fatal=True)))
    verdict = owner.progress.verdict()
    assert verdict.message == "The run was cut short: the scheduler was lost."
    assert verdict.exit_code == 3


def test_suspect_whose_worker_somebody_restarts_is_not_to_blame():
    owner = Owner(1)
    (first,) = owner.jobs
    (alone,) = owner.lose(first)
    for _ in range(MOST_ASKED):
        (alone,) = owner.advance(Receipt(alone, [], Lost("killed-worker", 1, asked=True)))
        assert alone.solo
    owner.advance(Receipt(alone, [], Lost("killed-worker", 1, asked=True)))
    (state,) = owner.states()
    assert state.message == "worker died 1 time while running work-1[0]"
    assert owner.progress.done


@pytest.mark.parametrize("tolerated", [0, 3])
def test_rows_of_a_batch_whose_worker_could_not_spill_are_submitted_again_one_by_one(tolerated):
    """Other workers may have room; one that has none is to blame for no row."""
    full = Lost("cluster-error", detail="a full disk", evidence={"signal": "SIGKILL"}, tolerated=tolerated)
    owner = Owner(3, batch_size=3)
    again = owner.lose(*owner.jobs, lost=full)
    assert [(job.index, job.batch) for job in again] == [(0, None), (1, None), (2, None)]
    assert owner.tell(*again[1:]) == []
    (alone,) = [job for _ in range(tolerated + 1) for job in owner.lose(*owner.jobs, lost=full)][-1:]
    assert (alone.index, alone.solo) == (0, True)
    owner.lose(alone, lost=full)
    assert owner.progress.done
    first, *others = owner.states()
    assert (first.cause, first.message) == ("cluster-error", "work[0] was lost: a full disk")
    assert [type(state) for state in others] == [Success] * 2
