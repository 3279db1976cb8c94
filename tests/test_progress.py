"""The owner of a run without a clock, an executor or a body: receipts made by hand go in, jobs come out."""

from __future__ import annotations

from datetime import timedelta

from owner import BEGINNING, Owner, labels, named, shown

from prefectish import Flow, flatten, triggers, unmapped
from prefectish.engine.jobs.job import Pick, Receipt, Record
from prefectish.engine.state import (
    Crashed,
    Failed,
    Mapped,
    Paused,
    Pending,
    Resume,
    Retrying,
    Running,
    Scheduled,
    Success,
    TriggerFailed,
)

# ---------------------------------------------------------------------- jobs


def test_empty_flow_is_done_at_once():
    owner = Owner(Flow("empty"))
    assert owner.start() == []
    assert owner.progress.done
    assert owner.progress.verdict().is_successful()


def test_chain_of_single_steps_is_one_job():
    with Flow("chain") as flow:
        named("c")(named("b")(named("a")(1)))
    owner = Owner(flow)
    (job,) = owner.start()
    assert labels(job) == ["a", "b", "c"]
    assert job.index == -1
    assert owner.progress.run_state.submitted_jobs == 1
    assert not owner.progress.done
    assert owner.tell(job) == []
    assert owner.progress.done
    assert owner.progress.verdict().is_successful()


def test_independent_single_steps_start_at_once_whatever_the_window():
    with Flow("singles") as flow:
        for name in "abc":
            named(name)(1)
    assert shown(Owner(flow, window=1).start()) == ["a", "b", "c"]


def test_single_step_has_no_siblings_to_share_a_batch_with():
    with Flow("single") as flow:
        named("a", batch_size=2)(1)
    owner = Owner(flow)
    (job,) = owner.start()
    assert job.batch is None
    owner.tell(job)
    assert owner.progress.done
    assert owner.progress.run_state.submitted_jobs == 0


def test_branch_of_elementwise_steps_is_one_job_for_each_item():
    with Flow("maps") as flow:
        named("b").map(named("a").map(["x", "y"]))
    jobs = Owner(flow).start()
    assert shown(jobs) == ["a[0] b[0]", "a[1] b[1]"]
    assert [job.items for job in jobs] == [("x",), ("y",)]
    assert jobs[0].chain is jobs[1].chain


def test_job_of_a_map_over_a_result_that_is_elsewhere_has_a_reference():
    with Flow("maps") as flow:
        named("b").map(named("a")(1))
    owner = Owner(flow)
    (first,) = owner.start()
    state = Success(None, bytearray(b"ab"))
    jobs = owner.tell(first, state, widths=[(2, "bytearray")])
    assert [type(job.items[0]) for job in jobs] == [Pick, Pick]
    assert [(job.items[0].state, job.items[0].path) for job in jobs] == [(state, (0,)), (state, (1,))]


def test_item_that_is_a_state_itself_is_guarded():
    with Flow("maps") as flow:
        named("a").map([Failed("a value of the user's")])
    (job,) = Owner(flow).start()
    assert job.items == (Success(None, Failed()),)


def test_unmapped_inputs_are_shared():
    with Flow("maps") as flow:
        size = named("size")(1)
        named("a").map([1, 2], unmapped(size))
    owner = Owner(flow)
    (first,) = owner.start()
    state = Success(None, 256)
    jobs = owner.tell(first, state)
    assert [job.chain.shared for job in jobs] == [(state,)] * 2


# ---------------------------------------------------------------------- the window, and depth first


def test_window_bounds_the_open_branches():
    with Flow("window") as flow:
        named("a").map(range(5))
    owner = Owner(flow, window=2)
    first, second = owner.start()
    assert shown([first, second]) == ["a[0]", "a[1]"]
    (third,) = owner.tell(second)
    assert shown([third]) == ["a[2]"]
    assert shown(owner.tell(first)) == ["a[3]"]


def test_place_is_free_when_all_records_of_a_branch_are_there():
    with Flow("window") as flow:
        named("b").map(named("a").map(range(2)))
    owner = Owner(flow, window=1)
    (job,) = owner.start()
    assert owner.advance(Receipt(job, [(0, Record(Success(None, 1)))])) == []
    assert shown(owner.advance(Receipt(job, [(1, Record(Success(None, 1)))]))) == ["a[1] b[1]"]


