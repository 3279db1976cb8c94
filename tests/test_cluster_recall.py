"""What workers of a cluster are asked when jobs are taken back, and what their answers say; without a cluster."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from jobs import FACTS, jobs_of

from prefectish import Flow, task
from prefectish.engine.worker.recall import forget, key_of, may_begin
from prefectish.executors import cluster_recall
from prefectish.executors.cluster_recall import asked_back, forgotten, step_keys, unbegun_masks

RUN = FACTS["flow_run_id"]


pytestmark = pytest.mark.usefixtures("no_recalls")


@pytest.fixture
def jobs():
    with Flow("recalled") as flow:
        task(abs, name="second").map(task(abs, name="first").map([0, 1, 2]))
    return jobs_of(flow)[1]


@pytest.fixture
def asked(monkeypatch):
    """Return what workers are asked to call, and with what."""
    found = []
    monkeypatch.setattr(cluster_recall, "asked_on_workers", lambda client, fn, **given: found.append((fn, given)))
    return found


def test_workers_are_asked_for_the_steps_of_jobs_and_for_batches(jobs, asked):
    asked_back("a client", jobs[:1], RUN, ["a batch"])
    ((fn, given),) = asked
    assert fn is cluster_recall._recall_here
    assert given == {
        "jobs": [key_of(jobs[0])],
        "keys": [(f"first-1-{RUN}", 0, 0), (f"second-1-{RUN}", 0, 0), "a batch"],
    }


def test_workers_forget_a_run_that_has_ended(asked):
    forgotten("a client", RUN)
    assert asked == [(forget, {"run_id": RUN})]


def test_worker_answers_what_has_begun_and_what_has_ended(jobs):
    first, second = step_keys(jobs[0], RUN).values()
    may_begin(jobs[0].chain, jobs[0].index, jobs[0].submission, 1)
    states = {first: SimpleNamespace(state="memory"), second: SimpleNamespace(state="executing")}
    worker = SimpleNamespace(state=SimpleNamespace(tasks=states))
    answer = cluster_recall._recall_here([key_of(jobs[0])], [first, second, "unknown"], dask_worker=worker)
    assert answer == ([(*key_of(jobs[0]), 1)], [first])
    assert not may_begin(jobs[0].chain, jobs[0].index, jobs[0].submission, 0)


def test_step_is_taken_back_unless_some_worker_began_or_ended_it(jobs):
    ended = step_keys(jobs[0], RUN)[0]
    answers = [([(*key_of(jobs[0]), 1)], []), ([], [ended]), ([], [])]
    masks, found = unbegun_masks(jobs, RUN, answers)
    assert masks == {jobs[0]: 0b00, jobs[1]: 0b11, jobs[2]: 0b11}
    assert found == {ended}


def test_step_that_began_leaves_those_behind_it_to_be_taken_back(jobs):
    masks, _ = unbegun_masks(jobs[:1], RUN, [([(*key_of(jobs[0]), 0)], [])])
    assert masks == {jobs[0]: 0b10}
