"""VirtualClock: every wait of the engine passes at once, and nothing passes that nobody waits for."""

from __future__ import annotations

import pickle
import threading
from datetime import UTC, datetime, timedelta

import pytest
from real import spend

from prefectish import Flow, context, flow, pause_task, task, triggers, unmapped
from prefectish.engine import clock as clocks
from prefectish.engine import signals
from prefectish.engine.signals import TimeoutSignal
from prefectish.engine.state import Paused, Resume, Retrying, Scheduled, Success, TimedOut
from prefectish.executors import LocalDaskExecutor, LocalExecutor
from prefectish.testing import FaultySession, VirtualClock, assert_states

# A wait that is not virtual would hang for hours.
pytestmark = pytest.mark.time_limit(60)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = 3600.0
IN_THIS_PROCESS = ["local", "synchronous", "threads"]

here = pytest.mark.parametrize("executor", IN_THIS_PROCESS, indirect=True)


@pytest.fixture
def clock():
    with VirtualClock(NOON) as made:
        yield made


# ---------------------------------------------------------------------- waits at the owner, on every executor


def test_delays_of_retries_pass_at_once_on_every_executor(run):
    @task(max_retries=3, retry_delay=6 * HOUR)
    def unsteady(x):
        if context.task_run_count <= x:
            raise OSError("not yet")
        return context.task_run_count

    with Flow("retries") as flow:
        out = unsteady.map([0, 1, 3])
    with VirtualClock() as clock:
        state = run(flow)
    assert state.result[out].result == [1, 2, 4]
    assert clock.elapsed == pytest.approx(18 * HOUR, abs=60)


def test_pause_with_a_duration_passes_at_once_on_every_executor(run):
    @task
    def ask():
        pause_task("tomorrow", duration=timedelta(days=1))
        return "asked"

    with Flow("pauses") as flow:
        out = ask()
    with VirtualClock() as clock:
        state = run(flow)
    assert_states(state, {out: Success(result="asked")})
    assert clock.elapsed == pytest.approx(86400, abs=60)


def test_start_time_of_a_task_passes_at_once_on_every_executor(run):
    @task
    def late():
        return "late"

    with Flow("starts") as flow:
        out = late()
    with VirtualClock(NOON) as clock:
        start = Scheduled(start_time=NOON + timedelta(days=365))
        state = run(flow, task_states={out: start})
    assert_states(state, {out: "Success"})
    assert clock.elapsed == 365 * 86400


def test_rate_is_kept_in_virtual_time(run):
    @task(rate=0.01)
    def slow(x):
        return x

    with Flow("rates") as flow:
        out = slow.map(range(5))
    with VirtualClock() as clock:
        state = run(flow)
    assert state.result[out].result == list(range(5))
    assert clock.elapsed == pytest.approx(400)


def test_start_time_of_a_retry_is_exact_and_of_the_clock(clock):
    seen = []

    @task(max_retries=1, retry_delay=HOUR, state_handlers=[lambda task, old, new: seen.append((new, clock.now()))])
    def unsteady():
        if context.task_run_count == 1:
            raise OSError("not yet")

    with Flow("retry") as flow:
        unsteady()
    flow.run(history=False)
    retrying = [new for new, _ in seen if isinstance(new, Retrying)]
    assert [state.start_time for state in retrying] == [NOON + timedelta(hours=1)]
    assert [now for new, now in seen if type(new).__name__ == "Running"] == [NOON, NOON + timedelta(hours=1)]


# ---------------------------------------------------------------------- time that bodies take


@here
def test_body_that_takes_its_time_is_timed_out_at_its_limit(executor, clock):
    @task(timeout=60)
    def nap(seconds):
        clock.sleep(seconds)
        return seconds

    with Flow("naps") as flow:
        out = nap.map([59, 60, 3600, 0])
        one = nap(7200)
        quick = nap(59.5)
    state = flow.run(executor=executor, history=False)
    assert_states(state, {out: ["Success", "TimedOut", "TimedOut", "Success"], one: "TimedOut", quick: "Success"})
    child = state.result[out].map_states[1]
    assert child.message == "Task timed out during execution."
    assert type(child.result) is TimeoutSignal


