"""Events of clocks and schedules: order, zones and their changes, filters, adjustments, and what is refused."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, time, timedelta, timezone
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import FR, MONTHLY, WEEKLY, rrule, rruleset
from hypothesis import given
from hypothesis import strategies as st

from prefectish.errors import FlowDefinitionError
from prefectish.schedules import CronSchedule, IntervalSchedule, Schedule, adjustments, filters
from prefectish.schedules.clocks import Clock, ClockEvent, CronClock, DatesClock, IntervalClock, RRuleClock

NEW_YORK = "America/New_York"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def utc(*numbers):
    return datetime(*numbers, tzinfo=UTC)


def eastern(*numbers):
    return datetime(*numbers, tzinfo=ZoneInfo(NEW_YORK))


def shown(moments):
    return [moment.strftime("%Y-%m-%d %H:%M %Z") for moment in moments]


def times(clock, n, after):
    return [event.start_time for event in islice(clock.events(after), n)]


# ---------------------------------------------------------------------- the seed's schedule, and changes of the clocks


def test_weekdays_at_nine_eastern_stay_at_nine_over_both_changes_of_the_clocks():
    schedule = CronSchedule("0 9 * * 1-5", timezone=NEW_YORK)
    assert shown(schedule.next(3, after=utc(2026, 3, 5, 20))) == [
        "2026-03-06 09:00 EST",
        "2026-03-09 09:00 EDT",
        "2026-03-10 09:00 EDT",
    ]
    assert shown(schedule.next(3, after=utc(2026, 10, 29, 20))) == [
        "2026-10-30 09:00 EDT",
        "2026-11-02 09:00 EST",
        "2026-11-03 09:00 EST",
    ]


def test_zone_of_the_start_date_is_the_clocks():
    schedule = CronSchedule("0 9 * * 1-5", start_date=eastern(2026, 3, 6, 9))
    assert shown(schedule.next(2, after=utc(2020, 1, 1))) == ["2026-03-06 09:00 EST", "2026-03-09 09:00 EDT"]


@pytest.mark.parametrize(
    ("zone", "after", "expected"),
    [
        (NEW_YORK, (2026, 3, 7, 12), ["2026-03-08 03:30 EDT", "2026-03-09 02:30 EDT"]),
        ("Europe/Berlin", (2026, 3, 28, 12), ["2026-03-29 03:30 CEST", "2026-03-30 02:30 CEST"]),
    ],
)
@pytest.mark.parametrize("kind", ["cron", "interval", "rrule"])
def test_t3_time_in_the_spring_gap_runs_once_shifted(kind, zone, after, expected):
    clock = {
        "cron": lambda: CronClock("30 2 * * *", timezone=zone),
        "interval": lambda: IntervalClock(DAY, start_date=datetime(2026, 1, 1, 2, 30, tzinfo=ZoneInfo(zone))),
        "rrule": lambda: RRuleClock("FREQ=DAILY", start_date=datetime(2026, 1, 1, 2, 30, tzinfo=ZoneInfo(zone))),
    }[kind]()
    assert shown(times(clock, 2, utc(*after))) == expected


def test_t3_asked_for_in_the_gap_itself_the_shifted_event_is_still_ahead():
    clock = CronClock("30 2 * * *", timezone=NEW_YORK)
    gap_is_over = utc(2026, 3, 8, 7, 10)  # 3:10 on the wall: 2:30 lies behind, its event does not
    assert shown(times(clock, 1, gap_is_over)) == ["2026-03-08 03:30 EDT"]


def test_t3_shifted_and_plain_events_come_in_order_and_once():
    every_half_hour = CronClock("0,30 * * * *", timezone=NEW_YORK)
    assert shown(times(every_half_hour, 4, utc(2026, 3, 8, 6, 15))) == [
        "2026-03-08 01:30 EST",
        "2026-03-08 03:00 EDT",
        "2026-03-08 03:30 EDT",
        "2026-03-08 04:00 EDT",
    ]
    # Half an hour is skipped: 2:10 is put off to 2:40, behind 2:35.
    lord_howe = CronClock("10,35 2 * * *", timezone="Australia/Lord_Howe")
    assert [t.strftime("%H:%M") for t in times(lord_howe, 2, utc(2026, 10, 3, 12))] == ["02:35", "02:40"]


def test_t3_day_that_a_zone_left_out_is_put_off_whole():
    clock = CronClock("0 12 * * *", timezone="Pacific/Apia")  # no 30 December 2011 in Samoa
    noons = times(clock, 3, utc(2011, 12, 29, 0))
    assert [t.strftime("%m-%d %H:%M") for t in noons] == ["12-29 12:00", "12-31 12:00", "01-01 12:00"]
    assert [t.strftime("%m-%d %H:%M") for t in times(clock, 1, utc(2011, 12, 30, 12))] == ["12-31 12:00"]


@pytest.mark.parametrize(
    ("zone", "after", "expected"),
    [
        (NEW_YORK, (2026, 10, 31, 12), ["2026-11-01 01:30 EDT", "2026-11-02 01:30 EST"]),
        ("Europe/London", (2026, 10, 24, 12), ["2026-10-25 01:30 BST", "2026-10-26 01:30 GMT"]),
    ],
)
def test_t4_time_in_the_autumn_fold_runs_once_for_days(zone, after, expected):
    for clock in (
        CronClock("30 1 * * *", timezone=zone),
        IntervalClock(DAY, start_date=datetime(2026, 1, 1, 1, 30, tzinfo=ZoneInfo(zone))),
    ):
        assert shown(times(clock, 2, utc(*after))) == expected


def test_t4_between_both_times_the_first_lies_behind():
    clock = CronClock("30 1 * * *", timezone=NEW_YORK)
    assert shown(times(clock, 1, utc(2026, 11, 1, 6, 15))) == ["2026-11-02 01:30 EST"]  # 1:15 for the second time


def test_t4_intervals_below_a_day_run_by_elapsed_time():
    clock = IntervalClock(HOUR / 2, start_date=eastern(2026, 10, 1))
    found = times(clock, 5, utc(2026, 11, 1, 5, 15))
    assert shown(found) == [
        "2026-11-01 01:30 EDT",
        "2026-11-01 01:00 EST",
        "2026-11-01 01:30 EST",
        "2026-11-01 02:00 EST",
        "2026-11-01 02:30 EST",
    ]
    assert [t.astimezone(UTC).minute for t in found] == [30, 0, 30, 0, 30]
    in_spring = times(IntervalClock(HOUR / 2, timezone=NEW_YORK), 3, utc(2026, 3, 8, 6, 15))
    assert shown(in_spring) == ["2026-03-08 01:30 EST", "2026-03-08 03:00 EDT", "2026-03-08 03:30 EDT"]


def test_t4_both_times_of_the_fold_are_kept_apart_by_a_schedule():
    schedule = IntervalSchedule(HOUR, start_date=eastern(2026, 11, 1, 0), end_date=utc(2026, 11, 1, 7))
    assert shown(schedule.next(9, after=utc(2026, 1, 1))) == [
        "2026-11-01 00:00 EDT",
        "2026-11-01 01:00 EDT",
        "2026-11-01 01:00 EST",
        "2026-11-01 02:00 EST",
    ]


def test_cron_whose_days_must_fit_both():
    first_mondays = CronClock("0 9 1-7 * MON", timezone="Europe/Berlin", day_or=False).events(utc(2026, 3, 1))
    found = [event.start_time for event in islice(first_mondays, 3)]
    assert [(moment.month, moment.day, moment.hour) for moment in found] == [(3, 2, 9), (4, 6, 9), (5, 4, 9)]


def test_hourly_cron_has_no_event_in_the_hour_that_is_repeated():
    clock = CronClock("0 * * * *", timezone=NEW_YORK)
    assert shown(times(clock, 3, utc(2026, 11, 1, 4, 30))) == [
        "2026-11-01 01:00 EDT",
        "2026-11-01 02:00 EST",
        "2026-11-01 03:00 EST",
    ]


# ---------------------------------------------------------------------- T8: leap days and ends of months

T8 = [
    # expression, after, the event
    ("0 0 31 * *", (2026, 1, 31), (2026, 3, 31)),
    ("0 0 31 * *", (2026, 3, 31), (2026, 5, 31)),
    ("0 0 31 * *", (2026, 5, 31), (2026, 7, 31)),
    ("0 0 31 * *", (2026, 7, 31), (2026, 8, 31)),
    ("0 0 31 * *", (2026, 12, 31), (2027, 1, 31)),
    ("0 0 30 * *", (2026, 1, 30), (2026, 3, 30)),
    ("0 0 L * *", (2026, 1, 31), (2026, 2, 28)),
    ("0 0 L * *", (2028, 1, 31), (2028, 2, 29)),
    ("0 0 L * *", (2026, 3, 31), (2026, 4, 30)),
    ("0 0 29 2 *", (2026, 1, 1), (2028, 2, 29)),
    ("0 0 29 2 *", (2028, 2, 29), (2032, 2, 29)),
    ("0 0 29 2 *", (2096, 2, 29), (2104, 2, 29)),  # 2100 is no leap year
    ("0 0 * 2 MON#5", (2026, 1, 1), (2044, 2, 29)),
    ("0 0 * * 5L", (2026, 2, 1), (2026, 2, 27)),
    ("0 0 * * FRI#5", (2026, 2, 1), (2026, 5, 29)),
    ("FREQ=MONTHLY;BYMONTHDAY=-1", (2026, 2, 1), (2026, 2, 28)),
    ("FREQ=MONTHLY;BYMONTHDAY=31", (2026, 4, 1), (2026, 5, 31)),
    ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", (2026, 1, 1), (2028, 2, 29)),
    ("FREQ=MONTHLY;BYDAY=-1FR", (2026, 2, 1), (2026, 2, 27)),
    ("FREQ=YEARLY;BYWEEKNO=53;BYDAY=MO", (2026, 1, 1), (2026, 12, 28)),
]


@pytest.mark.parametrize(("expression", "after", "expected"), T8)
def test_t8_leap_days_and_ends_of_months(expression, after, expected):
    if expression.startswith("FREQ"):
        clock = RRuleClock(expression, start_date=utc(2020, 1, 1))
    else:
        clock = CronClock(expression)
    assert times(clock, 1, utc(*after)) == [utc(*expected)]


def test_t8_table_has_twenty_dates():
    assert len(T8) == 20


def test_t8_monthly_interval_of_thirty_days_counts_days():
    clock = IntervalClock(30 * DAY, start_date=utc(2026, 1, 31))
    assert times(clock, 3, utc(2026, 1, 1)) == [utc(2026, 1, 31), utc(2026, 3, 2), utc(2026, 4, 1)]


# ---------------------------------------------------------------------- clocks


def test_events_lie_strictly_after():
    at = utc(2026, 5, 1, 9)
    for clock in (
        CronClock("0 9 * * *"),
        IntervalClock(DAY, start_date=at - DAY),
        IntervalClock(HOUR, start_date=at - DAY),
        DatesClock([at, at + DAY]),
        RRuleClock("FREQ=DAILY", start_date=at),
    ):
        assert times(clock, 1, at)[0] > at
        assert times(clock, 1, at - timedelta(microseconds=1)) == [at]


def test_start_and_end_dates_belong_to_the_events():
    for clock in (
        CronClock("0 9 * * *", start_date=utc(2026, 5, 1, 9), end_date=utc(2026, 5, 2, 9)),
        IntervalClock(DAY, start_date=utc(2026, 5, 1, 9), end_date=utc(2026, 5, 2, 9)),
        RRuleClock("FREQ=DAILY", start_date=utc(2026, 5, 1, 9), end_date=utc(2026, 5, 2, 9)),
    ):
        assert times(clock, 5, utc(2020, 1, 1)) == [utc(2026, 5, 1, 9), utc(2026, 5, 2, 9)]


def test_now_is_the_default():
    before = datetime.now(UTC)
    (soon,) = IntervalSchedule(timedelta(seconds=10)).next(1)
    assert before < soon <= datetime.now(UTC) + timedelta(seconds=10)


def test_interval_without_a_start_is_counted_from_a_monday_at_midnight_of_its_zone():
    clock = IntervalClock(7 * DAY, timezone=NEW_YORK)
    assert shown(times(clock, 1, utc(2026, 5, 1))) == ["2026-05-04 00:00 EDT"]


def test_interval_of_a_day_and_a_half_follows_the_wall_clock():
    clock = IntervalClock(1.5 * DAY, start_date=eastern(2026, 3, 7, 0))
    assert shown(times(clock, 3, utc(2026, 1, 1))) == [
        "2026-03-07 00:00 EST",
        "2026-03-08 12:00 EDT",
        "2026-03-10 00:00 EDT",
    ]


def test_clocks_end_where_time_does():
    after = utc(9999, 12, 30, 12)
    assert len(times(IntervalClock(DAY), 5, after)) == 1
    assert len(times(CronClock("0 0 * * *"), 5, after)) == 1
    assert len(times(RRuleClock("FREQ=DAILY", start_date=utc(9999, 12, 1)), 5, after)) == 1


def test_dates_are_sorted_and_come_once():
    clock = DatesClock([utc(2026, 5, 2), utc(2026, 5, 1), utc(2026, 5, 2)])
    assert times(clock, 5, utc(2026, 1, 1)) == [utc(2026, 5, 1), utc(2026, 5, 2)]


def test_rules_of_dateutil_are_taken_as_they_are():
    aware = RRuleClock(rrule(MONTHLY, byweekday=FR(-1), dtstart=eastern(2026, 1, 1, 17)))
    assert shown(times(aware, 3, utc(2026, 2, 1))) == [
        "2026-02-27 17:00 EST",
        "2026-03-27 17:00 EDT",
        "2026-04-24 17:00 EDT",
    ]
    naive = RRuleClock(rrule(WEEKLY, dtstart=datetime(2026, 1, 5, 9), count=2), timezone=NEW_YORK)
    assert shown(times(naive, 3, utc(2026, 1, 1))) == ["2026-01-05 09:00 EST", "2026-01-12 09:00 EST"]
    several = rruleset()
    several.rrule(rrule(WEEKLY, dtstart=utc(2026, 1, 5)))
    several.exdate(utc(2026, 1, 12))
    assert times(RRuleClock(several), 2, utc(2026, 1, 1)) == [utc(2026, 1, 5), utc(2026, 1, 19)]


def test_rules_as_texts_keep_their_own_start_and_zone():
    clock = RRuleClock("DTSTART;TZID=America/New_York:20260307T090000\nRRULE:FREQ=DAILY")
    assert [t.astimezone(UTC).hour for t in times(clock, 2, utc(2026, 1, 1))] == [14, 13]
    until = RRuleClock("FREQ=DAILY;UNTIL=20260102T090000Z", start_date=utc(2026, 1, 1, 9))
    assert times(until, 5, utc(2025, 1, 1)) == [utc(2026, 1, 1, 9), utc(2026, 1, 2, 9)]
    until = RRuleClock("FREQ=DAILY;UNTIL=20260102", start_date=utc(2026, 1, 1, 0))
    assert times(until, 5, utc(2025, 1, 1)) == [utc(2026, 1, 1), utc(2026, 1, 2)]


def test_zone_of_another_library_is_taken_by_its_name():
    class Other(type(ZoneInfo("UTC")).__bases__[0]):  # a tzinfo that knows only one of both times 1:30
        zone = NEW_YORK

        def utcoffset(self, moment):
            return timedelta(hours=-5)

        def dst(self, moment):
            return None

        def tzname(self, moment):
            return "fixed"

    clock = CronClock("0 9 * * *", timezone=Other())
    assert shown(times(clock, 1, utc(2026, 6, 1, 0))) == ["2026-06-01 09:00 EDT"]


def test_clock_of_ones_own_gives_moments():
    class Sunrise(Clock):
        def moments(self, after):
            return iter([utc(2026, 6, 21, 3, 42), utc(2026, 6, 22, 3, 43)])

    assert Schedule([Sunrise()]).next(5, after=utc(2026, 6, 21, 12)) == [utc(2026, 6, 22, 3, 43)]
    with pytest.raises(NotImplementedError, match=r"Clock has no moments\(\)"):
        next(Clock().events())


# ---------------------------------------------------------------------- several clocks


def test_events_of_several_clocks_come_in_one_order():
    schedule = Schedule([CronClock("0 9 * * *", timezone=NEW_YORK), CronClock("0 9 * * *", timezone="Asia/Tokyo")])
    assert [t.astimezone(UTC).strftime("%d %H") for t in schedule.next(4, after=utc(2026, 6, 1, 1))] == [
        "01 13",
        "02 00",
        "02 13",
        "03 00",
    ]


def test_equal_events_collapse_and_other_parameters_do_not():
    clocks = [
        IntervalClock(DAY),
        CronClock("0 0 * * *"),
        IntervalClock(DAY, parameter_defaults={"region": "eu"}),
        IntervalClock(DAY, parameter_defaults={"region": "us"}),
        IntervalClock(DAY, parameter_defaults={"region": "eu"}),
    ]
    events = Schedule(clocks).next(4, after=utc(2026, 5, 1), return_events=True)
    assert [event.parameter_defaults for event in events] == [{}, {"region": "eu"}, {"region": "us"}, {}]
    assert [event.start_time for event in events] == [utc(2026, 5, 2)] * 3 + [utc(2026, 5, 3)]


def test_parameters_that_cannot_be_compared_are_different():
    class Array:
        def __eq__(self, other):
            raise ValueError("the truth value of an array is ambiguous")

        __hash__ = None

    clocks = [IntervalClock(DAY, parameter_defaults={"rows": Array()}) for _ in range(2)]
    assert len(set(Schedule(clocks).next(2, after=utc(2026, 5, 1)))) == 1


def test_events_are_equal_by_instant_and_parameters():
    one = ClockEvent(utc(2026, 5, 1, 13))
    same = ClockEvent(datetime(2026, 5, 1, 9, tzinfo=timezone(-4 * HOUR)))
    assert one == same
    assert hash(one) == hash(same)
    assert one != ClockEvent(utc(2026, 5, 1, 13), {"x": 1})
    assert one != "2026-05-01"
    assert repr(ClockEvent(utc(2026, 5, 1), {"x": 1})) == "<ClockEvent: 2026-05-01 00:00:00+00:00, {'x': 1}>"


hours = st.integers(0, 400)
defaults = st.sampled_from([None, {"x": 1}, {"x": 2}])
dates_clocks = st.builds(
    lambda at, zone, values: DatesClock([utc(2026, 10, 25) + n * HOUR / 2 for n in at], zone, values),
    st.lists(hours, min_size=1, max_size=8),
    st.sampled_from(["UTC", NEW_YORK, "Europe/Berlin", "Australia/Lord_Howe"]),
    defaults,
)
interval_clocks = st.builds(
    lambda minutes, start, zone, values: IntervalClock(
        timedelta(minutes=minutes), (utc(2026, 10, 20) + start * HOUR).astimezone(ZoneInfo(zone)), None, None, values
    ),
    st.integers(7, 3000),
    hours,
    st.sampled_from(["UTC", NEW_YORK, "Europe/Berlin", "Australia/Lord_Howe"]),
    defaults,
)
cron_clocks = st.builds(
    lambda minute, hour, zone, values: CronClock(f"{minute} {hour} * * *", None, None, zone, values),
    st.integers(0, 59),
    st.sampled_from(["*", "1", "2", "1-3", "*/5"]),
    st.sampled_from(["UTC", NEW_YORK, "Europe/Berlin", "Australia/Lord_Howe"]),
    defaults,
)
clocks = st.lists(st.one_of(dates_clocks, interval_clocks, cron_clocks), min_size=1, max_size=4)
starts = st.one_of(  # around both changes of the clocks in several zones
    st.builds(lambda n: utc(2026, 10, 24) + n * HOUR / 4, st.integers(0, 1000)),
    st.builds(lambda n: utc(2026, 3, 7) + n * HOUR / 4, st.integers(0, 2200)),
)


@given(clocks, starts)
def test_events_of_any_clocks_are_in_order_after_the_start_and_each_once(clocks, after):
    events = Schedule(clocks).next(12, after=after, return_events=True)
    instants = [event.instant for event in events]
    assert instants == sorted(instants)
    assert all(instant > after for instant in instants)
    keys = [(event.instant, str(event.parameter_defaults)) for event in events]
    assert len(set(keys)) == len(keys)


@given(clocks, starts)
def test_events_are_those_of_the_clocks_by_themselves(clocks, after):
    merged = Schedule(clocks).next(10, after=after, return_events=True)
    if len(merged) == 10:
        horizon = merged[-1].instant
        merged = [event for event in merged if event.instant < horizon]
    else:
        horizon = utc(9999, 1, 1)
    alone = set()
    for clock in clocks:
        for event in islice(clock.events(after), 40):
            if event.instant >= horizon:
                break
            alone.add((event.instant, str(event.parameter_defaults)))
    assert {(event.instant, str(event.parameter_defaults)) for event in merged} == alone


@given(clocks, starts, st.integers(1, 8))
def test_asking_again_after_an_event_continues_from_there(clocks, after, n):
    schedule = Schedule(clocks)
    first = schedule.next(n, after=after, return_events=True)
    if not first:
        return
    rest = schedule.next(5, after=first[-1].start_time.astimezone(UTC), return_events=True)
    both = schedule.next(n + 20, after=after, return_events=True)
    assert [e for e in both if e.instant > first[-1].instant][: len(rest)] == rest


@given(clocks, starts, st.lists(st.integers(-100, 100), max_size=2))
def test_adjusted_events_are_in_order_and_lie_after_the_start(clocks, after, shifts):
    moved = [adjustments.add(timedelta(hours=shift)) for shift in shifts]
    schedule = Schedule(clocks, adjustments=[*moved, adjustments.next_weekday])
    instants = [event.instant for event in schedule.next(8, after=after, return_events=True)]
    assert instants == sorted(instants)
    assert all(instant > after for instant in instants)
    assert all(moment.weekday() < 5 for moment in schedule.next(8, after=after))


# ---------------------------------------------------------------------- filters and adjustments


def test_all_filters_any_or_filter_and_no_not_filter_let_an_event_stay():
    schedule = Schedule(
        [IntervalClock(HOUR)],
        filters=[filters.is_weekday, filters.between_times(time(9), time(17))],
        or_filters=[filters.at_time(time(9)), filters.at_time(time(13)), filters.at_time(time(20))],
        not_filters=[filters.on_date(5, 1), filters.between_dates(12, 24, 1, 2)],
    )
    assert [t.strftime("%m-%d %H") for t in schedule.next(4, after=utc(2026, 4, 30, 10))] == [
        "04-30 13",
        "05-04 09",  # the first of May is a Friday
        "05-04 13",
        "05-05 09",
    ]
    assert schedule.next(1, after=utc(2026, 12, 23, 20))[0] == utc(2027, 1, 4, 9)


def test_filters_see_the_clocks_own_zone():
    schedule = Schedule([IntervalClock(HOUR, timezone="Asia/Tokyo")], filters=[filters.at_time(time(9))])
    assert schedule.next(1, after=utc(2026, 5, 1, 12)) == [utc(2026, 5, 2, 0)]


@pytest.mark.parametrize(
    ("keep", "yes", "no"),
    [
        (filters.on_datetime(utc(2026, 5, 1, 9)), utc(2026, 5, 1, 9), utc(2026, 5, 1, 10)),
        (filters.on_datetime(utc(2026, 5, 1, 13)), eastern(2026, 5, 1, 9), eastern(2026, 5, 1, 13)),
        (filters.on_date(5, 1), utc(2026, 5, 1, 23), utc(2026, 5, 2)),
        (filters.on_date(2, 29), utc(2028, 2, 29), utc(2028, 2, 28)),
        (filters.at_time(time(9)), utc(2026, 5, 1, 9), utc(2026, 5, 1, 9, 0, 1)),
        (filters.between_datetimes(utc(2026, 5, 1), utc(2026, 5, 2)), utc(2026, 5, 2), utc(2026, 5, 2, 1)),
        (filters.between_dates(5, 1, 6, 1), utc(2030, 6, 1, 23), utc(2030, 6, 2)),
        (filters.between_dates(12, 24, 1, 2), utc(2026, 1, 2), utc(2026, 1, 3)),
        (filters.between_times(time(9), time(17)), utc(2026, 5, 1, 17), utc(2026, 5, 1, 17, 1)),
        (filters.between_times(time(22), time(6)), utc(2026, 5, 1, 5), utc(2026, 5, 1, 7)),
        (filters.is_weekday, utc(2026, 5, 1), utc(2026, 5, 2)),
        (filters.is_weekend, utc(2026, 5, 3), utc(2026, 5, 4)),
        (filters.is_month_start, utc(2026, 5, 1), utc(2026, 5, 31)),
        (filters.is_month_end, utc(2028, 2, 29), utc(2028, 2, 28)),
        (filters.is_day_of_week(0), utc(2026, 5, 4), utc(2026, 5, 3)),
        (filters.is_month_end, utc(9999, 12, 31), utc(9999, 12, 30)),
    ],
)
def test_filter_keeps_and_drops(keep, yes, no):
    assert keep(yes) is True
    assert keep(no) is False


def test_adjustments_move_events_and_those_that_meet_are_one():
    schedule = Schedule([CronClock("0 9 * * *")], adjustments=[adjustments.next_weekday])
    friday = utc(2026, 5, 1, 10)
    assert [t.day for t in schedule.next(3, after=friday)] == [4, 5, 6]


def test_event_that_was_moved_past_the_start_is_still_ahead():
    saturdays = Schedule([CronClock("0 9 * * SAT")], adjustments=[adjustments.next_weekday])
    sunday = utc(2026, 5, 3, 12)
    assert saturdays.next(2, after=sunday) == [utc(2026, 5, 4, 9), utc(2026, 5, 11, 9)]


def test_moved_events_are_put_in_order():
    schedule = Schedule([CronClock("0 9,18 * * *")], adjustments=[adjustments.next_weekday])
    assert [t.strftime("%d %H") for t in schedule.next(4, after=utc(2026, 5, 1, 20))] == [
        "04 09",
        "04 18",
        "05 09",
        "05 18",
    ]


def test_moved_event_that_clocks_jump_over_is_put_off():
    schedule = Schedule([CronClock("30 2 * * SAT", timezone=NEW_YORK)], adjustments=[lambda t: t + DAY])
    assert shown(schedule.next(1, after=utc(2026, 3, 7))) == ["2026-03-08 03:30 EDT"]


def test_adjustment_beyond_its_reach_is_rejected():
    def next_quarter(moment):
        return moment + 90 * DAY

    with pytest.raises(FlowDefinitionError, match=r"^adjustments moved .* farther than 7 days.*attribute reach"):
        Schedule([IntervalClock(DAY)], adjustments=[next_quarter]).next(1)
    next_quarter.reach = 90 * DAY
    schedule = Schedule([IntervalClock(DAY)], adjustments=[next_quarter])
    assert schedule.next(1, after=utc(2026, 5, 1, 12)) == [utc(2026, 5, 2)]


def test_filters_that_let_nothing_through_are_found_out(monkeypatch):
    monkeypatch.setattr("prefectish.schedules.schedule.MAX_FILTERED_EVENTS", 1000)
    schedule = Schedule([IntervalClock(DAY)], filters=[filters.is_weekday, filters.is_weekend])
    with pytest.raises(FlowDefinitionError, match=r"^none of 1,000 events passes the filters of <Schedule: .* up to"):
        schedule.next(1)


# ---------------------------------------------------------------------- next, pickles, texts


def test_next_gives_as_many_as_there_are():
    schedule = Schedule([DatesClock([utc(2026, 5, 1), utc(2026, 5, 2)])])
    assert schedule.next(0, after=utc(2026, 1, 1)) == []
    assert len(schedule.next(9, after=utc(2026, 1, 1))) == 2
    assert schedule.next(9, after=utc(2026, 5, 2)) == []
    with pytest.raises(ValueError, match=r"^n must be >= 0, got -1$"):
        schedule.next(-1)


def test_schedules_can_be_pickled():
    schedule = Schedule(
        [
            CronClock("0 9 * * 1-5", timezone=NEW_YORK),
            IntervalClock(HOUR, parameter_defaults={"x": 1}),
            RRuleClock("FREQ=DAILY", start_date=utc(2026, 1, 1)),
            DatesClock([utc(2026, 5, 1)]),
        ],
        filters=[filters.is_weekday, filters.between_times(time(9), time(17))],
        adjustments=[adjustments.add(HOUR), adjustments.next_weekday],
    )
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy.next(20, after=utc(2026, 1, 1), return_events=True) == schedule.next(
        20, after=utc(2026, 1, 1), return_events=True
    )


def test_schedules_show_their_clocks():
    schedule = Schedule(
        [
            CronClock("0 9 * * 1-5", timezone=NEW_YORK),
            IntervalClock(HOUR, start_date=utc(2026, 1, 1), end_date=utc(2026, 2, 1)),
            DatesClock([utc(2026, 5, 1)]),
            RRuleClock("FREQ=DAILY", start_date=utc(2026, 1, 1)),
        ]
    )
    assert repr(schedule).startswith("<Schedule: <CronClock: '0 9 * * 1-5', timezone='America/New_York'>, <IntervalClo")
    assert "every 1:00:00, start_date=2026-01-01 00:00:00+00:00, end_date=2026-02-01" in repr(schedule)
    assert "RRULE:FREQ=DAILY" in repr(schedule)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: CronClock("every day"), "^cron='every day': Wrong number of fields; expected five fields such as"),
        (lambda: CronClock("61 * * * *"), r"^cron='61 \* \* \* \*': Bad minute"),
        (lambda: CronClock("0 0 30 2 *"), r"Bad day-of-month"),
        (lambda: CronSchedule(""), r"^cron='': Wrong number of fields"),
        (lambda: CronClock("0 9 * * *", timezone="Mars/Olympus"), r"^unknown time zone 'Mars/Olympus'$"),
        (lambda: IntervalClock(DAY, timezone="../../etc/passwd"), r"^unknown time zone '../../etc/passwd'$"),
        (lambda: IntervalClock(DAY, timezone="America"), r"^unknown time zone 'America'$"),
        (lambda: IntervalClock(DAY, timezone=""), r"^unknown time zone ''$"),
        (
            lambda: IntervalClock(DAY, start_date=datetime(2026, 1, 1)),
            r"^start_date must have a time zone, got datetime\.datetime\(2026, 1, 1,",
        ),
        (
            lambda: CronClock("0 9 * * *", end_date=datetime(2026, 1, 1)),
            r"^end_date must have a time zone, got datetime\.datetime\(2026, 1, 1, 0,",
        ),
        (
            lambda: DatesClock([utc(2026, 1, 1), datetime(2026, 1, 1)]),
            r"^dates\[1\] must have a time zone, got datetime\.datetime\(2026, 1, 1,",
        ),
        (
            lambda: IntervalSchedule(DAY).next(1, after=datetime(2026, 1, 1)),
            r"^after must have a time zone, got datetime\.datetime\(2026, 1, 1, 0,",
        ),
        (
            lambda: filters.on_datetime(datetime(2026, 1, 1)),
            r"^dt must have a time zone, got datetime\.datetime\(2026, 1, 1, 0, 0\);",
        ),
        (
            lambda: IntervalClock(DAY, utc(2026, 1, 2), utc(2026, 1, 1)),
            r"^end_date must not be before start_date, got 2026-01-01 00:00:00\+00:00",
        ),
        (
            lambda: filters.between_datetimes(utc(2026, 1, 2), utc(2026, 1, 1)),
            r"^between_datetimes: end must not be before start, got 2026-01-01",
        ),
        (lambda: IntervalClock(timedelta(0)), r"^interval must be positive, got datetime\.timedelta\(0\)$"),
        (lambda: IntervalClock(-HOUR), r"^interval must be positive, got datetime\.timedelta\(days=-1,"),
        (lambda: DatesClock([]), r"^dates must have at least one date, got \[\]$"),
        (lambda: Schedule([]), r"^clocks must have at least one clock, got \[\]$"),
        (
            lambda: RRuleClock("FREQ=SOMETIMES", utc(2026, 1, 1)),
            r"^rule 'FREQ=SOMETIMES' is not a recurrence rule: invalid 'FREQ':",
        ),
        (lambda: RRuleClock("FREQ=DAILY"), r"^rule 'FREQ=DAILY' has no start; pass start_date=\.\.\., or put a"),
        (
            lambda: RRuleClock(rrule(WEEKLY, dtstart=datetime(2026, 1, 1))),
            r"rule <dateutil\.rrule\.rrule object at 0x.*> has times without a time",
        ),
        (
            lambda: RRuleClock("DTSTART:20260101T090000\nRRULE:FREQ=DAILY"),
            r"rule 'DTSTART:20260101T090000\\nRRULE:FREQ=DAILY' has times without a",
        ),
        (
            lambda: RRuleClock("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", utc(2026, 1, 1)),
            r"rule 'FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30' has no events$",
        ),
        (lambda: filters.on_date(2, 30), r"^month=2, day=30: no such day \(day is out of range for month\)"),
        (
            lambda: filters.at_time(time(9, tzinfo=UTC)),
            r"^time must be a time without a time zone \(the clock's zone applies\),",
        ),
        (
            lambda: Schedule([IntervalClock(DAY)], adjustments=[lambda t: t.replace(tzinfo=None)]).next(1),
            r"^the time that .*\.<locals>\.<lambda> at 0x.*> returned for 20\d\d-",
        ),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(FlowDefinitionError, match=text):  # a ValueError
        make()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: CronClock(9), r"^cron must be a string of five fields such as '0 9 \* \* MON-FRI', got 9"),
        (lambda: IntervalClock(3600), "^interval must be a timedelta, got 3600$"),
        (
            lambda: IntervalClock(DAY, timezone=3),
            "^timezone must be the name of a time zone such as 'Europe/Berlin', got 3",
        ),
        (lambda: IntervalClock(DAY, start_date="2026-01-01"), "^start_date must be a datetime, got '2026-01-01'"),
        (
            lambda: IntervalClock(DAY, parameter_defaults=["x"]),
            r"^parameter_defaults must be a dict of values by name, got \['x'\]",
        ),
        (lambda: RRuleClock(7), "^rule must be an rrule or rruleset of dateutil, or a string, got 7$"),
        (lambda: Schedule(IntervalClock(DAY)), "^clocks must be a list of clocks, got <IntervalClock: every 1 day,"),
        (lambda: Schedule(["0 9 * * *"]), r"^clocks: expected a clock, got '0 9 \* \* \*'; see"),
        (
            lambda: Schedule([IntervalClock(DAY)], filters=["weekday"]),
            "^filters must be a list of functions of a datetime, got 'weekday' in it",
        ),
        (lambda: filters.at_time("9:00"), r"^time must be a datetime\.time, got '9:00'$"),
        (lambda: adjustments.add(5), "^interval must be a timedelta, got 5$"),
    ],
)
def test_bad_types_are_named(make, text):
    with pytest.raises(TypeError, match=text):
        make()


@pytest.mark.parametrize("database", ["absent", "package"])
def test_t7_unknown_zone_without_the_systems_database(database):
    hide = "import sys; sys.modules['tzdata'] = None\n" if database == "absent" else ""
    program = (
        f"{hide}from prefectish.schedules.zones import zone\n"
        "for name in ('America/New_York', 'Mars/Olympus'):\n"
        "    try:\n"
        "        print(zone(name))\n"
        "    except ValueError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONTZPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    if database == "package":
        assert done.stdout.splitlines() == ["America/New_York", "unknown time zone 'Mars/Olympus'"]
    else:
        hint = '; this machine has no time zone database: pip install "prefectish[schedules]"'
        assert done.stdout.splitlines() == [
            f"unknown time zone {name!r}{hint}" for name in ("America/New_York", "Mars/Olympus")
        ]


def test_clock_without_its_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(ImportError, match=r'^CronClock needs cronsim.*pip install "prefectish\[schedules\]"$'):
        CronClock("0 9 * * *")
