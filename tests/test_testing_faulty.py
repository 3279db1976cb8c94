"""FaultySession: every fault on purpose ends as the same fault of a cluster does, on every executor."""

from __future__ import annotations

import os

import pytest
from bodies import double
from real import time_limit

from prefectish import Flow, context, task, triggers, unmapped
from prefectish.engine.state import Cancelled, Crashed, Success, TimedOut, TriggerFailed
from prefectish.executors import DaskExecutor, LocalExecutor
from prefectish.results import LocalResult
from prefectish.testing import FaultySession, assert_states
from prefectish.testing.faulty import FAULTS, InjectedFault


@task
def load(x):
    return x


@task(trigger=triggers.all_finished)
def count_good(xs):
    return sum(isinstance(x, int) for x in xs)


def branches(width=4, **options):
    with Flow("branches") as flow:
        loaded = load.map(range(width), task_args=options)
        doubled = double.map(loaded)
        good = count_good(doubled)
    return flow, loaded, doubled, good


def run_with(executor, flow, faults=None, **options):
    faulty = FaultySession(executor, faults, **options)
    return flow.run(executor=faulty, history=False), faulty.happened


def test_without_faults_it_is_the_executor(executor):
    flow, _, doubled, good = branches()
    state, happened = run_with(executor, flow)
    assert_states(state, {doubled: "Success", good: Success(result=4)})
    assert happened == []


def test_r11_innocent_of_a_death_runs_again_alone(executor):
    flow, loaded, doubled, _ = branches()
    state, happened = run_with(executor, flow, {("load", 2): ["killed-worker"]})
    assert_states(state, {loaded: "Success", doubled: "Success"})
    assert happened == [InjectedFault("load[2]", 0, "killed-worker")]


def test_w4_child_that_takes_each_worker_along_is_crashed_and_its_siblings_are_not(executor):
    flow, loaded, doubled, good = branches()
    state, happened = run_with(executor, flow, {(loaded, 2): "killed-worker"})
    assert_states(
        state,
        {
            loaded: ["Success", "Success", "Crashed", "Success"],
            doubled: ["Success", "Success", "TriggerFailed", "Success"],
            good: Success(result=3),
        },
    )
    crashed = state.result[loaded].map_states[2]
    assert crashed.message == "worker died 4 times while running load-1[2]"
    assert crashed.cause == "killed-worker"
    assert [h.label for h in happened] == ["load[2]"] * 2


def test_crash_retries_are_used_up_before_a_child_is_crashed(executor):
    flow, loaded, _, _ = branches(crash_retries=2)
    state, _ = run_with(executor, flow, {("load", 0): ["killed-worker"] * 3})
    assert_states(state, {loaded: "Success"})
    flow, loaded, _, _ = branches(crash_retries=2)
    state, _ = run_with(executor, flow, {("load", 0): ["killed-worker"] * 4})
    assert_states(state, {loaded: {"Success": 3, "Crashed": 1}})


@pytest.mark.parametrize("fault", ["killed-worker", "killed-worker-after", "late", "twice"])
def test_faults_of_one_child_of_a_batch_spare_the_others(executor, fault):
    flow, loaded, _, _ = branches(batch_size=2)
    state, happened = run_with(executor, flow, {("load", 1): [fault]})
    assert_states(state, {loaded: "Success"})
    assert [each.label for each in happened] == ["load[1]"]


@pytest.mark.parametrize(
    ("fault", "cause"), [("cancelled-by-cluster", "cancelled-by-cluster"), ("no-resource", "no-workers")]
)
def test_job_that_the_cluster_gives_up_is_crashed_for_that_reason(executor, fault, cause):
    flow, loaded, doubled, _ = branches()
    flow.set_reference_tasks([doubled])
    state, _ = run_with(executor, flow, {("load-1", 1): fault})
    child = state.result[loaded].map_states[1]
    assert (type(child), child.cause) == (Crashed, cause)
    assert state.exit_code == 3