@here
def test_time_out_is_retried_and_total_is_for_all_attempts(executor, clock):
    @task(timeout=60, total_timeout=150, max_retries=9, retry_delay=HOUR)
    def nap():
        clock.sleep(100)

    with Flow("naps") as flow:
        out = nap()
    state = flow.run(executor=executor, history=False)
    assert_states(state, {out: "TimedOut"})
    assert clock.elapsed == 60 + HOUR + 60 + HOUR + 30


@here
def test_each_turn_of_a_loop_has_the_timeout(executor, clock):
    @task(timeout=60)
    def turns():
        clock.sleep(50)
        count = context.get("task_loop_count", 1)
        if count < 5:
            raise signals.LOOP(result=count)
        return count

    with Flow("loops") as flow:
        out = turns()
    assert_states(flow.run(executor=executor, history=False), {out: Success(result=5)})
    assert clock.elapsed == 250


@here
def test_async_body_may_take_its_time_too(executor, clock):
    @task(timeout=60)
    async def nap(seconds):
        clock.sleep(seconds)
        return seconds

    with Flow("naps") as flow:
        out = nap.map([10, 70])
    assert_states(flow.run(executor=executor, history=False), {out: ["Success", "TimedOut"]})


@here
def test_body_that_swallows_the_signal_is_timed_out_nevertheless(executor, clock):
    @task(timeout=10)
    def stubborn():
        try:
            clock.sleep(20)
        except TimeoutSignal:
            return "I had all the time"

    @task(timeout=10)
    def skips_ahead():
        clock.advance(20)
        return "moved"

    with Flow("stubborn") as flow:
        out, other = stubborn(), skips_ahead()
    assert_states(flow.run(executor=executor, history=False), {out: "TimedOut", other: "TimedOut"})


@here
def test_seconds_of_an_attempt_are_those_of_the_clock(executor, clock, tmp_path):
    from prefectish.history import runs

    @task
    def nap(x):
        clock.sleep(x)

    with Flow("naps") as flow:
        nap.map([30])
    store = str(tmp_path / "history.db")
    flow.run(executor=executor, history=store)
    (run,) = runs(store=store)
    (child,) = run.children("nap")
    assert child.duration == 30
    assert run.started == NOON
    assert run.ended == NOON + timedelta(seconds=30)


def test_bodies_on_threads_sleep_at_the_same_time(clock):
    @task
    def nap(x):
        clock.sleep(10)
        return clock.elapsed

    with Flow("naps") as flow:
        out = nap.map(range(12))
    state = flow.run(executor=LocalDaskExecutor(num_workers=4), history=False)
    assert sorted(state.result[out].result) == [10.0] * 4 + [20.0] * 4 + [30.0] * 4


def test_bodies_without_threads_sleep_one_after_the_other(clock):
    @task
    def nap(x):
        clock.sleep(10)
        return clock.elapsed

    with Flow("naps") as flow:
        out = nap.map(range(4))
    assert flow.run(history=False).result[out].result == [10, 20, 30, 40]


def test_time_stands_still_while_a_body_works(clock):
    """A sleeper beside it does not wake before, however long that takes."""
    asleep = threading.Event()

    @task
    def work():
        assert asleep.wait(60)
        before = clock.elapsed
        spend(0.3)
        return before, clock.elapsed

    @task
    def nap():
        asleep.set()
        clock.sleep(10)
        return clock.elapsed

    with Flow("beside") as flow:
        worked, napped = work(), nap()
    state = flow.run(executor=LocalDaskExecutor(num_workers=2), history=False)
    assert_states(state, {worked: Success(result=(0.0, 0.0)), napped: Success(result=10.0)})


