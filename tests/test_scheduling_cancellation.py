"""How an active run is paused, limited and cancelled, without a clock or an executor."""

from __future__ import annotations

import pytest
from owner import Owner, chain_of, labels, named, names

from prefectish import Flow
from prefectish.engine.jobs.job import Receipt, Record
from prefectish.engine.state import Cancelled, Failed, Pending, Retrying, Success, TimedOut

# -- pauses ------------------------------------------------------------------------------------------------------------


def test_paused_run_starts_nothing_and_is_not_done():
    owner = Owner(chain_of(), window=1)
    (first,) = owner.start()
    owner.progress.controls.pause()
    assert owner.tell(first) == []
    assert not owner.progress.done
    assert owner.pass_time(1000) == []
    owner.progress.controls.resume()
    assert names(owner.advance()) == ["load[1]", "clean[1]"]


def test_run_that_has_ended_in_a_pause_is_done():
    with Flow("steered") as flow:
        named("load").map([1])
    owner = Owner(flow)
    (job,) = owner.start()
    owner.progress.controls.pause()
    owner.tell(job)
    assert owner.progress.done


def test_results_that_arrive_during_a_pause_are_used_after_it():
    owner = Owner(chain_of(1))
    (job,) = owner.start()
    owner.progress.controls.pause()
    assert owner.tell(job) == []
    owner.progress.controls.resume()
    assert names(owner.advance()) == ["total"]


def test_retries_wait_for_the_end_of_a_pause():
    owner = Owner(chain_of(1))
    (job,) = owner.start()
    owner.progress.controls.pause()
    again = Retrying("again", start_time=owner.moment.wall, run_count=1)
    owner.advance(Receipt(job, [(0, Record(again, due_in_seconds=30.0)), (1, Record(Pending()))]))
    assert owner.pass_time(60) == []
    assert not owner.progress.done
    owner.progress.controls.resume()
    (again,) = owner.advance()
    assert labels(again) == ["load[0]", "clean[0]"]


def test_paused_run_can_be_cancelled_and_drained():
    owner = Owner(chain_of(), window=1)
    owner.start()
    owner.progress.controls.pause()
    owner.progress.cancellation.cancel("load-1", None, owner.moment)
    owner.advance()
    owner.progress.controls.resume()
    owner.advance()
    assert owner.progress.states()[1].map_states[0].message == "cancelled"


def test_pause_does_not_wait_for_the_next_start_of_a_rate():
    with Flow("steered") as flow:
        named("load", rate=1).map([1, 2])
    owner = Owner(flow)
    owner.start()
    assert owner.progress.next_due == 1.0
    owner.progress.controls.pause()
    assert owner.progress.next_due is None


# -- limits ------------------------------------------------------------------------------------------------------------


def test_limit_of_a_running_map_counts_what_runs():
    owner = Owner(chain_of(6), window=4)
    first, *others = owner.start()
    owner.progress.controls.limit_task("load-1", 2)
    assert owner.tell(first) == []
    assert owner.tell(others[0]) == []
    assert names(owner.tell(others[1])) == ["load[4]", "clean[4]"]


@pytest.mark.parametrize("size", [5, None])
def test_limit_can_grow_while_the_map_continues(size):
    with Flow("steered") as flow:
        named("load", max_concurrency=1).map(list(range(5)))
    owner = Owner(flow)
    assert len(owner.start()) == 1
    owner.progress.controls.limit_task("load-1", size)
    assert len(owner.advance()) == 4


def test_limit_of_nothing_holds_a_task_and_is_not_the_end():
    with Flow("steered") as flow:
        named("load").map([1, 2])
    owner = Owner(flow, window=1)
    (job,) = owner.start()
    owner.progress.controls.limit_task("load-1", 0)
    assert owner.tell(job) == []
    assert not owner.progress.done
    owner.progress.controls.limit_task("load-1", 1)
    assert names(owner.advance()) == ["load[1]"]


def test_limit_that_is_set_before_a_map_begins_holds_for_it():
    with Flow("steered") as flow:
        named("load").map(named("numbers")())
    owner = Owner(flow)
    (numbers,) = owner.start()
    owner.progress.controls.limit_task("load-1", 2)
    assert len(owner.tell(numbers, Success(None, [1, 2, 3]), widths=[(3, "list")])) == 2


