"""When flows run: ``Flow("report", schedule=CronSchedule("0 9 * * MON-FRI", timezone="America/New_York"))``.

`clocks` holds where events come from, `filters` and `adjustments` what becomes of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefectish.missing_names import lead_out
from prefectish.schedules import adjustments, clocks, filters
from prefectish.schedules.schedule import CronSchedule, IntervalSchedule, Schedule

__all__ = ["CronSchedule", "IntervalSchedule", "Schedule", "adjustments", "clocks", "filters"]

if not TYPE_CHECKING:
    __getattr__ = lead_out(__name__)