def test_retry_that_is_due_while_a_body_sleeps_runs_meanwhile(clock):
    order = []

    @task
    def nap():
        clock.sleep(100)
        order.append(("nap", clock.elapsed))

    @task(max_retries=2, retry_delay=30)
    def unsteady():
        order.append(("unsteady", clock.elapsed))
        if context.task_run_count < 3:
            raise OSError("not yet")

    with Flow("beside") as flow:
        nap()
        unsteady()
    assert flow.run(executor=LocalDaskExecutor(num_workers=2), history=False).is_successful()
    assert order == [("unsteady", 0), ("unsteady", 30), ("unsteady", 60), ("nap", 100)]


# ---------------------------------------------------------------------- limits of maps and of runs


@here
def test_map_timeout_ends_open_children(executor, clock):
    @task(map_timeout=25)
    def nap(x):
        clock.sleep(x)
        return x

    @task(trigger=triggers.all_finished)
    def after():
        return "after"

    with Flow("maps") as flow:
        out = nap.map([10, 100])
        behind = after(upstream_tasks=[out])
    state = flow.run(executor=executor, history=False)
    assert_states(state, {out: ["Success", "TimedOut"], behind: Success(result="after")})


def test_timeout_of_a_run_ends_it_on_threads_and_leaves_no_sleeping_task(clock):
    ended = threading.Event()

    @task
    def nap():
        try:
            clock.sleep(100)
        finally:
            ended.set()

    with Flow("run") as flow:
        out = nap()
    state = flow.run(executor=LocalDaskExecutor(num_workers=2), history=False, timeout=30)
    assert_states(state, {out: "TimedOut"})
    assert clock.elapsed == 30
    assert ended.wait(60)
    assert clock.elapsed == 30, "time stands still for a body that was left behind"


def test_job_of_which_nothing_is_heard_takes_no_real_time(clock):
    @task
    def work(x):
        return x

    with Flow("silent") as flow:
        out = work.map([1, 2])
    faulty = FaultySession(LocalExecutor(), {("work", 1): "never"})
    state = flow.run(executor=faulty, history=False, timeout=24 * HOUR)
    assert_states(state, {out: ["Success", "TimedOut"]})
    assert clock.elapsed == 24 * HOUR


# ---------------------------------------------------------------------- runs in runs, and beside one another


@here
@pytest.mark.parametrize("inner_executor", IN_THIS_PROCESS)
def test_run_in_a_body_passes_its_time(executor, inner_executor, clock):
    inners = {
        "local": LocalExecutor(),
        "synchronous": LocalDaskExecutor("synchronous"),
        "threads": LocalDaskExecutor(num_workers=2),
    }

    @task(max_retries=1, retry_delay=HOUR)
    def unsteady():
        clock.sleep(10)
        if context.task_run_count == 1:
            raise OSError("not yet")
        return clock.elapsed

    with Flow("inner") as inner:
        made = unsteady()

    @task
    def outer():
        return inner.run(executor=inners[inner_executor], history=False).result[made].result

    with Flow("outer") as flow:
        out = outer()
    assert_states(flow.run(executor=executor, history=False), {out: Success(result=HOUR + 20)})


def test_limit_of_a_body_ends_the_run_in_it(clock):
    @task
    def nap():
        clock.sleep(100)

    with Flow("inner") as inner:
        nap()

    @task(timeout=60)
    def outer():
        inner.run(history=False)

    with Flow("outer") as flow:
        out = outer()
    assert_states(flow.run(history=False), {out: "TimedOut"})
    assert clock.elapsed == 60


def test_two_runs_at_once_share_the_time(clock):
    gate = threading.Barrier(2)

    @task(max_retries=1, retry_delay=HOUR)
    def unsteady(seconds):
        if context.task_run_count == 1:
            gate.wait(60)
            clock.sleep(seconds)
            raise OSError("not yet")
        return clock.elapsed

    def flow_of(seconds):
        with Flow(f"{seconds}") as flow:
            out = unsteady(seconds)
        return flow.start(history=False), out

    (one, first), (other, second) = flow_of(10), flow_of(500)
    assert one.wait(60).result[first].result >= HOUR
    assert other.wait(60).result[second].result >= HOUR
    assert clock.elapsed >= HOUR + 500