def test_input_that_was_lost_is_sent_again(executor):
    flow, loaded, _, _ = branches()
    state, happened = run_with(executor, flow, {("load", 1): ["input-lost"] * 2})
    assert_states(state, {loaded: "Success"})
    assert len(happened) == 2
    flow, loaded, _, _ = branches()
    state, happened = run_with(executor, flow, {("load", 1): "input-lost"})
    assert state.result[loaded].map_states[1].cause == "input-lost"


@pytest.mark.parametrize("fault", ["scheduler-lost", "no-workers"])
def test_s_run_whose_cluster_is_lost_ends_with_a_state_for_every_child(executor, fault):
    flow, loaded, doubled, good = branches()
    state, _ = run_with(executor, flow, {("load", 0): fault})
    assert state.is_failed()
    assert state.exit_code == 3
    for task_ in (loaded, doubled):
        children = state.result[task_].map_states
        assert len(children) == 4
        assert all(isinstance(child, Crashed | Cancelled | Success) for child in children)
    assert type(state.result[loaded].map_states[0]) is Crashed
    assert_states(state, {good: Cancelled})


def test_body_has_run_when_only_its_record_is_lost(in_process, executor):
    ran = []

    @task(crash_retries=0)
    def note(x):
        ran.append(x)
        return x

    with Flow("notes") as flow:
        noted = note.map([7, 8])
    state, happened = run_with(executor, flow, {("note", 1): ["killed-worker-after"]})
    assert_states(state, {noted: "Success"})
    assert [h.fault for h in happened] == ["killed-worker-after"]
    if in_process:
        assert sorted(ran) == [7, 8, 8]
        ran.clear()
    state, _ = run_with(executor, flow, {("note", 1): ["killed-worker"]})
    assert_states(state, {noted: "Success"})
    if in_process:
        assert sorted(ran) == [7, 8]


@pytest.mark.parametrize("executor", ["local", "synchronous", "threads"], indirect=True)
def test_r10_late_record_of_an_older_submission_is_dropped(executor):
    """W8. What a frozen worker says after its time, when the attempt in its place has told its record."""
    ran, seen = [], []

    @task(state_handlers=[lambda task, old, new: seen.append(type(new).__name__)])
    def count():
        ran.append(None)
        return len(ran)

    with Flow("late") as flow:
        counted = count()
    state, happened = run_with(executor, flow, {counted: ["late"]})
    assert_states(state, {counted: Success(result=2)})
    assert [h.fault for h in happened] == ["late"]
    assert seen == ["Running", "Success"] * 2


def test_r10_record_that_comes_twice_is_taken_once(executor):
    with Flow("twice") as flow:
        loaded = load.map(range(3))
        total = task(sum, name="total")(loaded)
    state, happened = run_with(executor, flow, {"load": "twice"})
    assert_states(state, {loaded: "Success", total: Success(result=3)})
    assert len(happened) == 3


def test_child_of_which_nothing_is_heard_is_ended_by_the_time_limit_of_its_flow(executor):
    flow, loaded, _, _ = branches()
    faulty = FaultySession(executor, {("load", 3): "never"})
    state = flow.run(executor=faulty, history=False, timeout=3)
    assert type(state.result[loaded].map_states[3]) is TimedOut
    assert faulty.happened == [InjectedFault("load[3]", 0, "never")]


def test_task_behind_a_crash_cleans_up():
    @task(trigger=triggers.any_failed, skip_on_upstream_skip=False)
    def clean_up():
        return "clean"

    with Flow("cleans up") as flow:
        loaded = load(1)
        cleaned = clean_up(upstream_tasks=[loaded])
        behind = double(loaded)
    state, _ = run_with(LocalExecutor(), flow, {loaded: "killed-worker"})
    assert_states(state, {loaded: "Crashed", cleaned: Success(result="clean"), behind: TriggerFailed})


def test_faults_at_a_rate_are_those_of_the_seed_and_no_more_than_the_cap():
    def happened(seed, **options):
        # A map that may be stopped goes row by row; of others several rows begin at once, as many as have the time.
        flow, loaded, _, _ = branches(60, on_child_failure="stop")
        state, found = run_with(LocalExecutor(), flow, rates={"killed-worker": 0.2, "twice": 0.1}, seed=seed, **options)
        return found, state.result[loaded]

    one, loaded = happened(1)
    assert one == happened(1)[0] != happened(2)[0]
    assert {h.fault for h in one} == {"killed-worker", "twice"}
    assert len(loaded.map_states) == 60
    capped, loaded = happened(1, most=2)
    assert capped == one[:2]


