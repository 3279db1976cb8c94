"""Schedules as JSON: what is read back has the same events."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from prefectish.errors import FlowDefinitionError
from prefectish.schedules import CronSchedule, IntervalSchedule, Schedule, adjustments, clocks, filters
from prefectish.schedules.as_json import from_json, to_json

BEFORE = datetime(2026, 3, 1, 7, tzinfo=UTC)
SCHEDULES: dict[str, Schedule] = {
    "cron over a change of clocks": CronSchedule("30 2 * * *", timezone="Europe/Berlin", catch_up=True),
    "days of a zone": IntervalSchedule(
        timedelta(days=1), datetime(2026, 3, 1, tzinfo=UTC), timezone="America/New_York"
    ),
    "hours until a day": IntervalSchedule(timedelta(hours=7), end_date=datetime(2026, 3, 9, tzinfo=UTC)),
    "dates with parameters": Schedule(
        [clocks.DatesClock([datetime(2026, 4, 2, tzinfo=UTC)], parameter_defaults={"region": "eu"})]
    ),
    "the first Monday": Schedule([clocks.CronClock("0 9 1-7 * MON", day_or=False)]),
    "a rule": Schedule(
        [clocks.RRuleClock("FREQ=MONTHLY;BYDAY=-1FR", datetime(2026, 1, 1, 9, tzinfo=UTC), timezone="Asia/Tokyo")]
    ),
    "filters and adjustments": Schedule(
        [clocks.IntervalClock(timedelta(hours=1), timezone="Europe/Berlin")],
        filters=[filters.is_weekday, filters.between_times(time(9), time(17, 30))],
        or_filters=[filters.between_dates(3, 1, 4, 15), filters.is_month_end, filters.is_day_of_week(2)],
        not_filters=[filters.on_datetime(datetime(2026, 3, 2, 11, tzinfo=UTC))],
        adjustments=[adjustments.add(timedelta(minutes=-5)), adjustments.next_weekday],
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_that_was_written_down_has_the_same_events(name: str) -> None:
    schedule = SCHEDULES[name]
    again = from_json(json.loads(json.dumps(to_json(schedule))))
    assert again.next(60, BEFORE, return_events=True) == schedule.next(60, BEFORE, return_events=True)
    assert again.catch_up == schedule.catch_up


def own_filter(moment: datetime) -> bool:
    return moment.hour == 3


class OwnClock(clocks.Clock):
    def moments(self, after: datetime) -> Any:
        yield after + timedelta(hours=1)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            Schedule([clocks.IntervalClock(timedelta(hours=1))], filters=[own_filter]),
            "own_filter.*of filters: it is code",
        ),
        (Schedule([OwnClock()]), "cannot keep the clock.*OwnClock"),
        (
            IntervalSchedule(timedelta(days=1), timezone=datetime.fromisoformat("2026-01-01T00:00:00+02:00").tzinfo),
            "time zone.*name one",
        ),
    ],
)
def test_code_cannot_be_written_down(schedule: Schedule, message: str) -> None:
    with pytest.raises(FlowDefinitionError, match=message):
        to_json(schedule)
