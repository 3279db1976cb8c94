"""A parameterised report on a schedule: dates, templates, a mail that a handler would send."""

import datetime
from datetime import timedelta

import prefect
from prefect import Flow, Parameter, task
from prefect.core.parameter import DateTimeParameter
from prefect.schedules import Schedule
from prefect.schedules.clocks import CronClock, IntervalClock
from prefect.schedules.filters import is_weekday
from prefect.tasks.templates import StringFormatter
from prefect.utilities.notifications import callback_factory

SENT = []
send = callback_factory(lambda task, state: SENT.append(state.result), check=lambda state: state.is_successful())
schedule = Schedule(
    clocks=[
        IntervalClock(
            start_date=datetime.datetime(2020, 1, 1),
            interval=timedelta(days=1),
            parameter_defaults={"region": "emea"},
            labels=["reports"],
        ),
        CronClock("0 6 * * 1", parameter_defaults={"region": "amer"}),
    ],
    filters=[is_weekday],
)
body = StringFormatter(template="{region}: {total} on {day}", state_handlers=[send])


@task
def total(region, since):
    assert since is None or since.tzinfo is not None
    return {"emea": 3, "amer": 4}[region]


@task
def day():
    return prefect.context.get("today")


with Flow("report", schedule=schedule) as flow:
    region = Parameter("region", default="emea")
    since = DateTimeParameter("since", required=False)
    text = body(region=region, total=total(region, since), day=day())

OPTIONS = {"run_on_schedule": False, "parameters": {"since": "2021-02-03T04:05:06"}}


def check(state):
    assert state.is_successful(), state
    assert state.result[text].result.startswith("emea: 3 on 20")
    assert len(schedule.next(3)) == 3