def test_any_rate_of_innocent_deaths_costs_no_child():
    flow, loaded, doubled, _ = branches(200, crash_retries=50)
    doubled.crash_retries = 50
    state, happened = run_with(LocalExecutor(), flow, rates={"killed-worker": 0.3, "late": 0.1, "twice": 0.1}, seed=7)
    assert_states(state, {doubled: "Success"})
    assert state.result[loaded].result == list(range(200))
    assert len(happened) > 30


def test_map_index_and_run_count_are_those_of_the_child():
    @task
    def who():
        return context.task_run_count

    with Flow("who") as flow:
        asked = who()
    state, _ = run_with(LocalExecutor(), flow, {asked: ["killed-worker"]})
    assert_states(state, {asked: Success(result=1)})  # a lost submission is no attempt


def test_what_is_not_a_fault_and_no_task_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown fault 'killed'; faults are: killed-worker,"):
        FaultySession(LocalExecutor(), {"load": "killed"})
    with pytest.raises(ValueError, match="unknown fault 'killed'; faults are: killed-worker"):
        FaultySession(LocalExecutor(), {"load": [None, "killed"]})
    with pytest.raises(ValueError, match="unknown fault 'often'"):
        FaultySession(LocalExecutor(), rates={"often": 0.1})
    with pytest.raises(ValueError, match=r"rates\['late'\] must be a probability between 0 and 1, got 2"):
        FaultySession(LocalExecutor(), rates={"late": 2})
    flow, _, _, _ = branches()
    with pytest.raises(ValueError, match="faults name 'lod', which is not in the flow 'branches'"):
        run_with(LocalExecutor(), flow, {"lod": "never"})
    with pytest.raises(ValueError, match="faults name <Task: load>, which is not in the flow"):
        run_with(LocalExecutor(), flow, {(load, 1): "never"})


def test_docstring_names_every_fault():
    text = FaultySession.__doc__
    assert all(f'"{name}"' in text for name in FAULTS if not name.endswith("-after"))


def test_body_that_must_not_run_twice_does_not_when_its_record_is_lost(tmp_path):
    ran = []

    @task(rerun_on_loss=False)
    def pay(x):
        ran.append(x)
        return x

    with Flow("pays", result=LocalResult(dir=tmp_path)) as flow:
        paid = pay.map([7, 8])
    state, happened = run_with(LocalExecutor(), flow, {("pay", 1): ["killed-worker-after"]})
    assert sorted(ran) == [7, 8]
    assert [h.fault for h in happened] == ["killed-worker-after"]
    assert type(state.result[paid].map_states[0]) is Success
    assert isinstance(state.result[paid].map_states[1], Success | Crashed)


@pytest.mark.fault
def test_w4_fault_on_purpose_is_the_same_as_a_worker_that_really_dies(tmp_path):
    """What the fake gives back is honest: the same states, causes and exit code as with real processes."""

    @task
    def die(x, here):
        if x == 2 and not here:
            os._exit(3)
        return x

    def ended(executor, here):
        with Flow("dies") as flow:
            died = die.map(range(4), here=unmapped(here))
            doubled = double.map(died)
            good = count_good(doubled)
            flow.set_reference_tasks([doubled])
        state = flow.run(executor=executor, history=False)
        states = [state.result[died].map_states[2], *state.result[died].map_states, *state.result[doubled].map_states]
        crashed = states[0]
        told = crashed.message.partition(" (")[0]
        kinds = [type(each).__name__ for each in states]
        return told, crashed.cause, type(crashed.result).__name__, kinds, state.result[good].result, state.exit_code

    with time_limit(150):
        real = ended(DaskExecutor(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}), here=False)
    assert ended(FaultySession(LocalExecutor(), {("die", 2): "killed-worker"}), here=True) == real