def test_limit_of_a_later_step_holds_the_branches_it_travels_with():
    owner = Owner(chain_of(6), window=2)
    first, second = owner.start()
    owner.progress.controls.limit_task("clean-1", 1)
    assert owner.tell(first) == []
    assert names(owner.tell(second)) == ["load[2]", "clean[2]"]


def test_tag_gets_a_limit_across_its_tasks():
    with Flow("steered") as flow:
        named("load", tags=["db"]).map([1, 2, 3])
        named("save", tags=["db"]).map([1, 2, 3])
    owner = Owner(flow)
    jobs = owner.start()
    assert len(jobs) == 6
    owner.progress.controls.limit_tag("db", 1)
    for job in jobs:
        assert owner.tell(job) == []
    assert owner.progress.done


def test_tag_limit_of_the_executor_can_change():
    with Flow("steered") as flow:
        named("load", tags=["db"]).map([1, 2, 3])
    owner = Owner(flow, tag_limits={"db": 1})
    assert len(owner.start()) == 1
    owner.progress.controls.limit_tag("db", 2)
    assert len(owner.advance()) == 1


# -- stops and ends ----------------------------------------------------------------------------------------------------


def test_map_that_is_cancelled_abandons_its_jobs_and_starts_no_more():
    owner = Owner(limited_map(), window=2)
    first, second = owner.start()
    owner.progress.cancellation.cancel("load-1", None, owner.moment)
    assert owner.pass_time(0) == []
    assert owner.progress.run_state.cancelled == [first, second]
    assert [str(child.message) for child in owner.state("load").map_states] == [
        "cancelled", "cancelled", "never started", "never started",
    ]  # fmt: skip
    assert owner.progress.admission.open == 0


def limited_map():
    with Flow("one map") as flow:
        named("load").map([0, 1, 2, 3])
    return flow


def test_child_that_has_not_begun_is_cancelled_in_its_turn():
    owner = Owner(chain_of(3), window=1)
    (first,) = owner.start()
    owner.progress.cancellation.cancel("load-1", 2, owner.moment)
    (second,) = owner.tell(first)
    owner.tell(second)
    states = owner.progress.run_state.find("load-1").children
    assert [type(state) for state in states] == [Success, Success, Cancelled]


def test_run_out_of_time_tells_open_tasks_from_those_that_never_began():
    owner = Owner(chain_of(3), window=1)
    owner.progress.cancellation.limit_time(5.0, owner.moment)
    owner.start()
    assert owner.progress.cancellation.time_left("load-1", owner.moment) == (
        5.0, "the flow run took longer than its timeout of 5 s",
    )  # fmt: skip
    owner.pass_time(5.0)
    states = owner.progress.run_state.find("load-1").children
    assert [type(state) for state in states] == [TimedOut, Cancelled, Cancelled]
    assert owner.progress.done
    assert isinstance(owner.progress.verdict(), Failed)


def test_retry_that_waits_is_cancelled_when_its_map_stops():
    owner = Owner(chain_of(2), window=2)
    first, second = owner.start()
    owner.tell(first, Retrying("later", run_count=1))
    owner.progress.cancellation.drain(owner.moment)
    owner.tell(second)
    states = owner.progress.run_state.find("load-1").children
    cancelled = [str(state.message) for state in states if isinstance(state, Cancelled)]
    assert cancelled == ["retry cancelled: its map was stopped"]


def test_single_task_is_cancelled_while_it_runs_and_while_it_waits_for_a_slot():
    with Flow("singles") as flow:
        first = named("first", tags=["db"])()
        named("second", tags=["db"])()
        named("after")(first)
    owner = Owner(flow, tag_limits={"db": 1})
    (running,) = owner.start()
    assert len(owner.progress.run_state.step_states) == 3
    for step_state in owner.progress.run_state.step_states:
        if step_state.step.name != "after":
            owner.progress.cancellation.cancel(step_state.step.slug, None, owner.moment)
    assert running.was_given_up
    owner.run_all(owner.advance())
    assert isinstance(owner.state("first"), Cancelled)
    assert isinstance(owner.state("second"), Cancelled)
    assert owner.progress.done
