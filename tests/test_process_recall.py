"""Jobs are taken back from worker processes, by the pipes and the file alone: both sides are in this process."""

from __future__ import annotations

from multiprocessing import get_context

import pytest
from jobs import jobs_of

from prefectish import Flow, task
from prefectish.engine.worker import recall as recalls
from prefectish.engine.worker.recall import key_of, may_begin
from prefectish.executors import process_recall
from prefectish.executors.process_recall import Recall

pytestmark = pytest.mark.usefixtures("no_recalls")


@pytest.fixture
def jobs():
    with Flow("recalled") as flow:
        task(abs, name="absolute").map([0, 1, 2])
    return jobs_of(flow)[1]


@pytest.fixture
def recall(tmp_path):
    return Recall(get_context("spawn"), 1, str(tmp_path))


def begins(job):
    return may_begin(job.chain, job.index, job.submission, 0)


def test_process_answers_what_has_begun_and_begins_nothing_more(jobs, recall):
    recall.listener.start()
    assert begins(jobs[0])
    assert recall.recall([key_of(job) for job in jobs[:2]]) == [(*key_of(jobs[0]), 0)]
    assert [begins(job) for job in jobs] == [False, False, True]


def test_process_that_starts_later_knows_what_was_recalled_before(jobs, recall):
    assert recall.recall([key_of(jobs[0])]) == [], "there is no process yet"
    assert recall.recall([key_of(jobs[1])]) == []
    recall.listener.start()
    assert [begins(job) for job in jobs] == [False, False, True]


def test_recall_of_another_run_makes_room_for_its_jobs(jobs, recall):
    recall.listener.start()
    recall.recall([key_of(jobs[0])])
    recall.recall([(("another run", 0), 0, 0)])
    assert list(recalls.recalled) == [("another run", 0)]


def test_process_that_does_not_answer_in_time_leaves_it_unknown(jobs, recall, monkeypatch):
    monkeypatch.setattr(process_recall, "PATIENCE", 0.01)
    recall.count.value = 1  # it has a pipe, and is held up
    assert recall.recall([key_of(jobs[0])]) is None


def test_late_answer_is_not_taken_for_the_next_one(jobs, recall):
    recall.count.value = 1
    (end,) = recall.listener.ends
    recall._number = 1  # the first was not answered in time
    end.send((1, ["late"]))
    end.send((2, ["body"]))
    assert recall.recall([key_of(jobs[0])]) == ["body"]


def test_process_that_has_ended_leaves_it_unknown(jobs, recall):
    recall.count.value = 1
    recall.listener.ends[0].close()
    assert recall.recall([key_of(jobs[0])]) is None
