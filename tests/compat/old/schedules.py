"""A flow with a schedule: clocks with naive dates, labels and parameters, filters and adjustments."""

from datetime import datetime, time, timedelta

from prefect import Flow, Parameter, task
from prefect.schedules import CronSchedule, IntervalSchedule, Schedule
from prefect.schedules.adjustments import next_weekday
from prefect.schedules.clocks import CronClock, DatesClock, IntervalClock
from prefect.schedules.filters import between_times, is_weekday

AFTER = datetime(2022, 3, 4, 12)  # a Friday

hourly = IntervalClock(
    start_date=datetime(2022, 1, 1), interval=timedelta(hours=1), parameter_defaults={"who": "a"}, labels=["x"]
)
daily = CronClock("30 9 * * *", start_date=datetime(2022, 1, 1), parameter_defaults={"who": "b"}, labels=["y"])
once = DatesClock([datetime(2022, 3, 7, 10, 15)])
schedule = Schedule(clocks=[hourly, daily, once], filters=[is_weekday, between_times(time(9), time(11))])
events = schedule.next(5, after=AFTER, return_events=True)

TIMES = [event.start_time.strftime("%d %H:%M") for event in events]
LABELS = [event.labels for event in events]
WEEKEND = Schedule(clocks=[CronClock("0 0 * * 6")], adjustments=[next_weekday]).next(1, after=AFTER)
INTERVALS = IntervalSchedule(start_date=datetime(2022, 3, 1), interval=timedelta(days=2)).next(2, after=AFTER)
NOONS = CronSchedule("0 12 * * *", start_date=datetime(2022, 3, 1)).next(1, after=AFTER)


@task
def greet(who):
    return f"hello {who}"


@task
def planned():
    return {
        "times": TIMES,
        "labels": LABELS,
        "weekend": WEEKEND[0].isoformat(),
        "intervals": [moment.isoformat() for moment in INTERVALS],
        "noon": NOONS[0].isoformat(),
    }


with Flow("schedules") as flow:
    greet(Parameter("who", default="you"))
    planned()

EXPECTED = {
    "greet": "hello you",
    "planned": {
        "times": ["07 09:00", "07 09:30", "07 10:00", "07 10:15", "07 11:00"],
        "labels": [["x"], ["y"], ["x"], None, ["x"]],
        "weekend": "2022-03-07T00:00:00+00:00",
        "intervals": ["2022-03-05T00:00:00+00:00", "2022-03-07T00:00:00+00:00"],
        "noon": "2022-03-05T12:00:00+00:00",
    },
}
