"""Schedules: clocks with parameters and labels, a naive start, filters; run once, at once."""

from datetime import datetime, time, timedelta

from prefect import Flow, Parameter, task
from prefect.schedules import Schedule, clocks, filters
from prefect.schedules.clocks import IntervalClock

every = Schedule(
    clocks=[
        IntervalClock(start_date=datetime(2030, 1, 1), interval=timedelta(hours=1), parameter_defaults={"p": "hourly"}),
        clocks.CronClock("30 6 * * *", start_date=datetime(2030, 1, 1), labels=["dev"]),
    ],
    filters=[filters.between_times(time(6), time(8))],
)


@task
def say(p):
    return f"said {p}"


with Flow("scheduled", every) as flow:
    said = say(Parameter("p", default="now"))

OPTIONS = {"run_on_schedule": False}


def check(state):
    assert state.result[said].result == "said now"
    times = [f"{moment:%d %H:%M}" for moment in flow.schedule.next(4, after=every.clocks[0].start_date)]
    assert times == ["01 06:00", "01 06:30", "01 07:00", "01 08:00"]
