"""The window, the limits and the size of batches, by values."""

from __future__ import annotations

import pytest
from owner import Owner, labels, named

from prefectish import Flow, task
from prefectish.engine.scheduling.admission import (
    BATCHES_PER_SLOT,
    FIRST,
    GROWTH,
    Limit,
    Limits,
    Rate,
    action_after,
    auto_size,
)
from prefectish.engine.scheduling.run_state import AdmissionMode
from prefectish.errors import InvalidRunState


def limits_of(**tags):
    with Flow("limits") as flow:
        one = named("one", tags=["db"], max_concurrency=2)()
        named("two", tags=["db"])(one)
    owner = Owner(flow)
    return Limits(owner.plan, tags), [step.number for step in owner.plan.steps if step.name in ("one", "two")]


def test_step_takes_a_slot_of_each_of_its_limits_or_none():
    limits, (one, two) = limits_of(db=3)
    assert [limits.take(one, 0.0) for _ in range(3)] == [True, True, False]
    assert [limits.take(two, 0.0) for _ in range(2)] == [True, False]
    limits.give(one)
    assert limits.take(two, 0.0), "the slot of the tag came back"


def test_steps_that_run_as_one_job_take_all_slots_or_none():
    limits, (one, two) = limits_of(db=1)
    assert not limits.take_all([one, two], 0.0)
    assert limits.take(one, 0.0), "what was taken before the refusal was given back"


def test_slots_that_are_given_back_twice_are_seen():
    limits, (one, _) = limits_of()
    limits.give(one)
    with pytest.raises(InvalidRunState, match="more slots were given back than taken"):
        limits.validate()


def test_rate_spaces_starts_and_saves_none_up():
    with Flow("rate") as flow:
        named("one", rate=2.0)()
    owner = Owner(flow)
    limits = Limits(owner.plan)
    number = next(step.number for step in owner.plan.steps if step.name == "one")
    assert limits.take(number, 10.0)
    assert not limits.take(number, 10.4)
    assert limits.next_start() == 10.5
    assert [limits.take(number, 20.0), limits.take(number, 20.1)] == [True, False], "the pause saved no starts"


def test_limits_that_are_set_later_count_what_runs():
    limits, (one, two) = limits_of()
    limits.change_tag("db", 2, {one: 1, two: 1})
    assert not limits.take(two, 0.0)
    limits.change_tag("db", 3, {})
    assert limits.take(two, 0.0)
    assert limits.limited(two)


def test_limit_and_rate_of_a_task_are_shared_by_its_steps():
    limits, _ = limits_of()
    own, rate = Limit(1), Rate(1.0)
    owner = Owner(Flow("empty"))
    del owner
    with Flow("more") as flow:
        named("a")(named("b")())
    steps = [step for step in Owner(flow).plan.steps if step.name in "ab"]
    for number, step in enumerate(steps, start=100):
        step.number = number
        limits.add_step(step, own, rate)
    assert limits.take(100, 0.0)
    assert not limits.take(101, 5.0)


@pytest.mark.parametrize(
    ("options", "failures", "width", "mode"),
    [
        ({}, 7, 9, AdmissionMode.OPEN),
        ({"on_child_failure": "stop"}, 1, None, AdmissionMode.STOP),
        ({"on_child_failure": "cancel"}, 1, 3, AdmissionMode.CANCEL),
        ({"max_failures": 2}, 2, 9, AdmissionMode.OPEN),
        ({"max_failures": 2}, 3, 9, AdmissionMode.STOP),
        ({"max_failures": 2, "on_child_failure": "cancel"}, 3, 9, AdmissionMode.CANCEL),
        ({"max_failures": 0.5}, 9, None, AdmissionMode.OPEN),
        ({"max_failures": 0.5, "min_sample": 12}, 6, None, AdmissionMode.OPEN),
        ({"max_failures": 0.5, "min_sample": 12}, 7, None, AdmissionMode.STOP),
        ({"max_failures": 0.5}, 3, 5, AdmissionMode.STOP),
    ],
)
def test_mode_after_failures(options, failures, width, mode):
    assert action_after(named("work", **options), failures, width, ended=12) is mode


def test_first_batch_is_small_and_the_next_ones_grow_by_what_was_seen():
    assert auto_size(0, None, None, 4) == FIRST
    assert auto_size(FIRST, 0.0, None, 4) == FIRST * GROWTH
    assert auto_size(FIRST, 10.0, None, 4) == 1
    assert auto_size(1000, 0.01, 16, 2) == 4, "the last batches leave work for all slots"


def test_last_batches_are_not_cut_below_what_a_message_is_worth():
    sizes, left = [], 5_000
    while left:
        sizes.append(auto_size(sizes[-1] if sizes else 1024, 1e-6, left, 2))
        left -= sizes[-1]
    assert min(sizes[:-1]) >= 200
    assert len(sizes) < 12, "34 with as many round trips as 5,000 children need otherwise"
    assert auto_size(1000, 1e-3, 16, 2) == 5, "more where bodies take longer"


def test_batches_of_a_chain_stop_at_so_many_for_each_slot():
    with Flow("batched") as flow:
        named("one", batch_size=2).map(list(range(100)))
    owner = Owner(flow, slots=2)
    jobs = owner.start()
    assert len({job.batch for job in jobs}) == 2 * BATCHES_PER_SLOT
    assert len(jobs) == 4 * BATCHES_PER_SLOT


def test_deepest_chain_comes_first():
    with Flow("deep") as flow:
        first = named("first", max_concurrency=9).map([0, 1, 2])
        named("second", max_concurrency=9).map(first)
    owner = Owner(flow, window=1)
    order, jobs = [], owner.start()
    while jobs:
        order.append(labels(jobs[0])[0])
        jobs = owner.tell(jobs[0])
    assert order == ["first[0]", "second[0]", "first[1]", "second[1]", "first[2]", "second[2]"]


def test_rows_that_share_slots_may_stay_open_whatever_a_session_says_later():
    @task(async_concurrency=50)
    async def fetch(x):
        return x

    with Flow("window") as flow:
        fetch.map(list(range(3)))
    owner = Owner(flow, window=12, slots=4)
    owner.start()
    for window, expected in ((12, 200), (300, 300), (64, 200)):
        owner.progress.admission.follow(window)
        assert owner.progress.admission.window == expected