def deep_flow():
    """Return a flow in which b and c cannot travel with a, so that depth first is the owner's doing."""
    with Flow("deep") as flow:
        a = named("a").map(range(3))
        b = named("b", resources={"GPU": 1}).map(a)
        named("c").map(b)
    return flow


def test_branch_is_finished_before_another_is_begun():
    owner = Owner(deep_flow(), window=1)
    order = owner.run_all(owner.start())
    assert order == [[f"{name}[{i}]"] for i in range(3) for name in "abc"]


def test_deepest_branches_take_the_places_that_get_free():
    owner = Owner(deep_flow(), window=2)
    a0, a1 = owner.start()
    (b1,) = owner.tell(a1)
    assert labels(b1) == ["b[1]"]
    (c1,) = owner.tell(b1)
    assert labels(c1) == ["c[1]"]
    (b0,) = owner.tell(a0)
    assert labels(b0) == ["b[0]"]
    assert shown(owner.tell(c1)) == ["a[2]"]


def test_no_branch_waits_for_an_unrelated_one():
    with Flow("unrelated") as flow:
        slow = named("slow").map([0, 1])
        named("after_slow")(slow)
        quick = named("quick").map([0, 1])
        named("whole")(quick)
    owner = Owner(flow)
    jobs = {labels(job)[0]: job for job in owner.start()}
    assert sorted(jobs) == ["quick[0]", "quick[1]", "slow[0]", "slow[1]"]
    owner.tell(jobs["quick[0]"])
    assert shown(owner.tell(jobs["quick[1]"])) == ["whole"]


def test_branches_of_a_map_do_not_wait_for_their_siblings():
    owner = Owner(deep_flow())
    jobs = owner.start()
    assert shown(jobs) == ["a[0]", "a[1]", "a[2]"]
    assert shown(owner.tell(jobs[2])) == ["b[2]"]


def test_step_that_reads_two_rows_waits_for_both():
    with Flow("gates") as flow:
        a, b = named("a").map([0, 1]), named("b").map(named("ys")(1))
        named("c").map(a, b)
    owner = Owner(flow)
    ys, *rows = sorted(owner.start(), key=lambda job: labels(job)[0] != "ys")
    assert sorted(shown(rows)) == ["a[0]", "a[1]"]
    first_b, second_b = owner.tell(ys, Success(None, [5, 6]))
    assert owner.tell(rows[1]) == []
    assert shown(owner.tell(second_b)) == ["c[1]"]
    assert owner.tell(first_b) == []
    assert shown(owner.tell(rows[0])) == ["c[0]"]


def test_reduction_starts_when_all_children_are_final():
    with Flow("reduce") as flow:
        named("total")(named("a").map([0, 1]))
    owner = Owner(flow)
    first, second = owner.start()
    assert owner.tell(first) == []
    (total,) = owner.tell(second)
    assert labels(total) == ["total"]
    (parent,) = total.chain.shared
    assert parent == Mapped(map_states=[Success(None, "a[0]"), Success(None, "a[1]")])


def test_step_with_a_reduction_of_its_own_map_waits_for_the_reduction():
    with Flow("centre") as flow:
        a = named("a").map([0, 1])
        named("c").map(a, unmapped(named("mean")(a)))
    owner = Owner(flow)
    assert owner.run_all(owner.start()) == [["a[0]"], ["a[1]"], ["mean"], ["c[0]"], ["c[1]"]]


def test_iterator_is_pulled_as_the_window_allows():
    pulled = []

    def numbers():
        for n in range(4):
            pulled.append(n)
            yield n

    with Flow("iterator") as flow:
        named("b").map(named("a").map(numbers()))
    owner = Owner(flow, window=2)
    first, _ = owner.start()
    assert pulled == [0, 1]
    (third,) = owner.tell(first)
    assert (labels(third), third.items, pulled) == (["a[2]", "b[2]"], (2,), [0, 1, 2])


# ---------------------------------------------------------------------- flattened maps


def flat_flow():
    with Flow("flat") as flow:
        lists = named("lists").map([0, 1])
        flat = named("flat").map(flatten(lists))
        named("total")(flat)
    return flow


