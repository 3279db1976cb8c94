"""Time limits of bodies, on every executor and by each of the means: alarm, helper thread, process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time

import pytest
from bodies import append, lines
from real import spend, until, wait_for_file

from prefectish import Flow, Task, context, get_logger, task, triggers
from prefectish.engine import signals
from prefectish.engine.signals import TimeoutSignal
from prefectish.engine.state import Cancelled, Failed, Mapped, Paused, Resume, Success, TimedOut
from prefectish.engine.worker.time_limit import USED, Allowance, surrounding

TEXT = "Task timed out during execution."


@task(timeout=0.3)
def hang(path, x=0):
    """Wait for a file, and tell when it has come."""
    append(path / "began", x)
    wait_for_file(path / "gate", 30)
    append(path / "late", x)
    return "late"


@task(timeout=30)
def inc(x):
    return x + 1


def assert_timed_out(state):
    assert type(state) is TimedOut
    assert state.message == TEXT
    assert type(state.result) is TimeoutSignal
    assert state.result.args == (TEXT,)


# ---------------------------------------------------------------------- the contract of every executor


def test_u14_body_is_timed_out_at_its_limit_and_its_late_result_is_dropped(run, tmp_path):
    with Flow("hangs") as flow:
        out, beside = hang(tmp_path), inc(1)
        behind = inc(out)
    began = time.monotonic()
    state = run(flow)
    assert time.monotonic() - began < 15
    assert type(state) is Failed
    assert_timed_out(state.result[out])
    assert state.result[beside] == Success(result=2)
    assert state.result[behind].is_failed()
    assert lines(tmp_path / "late") == []
    (tmp_path / "gate").touch()


@pytest.mark.parametrize("executor", ["threads", "dask"], indirect=True)
def test_u14_thread_that_is_left_behind_continues_but_changes_nothing(run, tmp_path):
    with Flow("hangs") as flow:
        out = hang(tmp_path)
    state = run(flow)
    (tmp_path / "gate").touch()
    until(lambda: lines(tmp_path / "late"))
    assert_timed_out(state.result[out])


def test_limit_frees_the_slot(run, tmp_path):
    with Flow("hangs") as flow:
        children = hang.map([tmp_path] * 5, x=list(range(5)))
        after = inc.map(list(range(5)))
    state = run(flow)
    (tmp_path / "gate").touch()
    for child in state.result[children].map_states:
        assert_timed_out(child)
    assert state.result[after].result == list(range(1, 6))


def test_body_within_its_limits_is_as_without(run):
    @task(timeout=30, total_timeout=60)
    def facts(x):
        return (x, context.map_index, context.task_run_count, context.flow_name, context.task_full_name)

    with Flow("quick") as flow:
        out = facts.map(["a", "b"])
    assert run(flow).result[out].result == [("a", 0, 1, "quick", "facts[0]"), ("b", 1, 1, "quick", "facts[1]")]


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_error_within_the_limit_is_the_bodys_own(run, isolation):
    @task(timeout=30, isolation=isolation)
    def fail():
        raise ValueError("no")

    with Flow("fails") as flow:
        out = fail()
    state = run(flow).result[out]
    assert state.message == "Error during execution of task: ValueError('no')"
    assert isinstance(state.result, ValueError)
    assert "in fail" in state.traceback


def test_signal_within_the_limit_is_heard(run):
    @task(timeout=30)
    def skip():
        raise signals.SKIP("not today")

    with Flow("skips") as flow:
        out = skip()
    assert run(flow).result[out].message == "not today"


def test_timed_out_is_retried(run, tmp_path):
    @task(timeout=1, max_retries=2, retry_delay=0)
    def second_time():
        if not os.path.exists(tmp_path / "first"):
            (tmp_path / "first").touch()
            spend(30)
        return context.task_run_count

    with Flow("retries") as flow:
        out = second_time()
    state = run(flow)
    assert state.result[out] == Success(result=2)


def test_total_timeout_ends_the_attempts(run, tmp_path):
    @task(total_timeout=0.7, max_retries=50, retry_delay=0)
    def try_again(path):
        append(path, context.task_run_count)
        spend(0.2)
        raise ValueError("again")

    with Flow("totals") as flow:
        children = try_again.map([tmp_path / "a", tmp_path / "b"])
    state = run(flow)
    for child, name in zip(state.result[children].map_states, "ab", strict=True):
        assert_timed_out(child)
        count = len(lines(tmp_path / name))
        assert 1 <= count <= 4
        assert lines(tmp_path / name) == [str(n + 1) for n in range(count)]


def test_limit_of_an_attempt_holds_within_the_total(run, tmp_path):
    with Flow("totals") as flow:
        out = hang(tmp_path, task_args={"total_timeout": 0.8, "max_retries": 50, "retry_delay": 0})
    state = run(flow)
    (tmp_path / "gate").touch()
    assert_timed_out(state.result[out])
    assert len(lines(tmp_path / "began")) in (2, 3)  # 0.3 + 0.3 + 0.2 s, on a machine that is not late


def test_each_turn_of_a_loop_has_the_timeout_and_all_have_the_total(run):
    @task
    def turns(n, seconds):
        spend(seconds)
        done = context.get("task_loop_count", 1)
        if done < n:
            raise signals.LOOP(result=done)
        return done

    with Flow("loops") as flow:
        each = turns(12, 0.1, task_args={"timeout": 1})
        total = turns(99, 0.1, task_args={"total_timeout": 0.6})
    state = run(flow)
    assert state.result[each] == Success(result=12)
    assert_timed_out(state.result[total])


def test_async_body_is_cancelled_at_its_limit(run, tmp_path):
    @task(timeout=0.3)
    async def hang_on():
        try:
            await asyncio.sleep(30)
        finally:
            append(tmp_path / "ended", "x")

    with Flow("async") as flow:
        out = hang_on()
    state = run(flow)
    assert_timed_out(state.result[out])
    until(lambda: lines(tmp_path / "ended"))
    assert lines(tmp_path / "ended") == ["x"]


def test_handlers_see_a_time_out_like_any_failure(run, tmp_path):
    def record(task, old, new):
        append(tmp_path / "changes", f"{type(old).__name__} -> {type(new).__name__}")

    with Flow("hangs") as flow:
        hang(tmp_path, task_args={"state_handlers": [record], "max_retries": 1, "retry_delay": 0})
    run(flow)
    (tmp_path / "gate").touch()
    once = ["Running -> TimedOut", "TimedOut -> Retrying", "Retrying -> Running", "Running -> TimedOut"]
    assert lines(tmp_path / "changes") == ["Pending -> Running", *once]


# ---------------------------------------------------------------------- what is left of a total


def start(seconds):
    return Paused(context={USED: seconds})


@pytest.mark.parametrize(
    ("each", "total", "used", "left"),
    [(None, None, 0, None), (2, None, 0, 2), (None, 5, 1, 4), (2, 5, 1, 2), (3, 5, 4, 1), (2, 5, 7, 0)],
)
def test_allowance_is_the_smaller_of_both(each, total, used, left):
    allowance = Allowance(inc.copy(timeout=each, total_timeout=total), start(used))
    assert allowance.left == left
    assert allowance.spent is (total is not None and used >= total)


def test_allowance_travels_with_a_state_that_waits():
    allowance = Allowance(inc.copy(total_timeout=5), start(1.5))
    assert allowance.carried_by(Paused("wait", context={"a": 1})).context == {"a": 1, USED: 1.5}
    assert allowance.carried_by(Success()).context == {}
    assert Allowance(inc, start(1.5)).carried_by(Paused()).context == {}


def test_total_that_ran_out_is_spent_whatever_the_clock_says(monkeypatch):
    monkeypatch.setattr("prefectish.engine.clock.Clock.seconds", lambda clock: 0.0)

    @task(total_timeout=0.1, max_retries=3, retry_delay=0)
    def nap():
        spend(30)
        return context.task_run_count

    assert_timed_out(run_single(nap))


def test_pause_keeps_the_time_used():
    @task(total_timeout=30)
    def ask():
        if not context.get("resume"):
            spend(0.05)
            raise signals.PAUSE("may I?")
        return "yes"

    with Flow("asks") as flow:
        out = ask()
    paused = flow.run().result[out]
    assert paused.context[USED] >= 0.05
    assert flow.run(task_states={out: Resume(context=paused.context)}).result[out].result == "yes"
    spent = Resume(context={USED: 31.0})
    ended = flow.run(task_states={out: spent}).result[out]
    assert type(ended) is TimedOut
    assert str(ended.result) == "total_timeout=30.0 s was used up by earlier attempts"


# ---------------------------------------------------------------------- the alarm of the main thread


@task(timeout=0.2)
def spin(seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def run_single(body, **options):
    with Flow("single") as flow:
        out = body(**options)
    return flow.run().result[out]


def test_alarm_stops_python_code_and_tells_where_it_was(caplog):
    began = time.monotonic()
    state = run_single(spin)
    assert time.monotonic() - began < 5
    assert_timed_out(state)
    assert "in spin" in state.traceback
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        "Task 'spin': timed out after 0.2 s and was stopped"
    ]


def test_alarm_is_put_back():
    run_single(spin)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_alarm_of_the_user_is_left_to_the_user(tmp_path, caplog):
    rung = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    try:
        state = run_single(hang, path=tmp_path)
        signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)
        (tmp_path / "gate").touch()
    assert_timed_out(state)
    assert rung == [signal.SIGALRM]
    assert "its thread still runs" in caplog.text


def test_body_that_swallows_the_timeout_is_timed_out_when_it_returns():
    @task(timeout=0.1)
    def stubborn():
        try:
            spend(30)
        except BaseException:
            return "never mind"

    assert_timed_out(run_single(stubborn))


def test_alarm_rings_again_for_a_body_that_continues(monkeypatch):
    monkeypatch.setattr("prefectish.engine.worker.time_limit.AGAIN_SECONDS", 0.2)

    @task(timeout=0.1)
    def stubborn():
        with contextlib.suppress(BaseException):
            spend(30)
        spend(30)

    began = time.monotonic()
    assert_timed_out(run_single(stubborn))
    assert time.monotonic() - began < 15


def test_body_may_clean_up_after_the_alarm():
    cleaned = []

    @task(timeout=0.1)
    def careful():
        try:
            spend(30)
        finally:
            spend(0.3)
            cleaned.append("up")

    assert_timed_out(run_single(careful))
    assert cleaned == ["up"]


def test_flow_within_a_limited_body_has_limits_of_its_own(tmp_path):
    @task(timeout=20)
    def outer():
        return [run_single(hang, path=tmp_path)]  # a state by itself would be that of the body

    state = run_single(outer)
    (tmp_path / "gate").touch()
    assert type(state) is Success
    assert_timed_out(state.result[0])


def test_limit_of_a_body_that_runs_a_flow_holds_for_the_body():
    @task
    def nap():
        spend(30)

    @task(timeout=0.2)
    def outer():
        return type(run_single(nap)).__name__

    assert_timed_out(run_single(outer))


# ---------------------------------------------------------------------- the helper thread


def in_thread(call):
    """Call something outside the main thread and return what it returns."""
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(call()))
    thread.start()
    thread.join(30)
    return outcome[0]


def test_thread_left_behind_is_warned_of_and_counted(tmp_path, caplog):
    with Flow("hangs") as flow:
        out = hang.map([tmp_path] * 2)
    state = in_thread(flow.run)
    (tmp_path / "gate").touch()
    assert [type(child) for child in state.result[out].map_states] == [TimedOut, TimedOut]
    texts = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Task ")]
    assert [text.partition(". Threads")[0] for text in texts] == [
        f"Task 'hang[{i}]': timed out after 0.3 s, but its thread still runs; its result will be thrown away"
        for i in range(2)
    ]
    counts = [int(text.partition("in this process: ")[2].partition(".")[0]) for text in texts]
    assert counts[1] == counts[0] + 1
    assert caplog.records[0].name == "prefectish.hang[0]"
    until(lambda: len(lines(tmp_path / "late")) == 2)


def test_async_body_in_a_helper_thread_leaves_none_behind(caplog):
    @task(timeout=0.1)
    async def hang_on():
        await asyncio.sleep(30)

    assert_timed_out(in_thread(lambda: run_single(hang_on)))
    assert [r.getMessage() for r in caplog.records] == [
        "Task 'hang_on': timed out after 0.1 s and was stopped",
        "failed: Task timed out during execution.",
    ]


def test_limits_hold_inside_a_running_loop(tmp_path):
    @task(timeout=0.1)
    async def hang_on():
        try:
            await asyncio.sleep(30)
        finally:
            append(tmp_path / "ended", "x")

    async def main():
        return [run_single(hang_on), run_single(spin), run_single(inc, x=1)]

    timed_out, spun, quick = asyncio.run(main())
    assert_timed_out(timed_out)
    assert lines(tmp_path / "ended") == ["x"]
    assert_timed_out(spun)
    assert quick == Success(result=2)


def test_late_log_of_a_thread_left_behind_goes_to_its_task(tmp_path, caplog):
    @task(timeout=0.1)
    def talk():
        until(lambda: (tmp_path / "gate").exists())
        context.logger.warning("late, but mine")
        (tmp_path / "late").touch()

    in_thread(lambda: run_single(talk))
    (tmp_path / "gate").touch()
    until(lambda: (tmp_path / "late").exists())
    assert [r.name for r in caplog.records if r.getMessage() == "late, but mine"] == ["prefectish.talk"]


def test_limited_body_reaches_its_dask_worker(dask_client):
    from prefectish.executors import DaskExecutor

    @task(timeout=30)
    def ask_worker():
        from distributed import get_client, get_worker

        get_logger("test").debug("asked")
        return (get_worker().address, get_client().submit(abs, -3).key is not None)

    with Flow("worker") as flow:
        out = ask_worker()
    state = flow.run(executor=DaskExecutor(client=dask_client))
    address, submitted = state.result[out].result
    assert address in dask_client.scheduler_info()["workers"]
    assert submitted


def test_u15_body_that_waits_for_a_full_cluster_is_timed_out():
    from distributed import Client, LocalCluster

    from prefectish.executors import DaskExecutor

    @task(timeout=0.5)
    def wait_for_its_own_slot():
        from distributed import get_client

        return get_client().submit(abs, -3, pure=False).result()

    one = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with Flow("full") as flow:
        out = wait_for_its_own_slot()
        after = inc(1, upstream_tasks=[out], task_args={"trigger": triggers.all_finished})
    with LocalCluster(**one) as cluster, Client(cluster) as client:
        state = flow.run(executor=DaskExecutor(client=client))
    assert_timed_out(state.result[out])
    assert state.result[after] == Success(result=2)


def test_mapped_children_time_out_one_by_one(run, tmp_path):
    @task(timeout=1)
    def nap(seconds):
        spend(seconds)
        return seconds

    with Flow("naps") as flow:
        out = nap.map([0, 30, 0])
    state = run(flow).result[out]
    assert type(state) is Mapped
    assert [type(child) for child in state.map_states] == [Success, TimedOut, Success]


# ---------------------------------------------------------------------- limits of a map and of a run, where its loop is


def sleepy(x):
    spend(30 * x)
    return x


def test_map_timeout_reaches_a_body_that_holds_up_the_loop():
    with Flow("maps") as flow:
        naps = task(sleepy, map_timeout=0.2, max_retries=3, retry_delay=0).map([0, 1, 2])
        other = task(sleepy, name="other")(0)
    began = time.monotonic()
    state = flow.run()
    assert time.monotonic() - began < 10
    text = "sleepy took longer than its map_timeout of 0.2 s"
    late = state.result[naps].map_states
    assert [(type(child), child.message) for child in late] == [
        (Success, "Task run succeeded."),
        (TimedOut, text),
        (Cancelled, "never started"),
    ]
    assert isinstance(late[1].result, TimeoutError)
    assert state.result[other].result == 0


def test_run_that_is_out_of_time_tells_on_every_executor_which_task_hung(run, tmp_path):
    @task(trigger=triggers.all_finished)
    def clean_up():
        append(tmp_path / "cleaned", "x")

    with Flow("hangs") as flow:
        before = inc(1)
        held = hang(tmp_path, before, task_args={"timeout": None})
        behind = inc(held)
        cleaned = clean_up(upstream_tasks=[behind])
    state = run(flow, timeout=4)
    (tmp_path / "gate").touch()
    assert [type(state.result[each]) for each in (before, held, behind, cleaned)] == [
        Success, TimedOut, Cancelled, Cancelled,
    ]  # fmt: skip
    assert state.result[behind].message == state.result[cleaned].message == "never started"
    assert state.message == "The flow run took longer than its timeout of 4 s."
    assert (state.is_failed(), state.exit_code) == (True, 1)
    assert lines(tmp_path / "cleaned") == []


def test_timeout_of_a_flow_reaches_a_body_that_holds_up_the_loop():
    with Flow("flow", timeout=0.2) as flow:
        nap = task(sleepy)(1)
        flow.add_task(Task("later"))
    began = time.monotonic()
    state = flow.run()
    assert time.monotonic() - began < 10
    assert state.is_failed()
    assert repr(state.result[nap]) == 'TimedOut("the flow run took longer than its timeout of 0.2 s")'


def test_own_limit_of_a_body_is_distinguished_from_that_of_the_run():
    with Flow("flow", timeout=60) as flow:
        nap = task(sleepy, timeout=0.1)(1)
    assert_timed_out(flow.run().result[nap])


def test_flow_in_a_body_has_limits_of_its_own():
    @task
    def limits():
        return surrounding.get()

    @task
    def outer():
        with Flow("inner") as inner:
            inside = limits()
        return inner.run(history=False).result[inside].result, surrounding.get() is None

    with Flow("outer", timeout=60) as flow:
        out = outer()
    assert flow.run().result[out].result == (None, False)
    assert surrounding.get() is None
