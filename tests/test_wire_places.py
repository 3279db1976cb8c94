"""Where a child runs, asked of its task: what the item is, where the question is put, what an answer may be."""

from __future__ import annotations

import pickle

import pytest
from jobs import jobs_of

from prefectish import Flow, task, unmapped
from prefectish.engine.jobs.job import Record
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.placement import Placement, placement_of_child, takes_run_count
from prefectish.engine.state import Failed, Retrying, Success
from prefectish.engine.wire.pack import pack_chain, pickle_tasks
from prefectish.engine.wire.places import first_item, is_elsewhere, place, places_near_items, run_count_of


@task(slug="sized", resources=lambda item, run_count: {"MEMORY": item * run_count}, tags=["dask-resource:GPU"])
def sized(x, other=None):
    return x


def placed(item, run_count=1):
    with Flow("places") as flow:
        sized.map([1])
    _, (job,) = jobs_of(flow)
    return place(job.chain.steps[0], 0, item, run_count, job.chain.run)


def test_item_and_run_count_decide_beside_what_is_fixed():
    assert placed(3, 2) == Placement((("GPU", 1.0), ("MEMORY", 6)), (), 0.0)


def test_child_that_has_no_item_is_placed_as_its_task():
    assert placed(Failed("no")) == Placement((("GPU", 1.0),), (), 0.0)


def test_function_that_raises_fails_its_child():
    found = placed("text", 0)
    assert isinstance(found, Record)
    assert found.state.message.startswith("where sized[0] runs could not be asked: ")


def test_first_mapped_input_is_the_item():
    with Flow("first") as flow:
        sized.map(unmapped(7), [5, 6])
    _, jobs = jobs_of(flow)
    assert [first_item(job) for job in jobs] == [5, 6]


def test_first_argument_is_the_item_of_a_single_task():
    with Flow("single") as flow:
        sized(7, 8)
    _, (job,) = jobs_of(flow)
    assert first_item(job) == 7


def test_run_count_counts_retries_and_deaths_of_memory():
    with Flow("count") as flow:
        sized.map([1])
    _, (job,) = jobs_of(flow)
    assert run_count_of(job) == 1
    job.memory_deaths = 2
    assert run_count_of(job) == 3
    job.starts = {0: Retrying(run_count=1)}
    assert run_count_of(job) == 4


@pytest.mark.parametrize(
    ("item", "expected"),
    [(1, False), (Success(None, 1), False), (Success(None, Held("a", 1, object(), lambda handle: 1)), True)],
)
def test_item_is_elsewhere_if_its_value_is(item, expected):
    assert is_elsewhere(item) is expected


def test_many_are_asked_in_one_question():
    with Flow("page") as flow:
        sized.map([1, 2, 0])
    plan, jobs = jobs_of(flow)
    payload, _ = pack_chain(jobs[0].chain, pickle_tasks(plan))
    first, second, third = places_near_items(payload, pickle.dumps([(j.index, j.items[0], 2) for j in jobs])).answers
    assert (dict(first.resources)["MEMORY"], dict(second.resources)["MEMORY"]) == (2, 4)
    assert "resources['MEMORY'] must be > 0, got 0" in third.state.message


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda item: 1, False),
        (lambda item, run_count: 1, True),
        (lambda item, table=(): 1, False),
        (lambda item, run_count=1: 1, True),
        (lambda *both: 1, False),
        (len, False),
        (3, False),
        (None, False),
    ],
)
def test_run_count_is_given_to_functions_that_take_it(function, expected):
    assert takes_run_count(function) is expected


def test_workers_and_priority_may_follow_from_the_item():
    chosen = sized.copy(
        workers=lambda item, run_count: item, priority=lambda item, run_count: run_count, resources=None
    )
    assert placement_of_child(chosen, "host", 2) == Placement((("GPU", 1.0),), ("host",), 2.0)