def test_elements_of_one_item_start_before_another_is_done():
    owner = Owner(flat_flow())
    first, second = owner.start()
    jobs = owner.tell(second, Success(None, ["x", "y"]), widths=[2])
    assert [job.items for job in jobs] == [("x",), ("y",)]
    assert len(owner.tell(first, Success(None, ["z"]), widths=[1])) == 1


def test_elements_are_in_map_order_whatever_order_they_came_in():
    owner = Owner(flat_flow())
    first, second = owner.start()
    later = owner.tell(second, Success(None, ["y", "z"]), widths=[2])
    earlier = owner.tell(first, Success(None, ["x"]), widths=[1])
    (total,) = [job for each in [*later, *earlier] for job in owner.tell(each, Success(None, each.items[0].upper()))]
    assert labels(total) == ["total"]
    assert total.chain.shared[0].result == ["X", "Y", "Z"]


def test_flattened_map_without_elements_ends_with_its_source():
    owner = Owner(flat_flow())
    first, second = owner.start()
    assert owner.tell(first, Success(None, []), widths=[0]) == []
    assert shown(owner.tell(second, Success(None, []), widths=[0])) == ["total"]
    assert owner.state("flat").map_states == []


def test_failed_item_is_one_element_that_carries_its_state():
    owner = Owner(flat_flow())
    first, _ = owner.start()
    failed = Failed("no list")
    (job,) = owner.tell(first, failed)
    assert job.items == (failed,)


# ---------------------------------------------------------------------- records


def test_record_that_comes_again_is_dropped():
    with Flow("fence") as flow:
        named("total")(named("a").map([0, 1]))
    owner = Owner(flow)
    first, second = owner.start()
    owner.tell(first, Success(None, "first"))
    assert owner.tell(first, Success(None, "again")) == []
    (total,) = owner.tell(second)
    assert total.chain.shared[0].result == ["first", "a[1]"]
    assert owner.progress.run_state.submitted_jobs == 1


def test_records_of_one_job_may_come_one_by_one():
    with Flow("pieces") as flow:
        named("b").map(named("a").map([0]))
    owner = Owner(flow)
    (job,) = owner.start()
    owner.advance(Receipt(job, [(1, Record(Success(None, "b")))]))
    assert owner.progress.run_state.submitted_jobs == 1
    owner.advance(Receipt(job, [(0, Record(Success(None, "a"))), (1, Record(Failed()))]))
    assert owner.progress.run_state.submitted_jobs == 0
    assert owner.state("b").result == ["b"]


def test_state_of_every_step_can_be_asked_at_any_time():
    with Flow("snapshots") as flow:
        a = named("a").map([0, 1])
        named("b")(a)
    owner = Owner(flow)
    assert [type(s) for s in owner.progress.states()] == [Pending] * 3
    first, _ = owner.start()
    owner.tell(first)
    assert owner.state("a").map_states == [Success(None, "a[0]"), Pending()]
    assert owner.state("b") == Pending()
    assert type(owner.progress.verdict()) is Running


# ---------------------------------------------------------------------- what waits


def retrying(run_count=1):
    return Retrying("again", run_count=run_count, start_time=BEGINNING)


def test_retry_leaves_the_window_and_comes_back_when_it_is_due():
    with Flow("retry") as flow:
        named("a", retries=3).map([0, 1])
    owner = Owner(flow, window=1)
    (first,) = owner.start()
    (second,) = owner.advance(Receipt(first, [(0, Record(retrying(), due_in_seconds=5.0))]))
    assert labels(second) == ["a[1]"]
    assert owner.progress.next_due == 5.0
    assert owner.tell(second) == []
    assert not owner.progress.done
    assert owner.pass_time(4.9) == []
    (again,) = owner.pass_time(0.2)
    assert labels(again) == ["a[0]"]
    assert again.submission == first.submission + 1
    assert again.starts[0].run_count == 1
    assert again.items == first.items
    assert owner.tell(again) == []
    assert owner.progress.done


def test_start_time_of_a_retry_is_given_by_the_clock_of_the_owner():
    with Flow("retry") as flow:
        named("a", retries=3)(1)
    owner = Owner(flow)
    (job,) = owner.start()
    owner.seconds = 100.0
    owner.advance(Receipt(job, [(0, Record(retrying(), due_in_seconds=5.0))]))
    assert owner.state("a").start_time == BEGINNING + timedelta(seconds=105)