def test_run_that_waits_for_an_approval_is_cancelled_without_time_passing(clock):
    @task
    def ask():
        raise signals.PAUSE("may I?")

    with Flow("asks") as flow:
        out = ask()
    state = flow.run(history=False)
    assert type(state.result[out]) is Paused
    assert_states(flow.run(history=False, task_states={out: Resume()}), {out: "Paused"})
    assert clock.elapsed == 0


# ---------------------------------------------------------------------- what else reads the time


def test_states_and_context_show_the_clock(clock):
    @task
    def look():
        return context.date, Scheduled().start_time, clock.now()

    with Flow("looks") as flow:
        out = look()
    assert flow.run(history=False).result[out].result == (NOON, NOON, NOON)


def test_cache_expires_when_the_clock_says_so(clock):
    ran = []

    @task(cache_for=timedelta(days=1))
    def load():
        ran.append(clock.now())

    with Flow("cached") as flow:
        load()
    flow.run(history=False)
    clock.advance(timedelta(hours=23))
    flow.run(history=False)
    assert len(ran) == 1
    clock.advance(2 * HOUR)
    flow.run(history=False)
    assert ran == [NOON, NOON + timedelta(hours=25)]


# ---------------------------------------------------------------------- the clock by itself


def test_clock_starts_at_the_given_time_or_now():
    assert VirtualClock(NOON).now() == NOON
    assert abs(VirtualClock().now() - datetime.now(UTC)) < timedelta(minutes=5)
    with pytest.raises(ValueError, match="start must have a time zone, got 2026-03-01T12:00:00"):
        VirtualClock(NOON.replace(tzinfo=None))


def test_time_passes_for_a_test_without_a_run(clock):
    clock.sleep(10)
    clock.sleep(timedelta(minutes=1))
    clock.advance(5)
    assert clock.elapsed == 75
    assert clock.now() == NOON + timedelta(seconds=75)
    assert repr(clock) == "<VirtualClock at 2026-03-01T12:01:15+00:00, 75 s after its start>"


def test_wall_clock_can_be_set_back_and_time_continues(clock):
    clock.sleep(60)
    clock.set_wall(NOON - timedelta(hours=1))
    assert clock.now() == NOON - timedelta(hours=1)
    clock.sleep(30)
    assert clock.now() == NOON - timedelta(minutes=59, seconds=30)
    assert clock.elapsed == 90
    with pytest.raises(ValueError, match="time must have a time zone, got 2026-01-01T00:00:00"):
        clock.set_wall(datetime(2026, 1, 1))


@pytest.mark.parametrize("method", ["sleep", "advance"])
@pytest.mark.parametrize("wrong", [-1, float("nan"), timedelta(seconds=-1)])
def test_time_does_not_run_backwards(clock, method, wrong):
    with pytest.raises(ValueError, match="seconds must be >= 0, got "):
        getattr(clock, method)(wrong)
    assert clock.elapsed == 0


def test_one_clock_at_a_time(clock):
    with (
        pytest.raises(RuntimeError, match="another VirtualClock is active in this process; leave its block first"),
        VirtualClock(),
    ):
        pass
    assert clocks.current is clock


def test_process_has_its_clock_back_after_the_block():
    with pytest.raises(KeyError), VirtualClock():
        raise KeyError
    assert clocks.current is clocks.MACHINE


def test_clock_cannot_go_to_another_process():
    with pytest.raises(TypeError, match="a VirtualClock cannot be sent to another process: run the flow in this"):
        pickle.dumps(VirtualClock())


def test_limit_of_a_body_in_another_process_is_real(clock):
    @task(timeout=30, isolation="process")
    def quick():
        return "quick"

    with Flow("isolated") as flow:
        out = quick()
    assert_states(flow.run(history=False), {out: Success(result="quick")})
    assert clock.elapsed == 0


