"""What a process knows of bodies that have begun, and of jobs that may not begin any more."""

from __future__ import annotations

import threading
from functools import partial

import pytest
from jobs import jobs_of

from prefectish import Flow, task
from prefectish.engine.worker import recall as recalls
from prefectish.engine.worker.recall import begun_masks, forget, forget_others, key_of, may_begin, recall
from prefectish.engine.worker.run_steps import run_steps

pytestmark = pytest.mark.usefixtures("no_recalls")


@pytest.fixture
def ran():
    return []


@pytest.fixture
def jobs(ran):
    with Flow("recalled") as flow:
        task(ran.append, name="note").map([0, 1, 2])
    return jobs_of(flow)[1]


def run_job(job):
    may = partial(may_begin, job.chain, job.index, job.submission)
    return run_steps(job.chain, job.positions, job.index, job.items, {}, job.starts, may_begin=may)


def test_recalled_job_returns_as_it_was_submitted_and_its_body_does_not_run(jobs, ran):
    assert recall([key_of(jobs[1])]) == []
    records = [record for job in jobs for _, record in run_job(job)]
    assert ran == [0, 2]
    assert [record.begun for record in records] == [True, False, True]
    assert type(records[1].state).__name__ == "Pending"


def test_recall_tells_what_has_begun(jobs):
    run_job(jobs[0])
    assert recall(map(key_of, jobs)) == [(*key_of(jobs[0]), 0)]
    run_job(jobs[1])
    assert recall(map(key_of, jobs)) == [(*key_of(jobs[0]), 0)], "the second found itself recalled"


def test_long_body_stays_known_whatever_others_begin(jobs):
    job = jobs[0]
    thread = threading.Thread(target=may_begin, args=(job.chain, job.index, job.submission, 0))
    thread.start()
    thread.join()
    for number in range(2 * recalls.REMEMBERED):
        may_begin(job.chain, 7, number, 0)
    assert len(recalls.begun) == recalls.REMEMBERED
    assert recall([key_of(job)]) == [(*key_of(job), 0)]


def test_next_submission_of_a_row_may_begin(jobs):
    recall([key_of(jobs[0])])
    assert not may_begin(jobs[0].chain, jobs[0].index, jobs[0].submission, 0)
    assert may_begin(jobs[0].chain, jobs[0].index, jobs[0].submission + 1, 0)


def test_run_is_forgotten_alone(jobs):
    recall([key_of(jobs[0]), (("another run", 0), 0, 0)])
    forget(jobs[0].chain.run["flow_run_id"])
    assert list(recalls.recalled) == [("another run", 0)]
    forget_others([key_of(jobs[0])])
    assert recalls.recalled == {}


def test_all_before_one_of_a_batch_that_has_begun_have_begun_too(jobs):
    for job in jobs:
        job.batch = 1
    assert begun_masks(jobs, [(*key_of(jobs[1]), 0)]) == {jobs[0]: -1, jobs[1]: 1, jobs[2]: 0}
    jobs[0].batch = None
    assert begun_masks(jobs, [(*key_of(jobs[1]), 0)])[jobs[0]] == 0
