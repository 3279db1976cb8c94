"""Schedules of Prefect 1: registered as they are, asked for their next times, and written down."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from prefectish import deployments
from prefectish.errors import FlowDefinitionError

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
START = datetime(2022, 1, 1, tzinfo=UTC)

NIGHTLY = """
from datetime import datetime
from prefect import Flow, Task
from prefect.schedules import CronSchedule

flow = Flow("nightly", schedule=CronSchedule("0 3 * * *", datetime(2022, 1, 1)), tasks=[Task()])
flow.register("sales")
"""


def test_a_flow_with_a_schedule_is_registered_with_it(tmp_path, monkeypatch):
    pytest.importorskip("cronsim")
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path))
    (tmp_path / "nightly.py").write_text(NIGHTLY)
    done = subprocess.run(
        [sys.executable, "-m", "prefectish.compat", str(tmp_path / "nightly.py")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (made,) = deployments()
    assert [moment.hour for moment in made.next(2)] == [3, 3]


def test_clocks_come_after_the_time_that_is_given_and_are_adjusted_then():
    from prefect.schedules import Schedule, adjustments, clocks

    schedule = Schedule(
        [clocks.IntervalClock(DAY, START, labels=["a"], parameter_defaults={"x": 1})],
        adjustments=[adjustments.add(HOUR), adjustments.add(HOUR)],
    )
    assert schedule.next(2, after=START) == [START + DAY + 2 * HOUR, START + 2 * DAY + 2 * HOUR]
    assert [event.labels for event in schedule.next(2, START, return_events=True)] == [["a"], ["a"]]
    assert next(schedule.events(START)).start_time == START + 2 * HOUR  # a run misses none


def test_rules_have_a_schedule():
    rrule = pytest.importorskip("dateutil.rrule")
    from prefect.schedules import RRuleSchedule

    rule = rrule.rrule(rrule.DAILY, dtstart=START)
    assert RRuleSchedule(rule, START, START + 2 * DAY, labels=["a"]).next(9, START) == [START + DAY, START + 2 * DAY]


def test_what_a_schedule_is_made_of_can_be_written_down():
    from prefect.schedules import Schedule, adjustments, filters
    from prefect.schedules.clocks import CronClock, IntervalClock

    made = Schedule([IntervalClock(DAY)], filters=[filters.is_day_of_week(1)], adjustments=[adjustments.next_weekday])
    facts = json.loads(json.dumps(made.serialize()))
    assert (facts["type"], facts["clocks"][0]["seconds"], facts["adjustments"]) == ("Schedule", 86400, ["next_weekday"])
    with pytest.raises(FlowDefinitionError, match="it is code"):
        Schedule([IntervalClock(DAY)], filters=[lambda moment: True]).serialize()
    pytest.importorskip("cronsim")
    assert CronClock("@daily").cron == "0 0 * * *"
    assert Schedule([CronClock("0 0 1 * 1", day_or=False)]).serialize()["clocks"][0]["day_or"] is False


def test_a_schedule_may_have_a_next_of_its_own():
    from prefect.schedules import Schedule

    class Twice(Schedule):
        given = 0

        def next(self, n, after=None, return_events=False):
            self.given += 1
            return [START + self.given * DAY] if self.given < 3 else []

    times = [event.start_time for event in Twice([]).events(None)]
    assert [later - first for first, later in pairwise(times)] == [DAY]
    with pytest.raises(FlowDefinitionError, match="its events come from code"):
        Twice([]).serialize()