def test_retries_are_due_in_the_order_of_their_times():
    with Flow("retry") as flow:
        named("a", retries=3).map([0, 1, 2])
    owner = Owner(flow)
    for job, due_in_seconds in zip(owner.start(), [3.0, 1.0, 2.0], strict=True):
        owner.advance(Receipt(job, [(0, Record(retrying(), due_in_seconds=due_in_seconds))]))
    assert [shown(owner.pass_time(1.0)) for _ in range(3)] == [["a[1]"], ["a[2]"], ["a[0]"]]


def test_what_follows_a_retry_is_submitted_with_it_and_nothing_that_is_final():
    with Flow("retry") as flow:
        a = named("a").map([0])
        b = named("b", retries=1).map(a)
        named("c").map(b)
    owner = Owner(flow)
    (job,) = owner.start()
    done = Success(None, "a")
    owner.advance(
        Receipt(job, [(0, Record(done)), (1, Record(retrying(), due_in_seconds=1.0)), (2, Record(Pending()))])
    )
    (again,) = owner.pass_time(1.0)
    assert labels(again) == ["b[0]", "c[0]"]
    assert again.given == {0: done}
    assert set(again.starts) == {1}


def test_side_step_of_a_retry_continues_meanwhile():
    with Flow("retry") as flow:
        a = named("a").map([0])
        b, c = named("b", retries=1).map(a), named("c").map(a)
        named("d").map(b, c)
    owner = Owner(flow)
    (job,) = owner.start()
    assert labels(job) == ["a[0]", "b[0]", "c[0]", "d[0]"]
    records = [Success(None, 1), retrying(), Success(None, 3), Pending()]
    owner.advance(Receipt(job, [(p, Record(s, due_in_seconds=1.0 if p == 1 else None)) for p, s in enumerate(records)]))
    (again,) = owner.pass_time(1.0)
    assert labels(again) == ["b[0]", "d[0]"]
    assert again.given == {0: records[0], 2: records[2]}


def test_pause_without_a_time_ends_the_run_unfinished():
    with Flow("pause") as flow:
        a = named("a").map([0, 1])
        named("b")(a)
    owner = Owner(flow)
    first, second = owner.start()
    owner.tell(first, Paused("ask me"))
    assert not owner.progress.done
    owner.tell(second)
    assert owner.progress.done
    assert owner.progress.next_due is None
    assert [type(s) for s in owner.state("a").map_states] == [Paused, Success]
    assert owner.progress.verdict().exit_code == 5


def test_pause_with_a_time_is_a_timer():
    with Flow("pause") as flow:
        named("a")(1)
    owner = Owner(flow)
    (job,) = owner.start()
    owner.advance(Receipt(job, [(0, Record(Paused(start_time=BEGINNING), due_in_seconds=2.0))]))
    (again,) = owner.pass_time(2.0)
    assert type(again.starts[0]) is Paused


# ---------------------------------------------------------------------- given states


def test_finished_states_are_not_submitted():
    with Flow("given") as flow:
        a = named("a")(1)
        named("b")(a)
    owner = Owner(flow, starts={a: Success(None, 5)})
    (job,) = owner.start()
    assert labels(job) == ["b"]
    assert job.chain.shared == (Success(None, 5),)


def test_children_of_a_given_map_start_where_they_stood():
    later = Scheduled(start_time=BEGINNING + timedelta(seconds=7))
    with Flow("given") as flow:
        a = named("a").map(range(5))
    given = Mapped(map_states=[Success(None, "kept"), None, Paused(), later, Resume(start_time=BEGINNING)])
    owner = Owner(flow, starts={a: given})
    jobs = owner.start()
    assert shown(jobs) == ["a[1]", "a[4]"]
    assert [job.starts.get(0) for job in jobs] == [None, given.map_states[4]]
    for job in jobs:
        owner.tell(job)
    assert owner.progress.next_due == 7.0
    (late,) = owner.pass_time(7.0)
    owner.tell(late)
    assert owner.progress.done
    assert [type(s) for s in owner.state("a").map_states] == [Success, Success, Paused, Success, Success]


