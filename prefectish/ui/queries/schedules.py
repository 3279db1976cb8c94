"""Schedules in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any


def in_words(schedule: Mapping[str, Any]) -> str:
    """Return a schedule, as a deployment keeps it, in words.

    Examples
    --------
    >>> in_words({"clocks": [{"kind": "cron", "cron": "0 9 * * MON-FRI", "timezone": "Europe/Berlin"}]})
    '0 9 * * MON-FRI, Europe/Berlin'
    >>> in_words({"clocks": [{"kind": "interval", "seconds": 5400, "timezone": "UTC"}], "filters": ["is_weekday"]})
    'every 1:30:00, UTC; filtered'
    """
    clocks = "; ".join(f"{_clock(clock)}, {clock['timezone']}" for clock in schedule["clocks"])
    filtered = any(schedule.get(name) for name in ("filters", "or_filters", "not_filters"))
    return clocks + ("; filtered" if filtered else "")


def _clock(clock: Mapping[str, Any]) -> str:
    match clock["kind"]:
        case "cron":
            return str(clock["cron"])
        case "interval":
            return f"every {timedelta(seconds=clock['seconds'])}"
        case "dates":
            return f"{len(clock['dates'])} dates"
        case _:
            return " ".join(str(clock["rule"]).split())
