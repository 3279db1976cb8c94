"""Rows of results: what was measured, the bar, and whether it was passed; as text, Markdown and JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import psutil

RESULTS = Path(__file__).parent / "results"


class Row(NamedTuple):
    """One line of the table.

    Attributes
    ----------
    measured
        Median over the rounds, in `unit`.
    bar
        Most that it may be, in the same unit; None for a row that is only shown.
    spread
        Least and most over the rounds.
    facts
        What stands behind the figure, for the JSON file and the plot.
    """

    question: str
    what: str
    measured: float
    unit: str
    bar: float | None = None
    spread: tuple[float, float] | None = None
    facts: Mapping[str, Any] = {}

    @property
    def verdict(self) -> str:
        """Return ``pass``, ``miss``, or nothing where there is no bar."""
        if self.bar is None:
            return ""
        return "pass" if self.measured <= self.bar else "miss"


def newest() -> dict[str, Any]:
    """Return the newest rows of each question; `asked` has the days they are of, with machines, newest first."""
    files = sorted(RESULTS.glob("????-??-??.json"), reverse=True)
    if not files:
        raise SystemExit("there are no results yet: run `python -m benchmarks` first")
    found: dict[str, Any] = {"rows": [], "asked": []}
    known: set[str] = set()
    for content in (json.loads(file.read_text()) for file in files):
        new = [row for row in content["rows"] if row["question"] not in known]
        if new:
            questions = list(dict.fromkeys(row["question"] for row in new))
            found["asked"].append({"date": content["date"], "machine": content["machine"], "questions": questions})
            found["rows"] += new
            known.update(questions)
    return found


def row_of(kept: Mapping[str, Any]) -> Row:
    """Return a row as it was before it was kept."""
    return Row(**{name: value for name, value in kept.items() if name != "verdict"})


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the least and the most."""
    return min(values), max(values)


def number(value: float) -> str:
    """Return a figure with three digits that count.

    Examples
    --------
    >>> number(1.0449), number(23.46), number(1234.5), number(0.0512)
    ('1.04', '23.5', '1234', '0.0512')
    """
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:#.3g}"


def cells(row: Row) -> list[str]:
    """Return the cells of a row."""
    low_high = f"{number(row.spread[0])} .. {number(row.spread[1])}" if row.spread else ""
    bar = number(row.bar) if row.bar is not None else ""
    return [row.question, row.what, number(row.measured), low_high, bar, row.unit, row.verdict]


HEADER = ["question", "what", "measured", "spread", "bar", "unit", "verdict"]


def text(rows: Sequence[Row]) -> str:
    """Return a table for people, and for Markdown."""
    lines = [HEADER, *map(cells, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    drawn = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    drawn.insert(1, "| " + " | ".join("-" * w for w in widths) + " |")
    return "\n".join(drawn)


def machine() -> dict[str, Any]:
    """Return what the figures depend on; no names and no paths."""
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.system(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        **{name: version(name) for name in ("prefectish", "dask", "distributed", "cloudpickle")},
    }
