"""Flow functions with a schedule: `run` follows it as `Flow.run` does, a call and `start` run once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from prefectish import context, flow, task
from prefectish.engine.state import Failed, Success
from prefectish.errors import FlowDefinitionError, ParameterError
from prefectish.schedules import Schedule
from prefectish.schedules.clocks import DatesClock
from prefectish.testing import VirtualClock

START = datetime(2026, 5, 1, 9, tzinfo=UTC)
TIMES = [START + timedelta(seconds=20 * n) for n in (1, 2, 3)]


@pytest.fixture(autouse=True)
def clock():
    with VirtualClock(START) as clock:
        yield clock


@task
def when(x):
    return context.scheduled_start_time, x


def scheduled(times=TIMES, seen=None, **defaults):
    @flow(schedule=Schedule([DatesClock(times, parameter_defaults=defaults)]), history=False)
    def noting(x: int, fails: bool = False):
        found = when(x)
        if seen is not None:
            seen.append(found)
        if fails and found[0] == TIMES[1]:
            raise OSError("once")
        return found

    return noting


def test_run_waits_for_each_event_and_gives_the_last_state(executor):
    seen = []
    state = scheduled(seen=seen, x=7).run(executor=executor)
    assert (type(state), state.result) == (Success, (TIMES[-1], 7))
    assert seen == [(time, 7) for time in TIMES]


def test_call_start_and_run_off_schedule_run_once_and_at_once():
    noting = scheduled(x=7)
    assert noting(1)[1] == 1
    assert noting.run(x=2, run_on_schedule=False).result == (START, 2)
    assert noting.start(x=3).wait(20).result[1] == 3
    assert noting.with_options(name="other").schedule is noting.schedule


@pytest.mark.parametrize(("count", "last"), [(3, Success), (2, Failed)])
def test_run_that_fails_does_not_stop_the_schedule(count, last):
    seen = []
    state = scheduled(times=TIMES[:count], seen=seen).run(x=1, fails=True)
    assert (type(state), len(seen)) == (last, count)


def test_async_flows_are_scheduled_too():
    @flow(schedule=Schedule([DatesClock(TIMES)]), history=False)
    async def noting():
        return when(1)[0]

    assert noting.run().result == TIMES[-1]


def test_what_cannot_run_is_refused_before_the_first_event():
    with pytest.raises(ParameterError, match="missing: x"):
        scheduled().run()
    with pytest.raises(FlowDefinitionError, match="has no events after"):
        scheduled(times=[START - timedelta(hours=1)], x=1).run()
    with pytest.raises(TypeError, match="schedule must be a Schedule, got '0 9"):
        flow(schedule="0 9 * * *")(lambda: 1)
