"""Schedules, notifications and approvals as users write them: mypy --strict accepts every line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from prefectish import Flow, history, pause_task, task
from prefectish.engine.state import Failed, State
from prefectish.schedules import CronSchedule, IntervalSchedule, Schedule, adjustments, filters
from prefectish.schedules.clocks import ClockEvent, CronClock, DatesClock, IntervalClock, RRuleClock
from prefectish.utilities.notifications import apprise_notifier, email_notifier, slack_notifier


@task(state_handlers=[slack_notifier])
def order() -> int:
    pieces = pause_task("how many?", input=int)
    assert_type(pieces, int)
    assert_type(pause_task("shall I?"), Any)
    return pieces


def build() -> Flow:
    schedule = Schedule(
        [
            CronClock("0 9 * * 1-5", timezone="America/New_York", parameter_defaults={"region": "us"}),
            IntervalClock(timedelta(hours=6), start_date=datetime(2026, 1, 1, tzinfo=UTC)),
            DatesClock([datetime(2026, 1, 1, tzinfo=UTC)]),
            RRuleClock("FREQ=MONTHLY;BYDAY=-1FR", start_date=datetime(2026, 1, 1, tzinfo=UTC)),
        ],
        filters=[filters.is_weekday, lambda moment: moment.month != 8],
        adjustments=[adjustments.next_weekday],
        catch_up=True,
    )
    assert_type(schedule.next(3), list[datetime])
    assert_type(schedule.next(3, return_events=True), list[ClockEvent])
    handlers = [
        slack_notifier(only_states=[Failed]),
        email_notifier("ops@example.com", "flows@example.com", ignore_states=[Failed]),
        apprise_notifier("URLS"),
    ]
    with Flow("orders", schedule=schedule, state_handlers=handlers) as flow:
        order()
    return flow


def run(flow: Flow) -> State | None:
    flow.schedule = CronSchedule("0 9 * * *") if flow.schedule is None else IntervalSchedule(timedelta(days=1))
    state = flow.run(run_on_schedule=False)
    assert_type(state, State)
    handle = flow.start()
    handle.approve(order, input=3)
    return history.run(state.context["flow_run_id"]).approve(order, input=3, flow=flow)
