"""Flows that run on a schedule, by a clock that stands still unless somebody sleeps."""

from __future__ import annotations

import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from prefectish import Flow, Parameter, context, task
from prefectish.config import switch
from prefectish.engine.state import Failed, Running, Scheduled, Success
from prefectish.errors import FlowDefinitionError, ParameterError
from prefectish.schedules import CronSchedule, IntervalSchedule, Schedule
from prefectish.schedules.clocks import DatesClock, IntervalClock
from prefectish.schedules.repeat import MAX_SLEEP, repeat
from prefectish.testing import VirtualClock

START = datetime(2026, 5, 1, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


class Machine(VirtualClock):
    """A clock whose time passes in sleeps only; the machine sleeps through what `nights` says."""

    def __init__(self):
        super().__init__(START)
        self.nights = []
        self.sleeps = []

    def sleep(self, seconds):
        self.sleeps.append(seconds)
        super().sleep(seconds)
        if self.nights and self.wall() >= self.nights[0][0]:
            self.set_wall(self.nights.pop(0)[1])


@pytest.fixture
def clock():
    with Machine() as clock:
        yield clock


@pytest.fixture
def seen():
    return []


def noting_flow(seen, schedule, **options):
    @task
    def note(x):
        seen.append((context.scheduled_start_time, x))

    with Flow("noting", schedule=schedule, **options) as flow:
        note(Parameter("x", default=0))
    return flow


def run(flow, **options):
    return flow.run(history=False, **options)


def every_hour(n, **options):
    return Schedule([DatesClock([START + (i + 1) * HOUR for i in range(n)])], **options)


# ---------------------------------------------------------------------- on time, until it ends


def test_flow_runs_at_each_event_until_the_schedule_ends(clock, seen):
    state = run(noting_flow(seen, every_hour(3)))
    assert type(state) is Success
    assert seen == [(START + (i + 1) * HOUR, 0) for i in range(3)]
    assert clock.wall() == START + 3 * HOUR


def test_flow_starts_when_it_is_time(clock):
    started = []

    @task
    def note():
        started.append(clock.wall())

    with Flow("noting", schedule=every_hour(2)) as flow:
        note()
    run(flow)
    assert started == [START + HOUR, START + 2 * HOUR]
    assert max(clock.sleeps) <= MAX_SLEEP


def test_flow_begins_scheduled_for_the_event(clock):
    changes = []
    schedule = every_hour(1)
    with Flow("noting", schedule=schedule, state_handlers=[lambda flow, old, new: changes.append((old, new))]) as flow:
        task(lambda: None, name="nothing")()
    run(flow)
    first = changes[0]
    assert (type(first[0]), first[0].start_time, type(first[1])) == (Scheduled, START + HOUR, Running)


def test_scheduled_start_time_is_one_object_in_all_attempts_and_cannot_be_overridden(clock, seen):
    @task(max_retries=2, retry_delay=30)
    def fail_twice():
        seen.append(context.scheduled_start_time)
        if context.task_run_count < 3:
            raise ValueError("again")

    with Flow("retrying", schedule=every_hour(1)) as flow:
        fail_twice()
    run(flow, context={"scheduled_start_time": "never"})
    assert seen == [START + HOUR] * 3
    assert seen[0] is seen[1] is seen[2]


def test_event_brings_parameters_for_its_run_only(clock, seen):
    schedule = Schedule(
        [
            DatesClock([START + HOUR], parameter_defaults={"x": 1}),
            DatesClock([START + 2 * HOUR]),
            DatesClock([START + 3 * HOUR], parameter_defaults={"x": 3}),
        ]
    )
    run(noting_flow(seen, schedule))
    assert [x for _, x in seen] == [1, 0, 3]


def test_events_of_one_time_and_several_parameters_run_one_after_the_other(clock, seen):
    clocks = [DatesClock([START + HOUR], parameter_defaults={"x": x}) for x in (1, 2, 1)]
    run(noting_flow(seen, Schedule(clocks)))
    assert seen == [(START + HOUR, 1), (START + HOUR, 2)]


def test_parameters_that_are_passed_win_over_those_of_events(clock, seen):
    schedule = Schedule([DatesClock([START + HOUR], parameter_defaults={"x": 1})])
    flow = noting_flow(seen, schedule)
    run(flow, x=7)
    clock.set_wall(START)
    with context(parameters={"x": 8}):
        run(flow)
    assert [x for _, x in seen] == [7, 8]


def test_failing_runs_do_not_stop_the_schedule(clock, seen):
    @task
    def fail():
        seen.append(context.scheduled_start_time)
        raise ValueError("always")

    with Flow("failing", schedule=every_hour(3)) as flow:
        fail()
    assert type(run(flow)) is Failed
    assert len(seen) == 3


def test_executor_that_cannot_start_does_not_stop_the_schedule(clock, seen, caplog):
    from prefectish.executors import LocalExecutor

    class Shaky(LocalExecutor):
        starts = 0

        def start(self, plan, facts):
            self.starts += 1
            if self.starts != 2:
                raise ConnectionError("no scheduler here")
            return super().start(plan, facts)

    flow = noting_flow(seen, every_hour(3))
    state = run(flow, executor=Shaky())
    assert seen == [(START + 2 * HOUR, 0)]
    assert type(state) is Failed
    assert isinstance(state.result, ConnectionError)
    assert state.message.startswith("the run of 2026-05-01 12:00:00+00:00 was aborted: ConnectionError")
    assert [r.message for r in caplog.records if r.levelno == logging.ERROR] == [
        f"Flow 'noting': the run of 2026-05-01 {hour}:00:00+00:00 was aborted; the schedule continues"
        for hour in (10, 12)
    ]


def test_interrupt_stops_the_schedule(clock):
    def run_once(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repeat(every_hour(3), run_once, "interrupted", clock)
    assert clock.wall() == START + HOUR


def test_task_states_belong_to_the_first_run(clock, seen):
    flow = noting_flow(seen, every_hour(2))
    (note,) = (t for t in flow.tasks if t.name == "note")
    run(flow, task_states={note: Success(result=None)})
    assert [at for at, _ in seen] == [START + 2 * HOUR]


def test_long_waits_are_slept_in_short_steps(clock):
    """A clock that is set back meanwhile does not run the flow early, nor late."""
    ran = []
    clock.nights = [(START + 30 * MINUTE, START - 3 * HOUR)]
    repeat(every_hour(1), lambda event: ran.append(clock.wall()) or Success(), "set back", clock)
    assert ran == [START + HOUR]


# ---------------------------------------------------------------------- T10: late and missed events


def test_t10_event_that_was_slept_over_runs_once_when_awake(clock, seen):
    clock.nights = [(START + 10 * MINUTE, START + 90 * MINUTE)]
    run(noting_flow(seen, every_hour(3)))
    assert [at - START for at, _ in seen] == [HOUR, 2 * HOUR, 3 * HOUR]


def test_t10_missed_events_are_not_made_up_for(clock, seen, caplog):
    clock.nights = [(START + 10 * MINUTE, START + 4.5 * HOUR)]
    run(noting_flow(seen, every_hour(6)))
    assert [at - START for at, _ in seen] == [4 * HOUR, 5 * HOUR, 6 * HOUR]
    (warning,) = (r.message for r in caplog.records if r.levelno == logging.WARNING)
    assert warning.startswith(
        "Flow 'noting': 3 events since 2026-05-01 10:00:00+00:00 were missed; only the last is run"
    )


def test_t10_missed_events_are_made_up_for_if_asked(clock, seen):
    clock.nights = [(START + 10 * MINUTE, START + 4.5 * HOUR)]
    run(noting_flow(seen, every_hour(6, catch_up=True)))
    assert [at - START for at, _ in seen] == [(i + 1) * HOUR for i in range(6)]


def test_t10_missed_events_run_once_for_each_set_of_parameters(clock, seen):
    hours = [START + (i + 1) * HOUR for i in range(3)]
    schedule = Schedule([DatesClock(hours, parameter_defaults={"x": x}) for x in (1, 2)])
    clock.nights = [(START + 10 * MINUTE, START + 2.5 * HOUR)]
    run(noting_flow(seen, schedule))
    assert [((at - START) / HOUR, x) for at, x in seen] == [(2, 1), (2, 2), (3, 1), (3, 2)]


def test_t10_run_that_takes_longer_than_the_interval_is_followed_by_one_at_once(clock):
    ran = []

    def run_once(event):
        ran.append(((event.start_time - START) / HOUR, (clock.wall() - START) / HOUR))
        if len(ran) == 1:
            clock.advance(2.5 * HOUR)
        return Success()

    repeat(every_hour(5), run_once, "slow", clock)
    assert ran == [(1, 1), (3, 3.5), (4, 4), (5, 5)]


def test_t10_last_events_are_run_too_if_the_machine_slept_beyond_the_end(clock, seen):
    clock.nights = [(START + 10 * MINUTE, START + 99 * HOUR)]
    run(noting_flow(seen, every_hour(3)))
    assert [at - START for at, _ in seen] == [3 * HOUR]


# ---------------------------------------------------------------------- at once


def test_run_on_schedule_false_runs_once_at_once(clock, seen):
    run(noting_flow(seen, IntervalSchedule(HOUR)), run_on_schedule=False)
    assert seen == [(START, 0)]
    assert clock.sleeps == []


def test_run_on_schedule_is_a_setting_too(clock, seen, monkeypatch, tmp_path):
    flow = noting_flow(seen, every_hour(2))
    monkeypatch.setenv("PREFECTISH_RUN_ON_SCHEDULE", "false")
    run(flow)
    assert len(seen) == 1
    run(flow, run_on_schedule=True)
    assert len(seen) == 3
    monkeypatch.delenv("PREFECTISH_RUN_ON_SCHEDULE")
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text("run_on_schedule = false\n")
    clock.set_wall(START)
    run(flow)
    assert len(seen) == 4


def test_run_with_a_state_to_begin_with_waits_for_no_schedule(clock, seen):
    flow = noting_flow(seen, every_hour(2))
    run(flow, state=Scheduled(start_time=START - HOUR))
    assert seen == [(START - HOUR, 0)]
    done = Success()
    assert run(flow, state=done) is done


def test_background_run_waits_for_no_schedule(clock, seen):
    flow = noting_flow(seen, every_hour(2))
    flow.start(history=False).wait(60)
    assert len(seen) == 1


PROGRAM = """
from datetime import UTC, datetime, timedelta

from prefectish import Flow, task
from prefectish.schedules import IntervalSchedule

@task
def tell():
    print("ran")

with Flow("yearly", schedule=IntervalSchedule(timedelta(days=365))) as flow:
    tell()
"""


def test_command_runs_once_with_now(tmp_path):
    (tmp_path / "yearly.py").write_text(PROGRAM)
    call = [sys.executable, "-m", "prefectish.cli", "run", str(tmp_path / "yearly.py"), "--now"]
    done = subprocess.run([*call, "--history", str(tmp_path / "h.db")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "ran" in done.stdout.splitlines()


# ---------------------------------------------------------------------- what is refused


def test_schedule_without_a_future_is_refused_at_the_start(clock, seen):
    past = CronSchedule("0 9 * * *", timezone="America/New_York", end_date=START - HOUR)
    flow = noting_flow(seen, past)
    with pytest.raises(
        ValueError, match=r"^the schedule of flow 'noting' has no events after 2026-05-01 09:00:00"
    ) as caught:
        run(flow)
    assert isinstance(caught.value, FlowDefinitionError)
    assert "end_date=2026-05-01 04:00:00-04:00" in str(caught.value)
    assert str(caught.value).endswith("run_on_schedule=False runs the flow at once")
    assert type(run(flow, run_on_schedule=False)) is Success


def test_parameters_of_all_clocks_are_checked_before_the_first_wait(clock):
    with Flow("strict") as flow:
        task(lambda x: x, name="take")(Parameter("x", required=True))
    flow.schedule = Schedule([IntervalClock(HOUR, parameter_defaults={"x": 1}), IntervalClock(HOUR)])
    with pytest.raises(ParameterError, match=r"^missing: x$"):
        run(flow)
    flow.schedule = Schedule([IntervalClock(HOUR, parameter_defaults={"x": 1, "y": 2})])
    with pytest.raises(ParameterError, match=r"^parameter_defaults of the schedule: unknown: y$"):
        run(flow)
    assert clock.sleeps == []


@pytest.mark.parametrize("wrong", ["0 9 * * *", IntervalClock(HOUR), [IntervalClock(HOUR)]])
def test_what_is_not_a_schedule_is_refused(wrong):
    with pytest.raises(TypeError, match=r"^schedule must be a Schedule, got "):
        Flow("f", schedule=wrong)


def test_setting_that_is_neither_true_nor_false_is_refused(monkeypatch):
    monkeypatch.setenv("PREFECTISH_RUN_ON_SCHEDULE", "maybe")
    with pytest.raises(ValueError, match=r"^PREFECTISH_RUN_ON_SCHEDULE must be true or false, got 'maybe' \(from"):
        switch("run_on_schedule", default=True)
    monkeypatch.setenv("PREFECTISH_RUN_ON_SCHEDULE", "Yes")
    assert switch("run_on_schedule", default=False) is True


def test_flow_with_a_schedule_is_copied_with_it():
    schedule = IntervalSchedule(HOUR)
    assert Flow("f", schedule=schedule).copy().schedule is schedule