def test_timed_out_is_distinguished_from_a_timeout_of_the_flow(clock):
    @task(timeout=60)
    def nap():
        clock.sleep(100)

    with Flow("naps") as flow:
        out = nap()
    state = flow.run(history=False, timeout=60)
    assert type(state.result[out]) is TimedOut
    assert "the flow run took longer than its timeout of 60 s" in state.result[out].message


@here
@pytest.mark.parametrize("mapped", [False, True], ids=["single", "mapped"])
def test_run_that_is_out_of_time_ends_alike_on_every_executor(executor, clock, mapped):
    """What runs is TimedOut; steps behind it have not started, and their triggers are not asked."""
    asked = []

    @task
    def nap(x, seconds):
        clock.sleep(seconds)
        return x

    @task(trigger=lambda states: asked.append(states) or True, skip_on_upstream_skip=False)
    def behind(x):
        return x

    def call(each, *inputs):
        return each.map(*inputs) if mapped else each(*inputs)

    item = [1] if mapped else 1
    with Flow("out of time") as flow:
        before = call(nap, item, unmapped(10))
        open_ = call(nap, before, unmapped(100))
        after = call(behind, open_)
        last = behind(after)
    state = flow.run(executor=executor, history=False, timeout=60)
    assert_states(state, {before: "Success", open_: "TimedOut", after: "Cancelled", last: "Cancelled", None: "Failed"})
    (child,) = state.result[after].map_states if mapped else [state.result[after]]
    assert child.message == state.result[last].message == "never started"
    assert state.message == "The flow run took longer than its timeout of 60 s."
    assert (state.exit_code, asked, clock.elapsed) == (1, [], 60)


@here
def test_run_whose_time_is_up_between_two_bodies_has_failed(executor, clock):
    @task
    def skips_ahead():
        clock.advance(100)
        return "in time"

    @task
    def behind(x):
        return x

    with Flow("between") as flow:
        first = skips_ahead()
        second = behind(first)
    flow.run(executor=executor, history=False, timeout=60)
    state = flow.run(executor=executor, history=False, timeout=60)
    assert state.is_failed()
    assert state.message == "The flow run took longer than its timeout of 60 s."
    if isinstance(
        executor, LocalExecutor
    ):  # a thread may run the second body before the loop sees the end of the first
        assert state.result[second].message == "never started"


@here
def test_retry_that_waits_when_the_time_is_up_is_timed_out(executor, clock):
    @task(max_retries=3, retry_delay=HOUR)
    def unsteady():
        raise OSError("not yet")

    with Flow("waits") as flow:
        out = unsteady()
    state = flow.run(executor=executor, history=False, timeout=2 * HOUR + 1)
    assert_states(state, {out: "TimedOut", None: "Failed"})
    assert clock.elapsed == 2 * HOUR + 1


def test_schedule_with_an_end_passes_at_once(clock):
    from prefectish.schedules import IntervalSchedule

    ran = []

    @task
    def look():
        ran.append(clock.now())

    start, end = NOON + timedelta(hours=6), NOON + timedelta(hours=24)
    schedule = IntervalSchedule(interval=timedelta(hours=6), start_date=start, end_date=end)
    with Flow("scheduled", schedule=schedule) as flow:
        look()
    flow.run(history=False)
    assert ran == [NOON + timedelta(hours=hours) for hours in (6, 12, 18, 24)]


@here
def test_flow_function_waits_in_virtual_time(executor, clock):
    @task(max_retries=2, retry_delay=HOUR, timeout=60)
    def fetch(x):
        clock.sleep(90 if context.task_run_count < 2 else 5)
        return x

    @flow(executor=executor)
    def pages():
        first, others = fetch.submit(1), fetch.map([2, 3])
        return first.result() + sum(each.result() for each in others)

    assert pages() == 6
    assert HOUR + 65 <= clock.elapsed <= HOUR + 5 * 60
