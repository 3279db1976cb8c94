"""Jobs, chains and records, by themselves."""

from __future__ import annotations

import pickle

import pytest
from jobs import jobs_of

from prefectish import Flow, task
from prefectish.engine.jobs.job import ITEM, SHARED, STEP, InputKind, Pick, Record
from prefectish.engine.jobs.protocol import LossCause, Lost
from prefectish.engine.state import Failed, Success


@task
def add(x, y):
    return x + y


@task
def double(x):
    return 2 * x


def chain_of_two():
    with Flow("two") as flow:
        double.map(double.map([1, 2]))
    return jobs_of(flow)[1]


def test_job_of_a_chain_knows_which_of_its_steps_read_each_other():
    job = chain_of_two()[0]
    assert job.positions == (0, 1)
    assert job.sources(0) == ()
    assert job.sources(1) == (0,)


def test_job_without_an_earlier_step_has_no_source_in_itself():
    job = chain_of_two()[0].replace(positions=(1,), given={0: Success(None, 1)})
    assert job.sources(1) == ()


def test_copy_of_a_job_awaits_nothing_and_has_no_batch():
    job = chain_of_two()[0]
    job.batch = 7
    assert job.awaiting
    copy = job.replace(solo=True)
    assert (copy.awaiting, copy.batch, copy.solo) == (0, None, True)
    assert repr(copy) == "<Job double-1[0], double-2[0], submission 0>"


def test_copy_of_a_step_works_out_its_flags_again():
    step = chain_of_two()[0].chain.steps[0]
    assert step.late == ()
    copy = step.replace(constants={"y": Pick(Success(), (0,)), "x": 1})
    assert copy.constants.keys() == {"x", "y"}
    assert (copy.slug, copy.task, copy.plain) == (step.slug, step.task, step.plain)


def test_kinds_of_inputs_keep_their_identity_in_a_pickle():
    assert [pickle.loads(pickle.dumps(kind)) is kind for kind in InputKind] == [True] * 3
    assert (STEP, SHARED, ITEM) == (0, 1, 2)


@pytest.mark.parametrize(("path", "item"), [((1,), [3, 4]), ((1, 0), 3)])
def test_pick_reads_an_item_or_an_element_of_it(path, item):
    assert Pick(Success(None, [[1, 2], [3, 4]]), path).read() == item


def test_record_with_another_state_keeps_all_else():
    record = Record(Success(None, 1), 2.0, 3.0, 4, "host:1", "key", ("line",))
    state = Failed("no")
    assert record.with_state(state).values() == record.replace(state=state).values()


@pytest.mark.parametrize("cause", LossCause)
def test_cause_of_a_loss_may_be_given_by_its_value(cause):
    assert Lost(cause.value).cause is cause


def test_unknown_cause_is_refused():
    with pytest.raises(ValueError, match="no-resource"):
        Lost("no-resource")