def test_running_state_blocks_what_reads_it():
    with Flow("given") as flow:
        a = named("a")(1)
        named("b")(a)
        named("c")(1)
    owner = Owner(flow, starts={a: Running()})
    assert shown(owner.start()) == ["c"]


def test_window_moves_over_rows_that_are_final_already():
    with Flow("given") as flow:
        a = named("a").map(range(1000))
        named("b").map(a)
    owner = Owner(flow, window=1, starts={a: Mapped(map_states=[Success(None, i) for i in range(999)])})
    (job,) = owner.start()
    assert labels(job) == ["b[0]"]
    assert job.given or job.items


# ---------------------------------------------------------------------- losses


def test_lost_child_is_a_suspect_that_runs_again_alone():
    with Flow("lost") as flow:
        named("a").map(range(4))
    owner = Owner(flow, window=2)
    first, second = owner.start()
    assert owner.lose(first) == []  # nothing new is admitted, and the other may end
    (again,) = owner.tell(second)
    assert (labels(again), again.solo) == (["a[0]"], True)
    assert again.submission > first.submission
    jobs = owner.tell(again)
    assert shown(jobs) == ["a[2]", "a[3]"]
    assert not any(job.solo for job in jobs)


def test_child_that_takes_its_worker_along_alone_has_crashed():
    with Flow("lost") as flow:
        a = named("a").map(range(2))
        named("b", trigger=triggers.all_finished).map(a)
    owner = Owner(flow)
    first, second = owner.start()
    owner.tell(second)
    (alone,) = owner.lose(first)
    (behind,) = owner.lose(alone, deaths=3)
    crashed = owner.state("a").map_states[0]
    assert type(crashed) is Crashed
    assert crashed.message == "worker died 3 times while running a-1[0]"
    assert crashed.cause == "killed-worker"
    assert labels(behind) == ["b[0]"]
    assert behind.given == {0: crashed}
    assert owner.changes[-1] == ("a", "Pending", "Crashed")
    owner.tell(behind)
    assert owner.progress.done


def test_crash_retries_are_runs_alone():
    with Flow("lost") as flow:
        named("a", crash_retries=1)(1)
    owner = Owner(flow)
    (job,) = owner.start()
    (alone,) = owner.lose(job)
    (again,) = owner.lose(alone)
    assert again.solo
    assert owner.lose(again) == []
    assert type(owner.state("a")) is Crashed
    assert owner.progress.verdict().exit_code == 3


def test_record_of_a_lost_job_that_comes_late_is_dropped():
    with Flow("lost") as flow:
        named("a")(1)
    owner = Owner(flow)
    (job,) = owner.start()
    (alone,) = owner.lose(job)
    assert owner.tell(job, Failed("a zombie's")) == []
    owner.tell(alone, Success(None, "mine"))
    assert owner.state("a") == Success(None, "mine")


def test_end_gives_every_child_a_state_without_asking_triggers():
    with Flow("end") as flow:
        a = named("a").map(range(3))
        named("b", trigger=triggers.always_run)(a)
    owner = Owner(flow, window=2)
    first, _ = owner.start()
    owner.tell(first)
    owner.progress.cancellation.end(lambda run, row: Failed(f"open {row}"), TriggerFailed("never"), owner.moment)
    assert owner.progress.done
    assert [s.message for s in owner.state("a").map_states][1:] == ["open 1", "open 2"]
    assert owner.state("b").message == "never"


def test_cancelled_child_that_has_not_begun_ends_when_its_turn_comes():
    with Flow("cancels") as flow:
        first = named("first").map(list(range(4)))
        named("second").map(first)
    owner = Owner(flow, window=1)
    jobs = owner.start()
    owner.progress.cancellation.cancel("first-1", 2, owner.moment)
    owner.progress.cancellation.cancel("second-1", 3, owner.moment)
    order = owner.run_all(jobs)
    assert ["second[2]"] in order  # its trigger is asked, as behind any child that was cancelled
    assert ["first[3]"] in order
    assert not any("first[2]" in each or "second[3]" in each for each in order)
    assert [type(s).__name__ for s in owner.state("first").map_states] == ["Success", "Success", "Cancelled", "Success"]
    assert type(owner.state("second").map_states[3]).__name__ == "Cancelled"
    assert owner.state("first").map_states[2].message == "cancelled"
