"""Clocks that are set under a run, and times at the edge of what can be written: rows t of the fault matrix."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from real import note, notes

from prefectish import Flow, context, pause_task, task
from prefectish.engine import signals
from prefectish.engine.clock import LATEST, Clock, RunClock
from prefectish.engine.state import Paused, Retrying, Scheduled, Success
from prefectish.testing import VirtualClock, assert_states

pytestmark = pytest.mark.time_limit(120)

HOUR = timedelta(hours=1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
JUMPS = {"back": -3600.0, "forward": 3600.0}

both_ways = pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
here = pytest.mark.parametrize("executor", ["local", "synchronous", "threads"], indirect=True)


def set_clock(seconds):
    """Set the wall clock of this process off by so many seconds from the machine's; 0 sets it right again.

    Not `time.time` itself: Dask reads it too, and what it makes of a clock that is set is not ours to test.
    """
    real = getattr(Clock.wall, "real", Clock.wall)

    def shifted(clock):
        return real(clock) + timedelta(seconds=seconds)

    shifted.real = real
    Clock.wall = shifted if seconds else real


@pytest.fixture
def clocks_set_right(request):
    """Set the clocks right that a test set, also those of the shared workers: a retry may run on another one."""
    yield
    set_clock(0)
    if request.node.callspec.params.get("executor") == "dask":
        request.getfixturevalue("dask_client").run(set_clock, 0)


def jumping(path, jump, delay, by_handler):
    """Return a task whose wall clock jumps in its first attempt, by its body or by its handler, wherever that runs."""

    def jump_once(task, old, new):
        if by_handler and isinstance(new, Retrying):
            set_clock(jump)

    @task(max_retries=2, retry_delay=delay, state_handlers=[jump_once])
    def unsteady(x):
        note(path, f"{x} {time.monotonic()}")
        if context.task_run_count == 1:
            if not by_handler:
                set_clock(jump)
            raise OSError("not yet")
        set_clock(0)
        return x

    return unsteady


@both_ways
@pytest.mark.parametrize("by_handler", [False, True], ids=["in the body", "in the handler"])
@pytest.mark.usefixtures("clocks_set_right")
def test_t1_t2_retry_comes_after_its_delay_whatever_the_wall_clock_of_its_process_does(run, tmp_path, jump, by_handler):
    path = tmp_path / "attempts"
    unsteady = jumping(path, jump, 0.3, by_handler)
    with Flow("jumps") as flow:
        out = unsteady(1)
    began = time.monotonic()
    state = run(flow)
    assert_states(state, {out: Success(result=1)})
    assert time.monotonic() - began < 60
    first, second = (float(line.split()[1]) for line in notes(path))
    assert second - first >= 0.3


@both_ways
@pytest.mark.usefixtures("clocks_set_right")
def test_t1_t2_retry_comes_after_its_delay_whatever_the_wall_clock_of_the_owner_does(run, tmp_path, jump):
    path = tmp_path / "attempts"

    @task(max_retries=1, retry_delay=0.3)
    def unsteady():
        note(path, time.monotonic())
        if context.task_run_count == 1:
            raise OSError("not yet")
        return "done"

    def jump_at_start(flow, old, new):
        set_clock(jump)

    with Flow("jumps", state_handlers=[jump_at_start]) as flow:
        out = unsteady()
    state = run(flow)
    assert_states(state, {out: Success(result="done")})
    first, second = map(float, notes(path))
    assert 0.3 <= second - first < 60


@here
@both_ways
def test_t1_t2_times_of_a_child_never_run_backwards(executor, jump):
    seen = []

    @task(max_retries=3, retry_delay=60)
    def unsteady():
        if context.task_run_count == 2:
            clock.set_wall(clock.now() + timedelta(seconds=jump))
        if context.task_run_count < 4:
            raise OSError("not yet")

    with VirtualClock(NOON) as clock, Flow("jumps") as flow:
        unsteady()
    with clock, recorded(seen):
        flow.run(executor=executor, history=False)
    assert len(seen) == 4
    assert all(earlier <= later for earlier, later in pairwise(seen))
    spans = [(later - earlier).total_seconds() for earlier, later in pairwise(seen)]
    assert spans == [60 + max(0.0, jump) if n == 0 else 60 for n in range(3)]


class recorded:
    """Collect the times of all records of a run."""

    def __init__(self, seen):
        self.seen = seen
        self.patch = pytest.MonkeyPatch()

    def __enter__(self):
        seen = self.seen

        class Recorder:
            address = "history.db"

            def started(self, *about):
                pass

            def watch(self, *about):
                pass

            def log(self, *about):
                pass

            def record(self, events):
                seen.extend(event.wall for event in events)

            def ended(self, plan, states, state):
                return state

            def failed(self, error):
                pass

        self.patch.setattr("prefectish.engine.driver.run.load_recorder", lambda history: Recorder())

    def __exit__(self, *error):
        self.patch.undo()


def test_t1_wall_clock_of_a_run_continues_from_where_it_was():
    clock = VirtualClock(NOON)
    run = RunClock(clock)
    told = [run.moment().wall]
    clock.set_wall(NOON - HOUR)
    told.append(run.moment().wall)
    clock.advance(90)
    told.append(run.moment().wall)
    clock.set_wall(NOON + HOUR)
    told.append(run.moment().wall)
    assert told == [NOON, NOON, NOON + timedelta(seconds=90), NOON + HOUR]


@pytest.mark.parametrize("jump", [-HOUR, HOUR], ids=JUMPS)
@here
def test_t1_t2_limits_follow_the_monotonic_clock(executor, jump):
    @task(timeout=60)
    def nap(seconds):
        clock.set_wall(clock.now() + jump)
        clock.sleep(seconds)
        return seconds

    with VirtualClock(NOON) as clock, Flow("naps") as flow:
        short, long = nap(59), nap(61)
    with clock:
        state = flow.run(executor=executor, history=False, timeout=1800)
    assert_states(state, {short: "Success", long: "TimedOut"})


# ---------------------------------------------------------------------- T5


NAIVE = datetime(2026, 3, 1, 12)


@pytest.mark.parametrize("kind", [Scheduled, Retrying, Paused])
def test_t5_naive_start_time_of_a_state_is_refused(kind):
    with pytest.raises(ValueError, match=r"start_time 2026-03-01T12:00:00 has no time zone; write start_time\.replace"):
        kind(start_time=NAIVE)


@pytest.mark.parametrize("signal", [signals.RETRY, signals.PAUSE])
def test_t5_naive_start_time_of_a_signal_fails_its_task_alone(run, signal):
    @task
    def wait():
        raise signal("later", start_time=NAIVE)

    @task
    def other():
        return "other"

    with Flow("naive") as flow:
        out, beside = wait(), other()
    state = run(flow)
    assert_states(state, {out: "Failed", beside: Success(result="other")})
    assert "has no time zone" in state.result[out].message
    assert isinstance(state.result[out].result, ValueError)


# ---------------------------------------------------------------------- T6


@task
def give(x=None):
    return "given"


PAST = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime.min.replace(tzinfo=timezone(HOUR)),
    datetime(1970, 1, 1, tzinfo=UTC),
    NOON - HOUR,
]
FAR = [
    datetime(9999, 12, 31, tzinfo=UTC),
    LATEST,
    datetime.max.replace(tzinfo=timezone(-HOUR)),
    datetime.max.replace(tzinfo=timezone(HOUR)),
]


@pytest.mark.parametrize("start", PAST, ids=str)
def test_t6_start_time_in_the_past_is_due_now(run, start):
    with Flow("past") as flow:
        out, mapped = give(), give.map([1, 2])
    with VirtualClock(NOON) as clock:
        state = run(flow, task_states={out: Scheduled(start_time=start), mapped: Retrying(start_time=start)})
    assert_states(state, {out: "Success", mapped: "Success"})
    assert clock.elapsed == 0


@pytest.mark.parametrize("start", FAR, ids=str)
def test_t6_start_time_at_the_end_of_time_is_waited_for(run, start):
    with Flow("far") as flow:
        out, beside = give(), give()
    with VirtualClock(NOON) as clock:
        state = run(flow, task_states={out: Scheduled(start_time=start)})
        assert clock.now().year == 9999
    assert_states(state, {out: "Success", beside: "Success"})


@pytest.mark.parametrize("start", FAR, ids=str)
def test_t6_run_that_waits_for_the_end_of_time_can_be_cancelled(executor, start):
    with Flow("far") as flow:
        out = give()
    run = flow.start(executor=executor, history=False, task_states={out: Scheduled(start_time=start)})
    run.cancel()
    assert_states(run.wait(60), {out: "Cancelled"})


@pytest.mark.parametrize("start", FAR, ids=str)
def test_t6_signals_of_a_body_may_name_the_end_of_time(run, start):
    @task
    def wait():
        if context.get("task_run_count") == 1 and not context.get("resume"):
            raise signals.PAUSE("later", start_time=start)
        return "waited"

    with Flow("far") as flow:
        out = wait()
    with VirtualClock(NOON):
        assert_states(run(flow), {out: Success(result="waited")})


def test_t6_longest_delays_do_not_overflow(run):
    @task(max_retries=1, retry_delay=3600, retry_backoff=lambda attempt: 1e300)
    def unsteady():
        if context.task_run_count == 1:
            raise OSError("not yet")
        return "done"

    @task
    def ask():
        pause_task("for ever", duration=timedelta.max)
        return "asked"

    with Flow("far") as flow:
        out, asked = unsteady(), ask()
    with VirtualClock(NOON):
        state = run(flow)
    assert_states(state, {out: Success(result="done"), asked: Success(result="asked")})


# ---------------------------------------------------------------------- T9


def test_t9_thousand_retries_without_delay_go_through_the_queue_and_not_the_stack(run):
    depth = []

    @task(max_retries=1000, retry_delay=0)
    def stubborn():
        frame, count = sys._getframe(), 0
        while frame is not None:
            frame, count = frame.f_back, count + 1
        depth.append(count)
        if context.task_run_count <= 1000:
            raise OSError("not yet")
        return context.task_run_count, max(depth[1:]) - min(depth[1:])  # the way to the first one may be another

    with Flow("stubborn") as flow:
        out = stubborn()
    state = run(flow)
    assert_states(state, {out: "Success"})
    attempts, spread = state.result[out].result
    assert attempts == 1001
    assert spread < 2


@here
def test_t9_retry_without_delay_waits_its_turn(executor):
    """Whoever comes first, each child has its attempts, and no sibling is left out or runs twice."""
    order = []

    @task(max_retries=3, retry_delay=0)
    def unsteady(x):
        order.append(x)
        if x == 0 and context.task_run_count < 4:
            raise OSError("not yet")

    with Flow("turns") as flow:
        unsteady.map([0, 1, 2])
    assert flow.run(executor=executor, history=False).is_successful()
    assert sorted(order) == [0, 0, 0, 0, 1, 2]
