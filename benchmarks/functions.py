"""Ask what flow functions cost: `submit` in a loop on a cluster, and a call on threads of this machine."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.children import summary
from benchmarks.measure import in_turn, middle, ratios, seconds_in_turn
from benchmarks.table import Row, spread
from benchmarks.workloads import call_in_turn, increment

DASK, OURS = "dask submit", "prefectish submit"
#: Most wall time against ``client.submit`` in a loop, and most microseconds a call over the bare call.
SUBMIT = 1.25
CALL = 60.0


def rows(quick: bool = False) -> list[Row]:
    """Return wall and processor time of 10,000 submitted calls, and of calls that are waited for."""
    return [*_submitted(*((300, 2) if quick else (10_000, 3))), *_called(*((1_000, 3) if quick else (10_000, 9)))]


def _submitted(width: int, rounds: int) -> list[Row]:
    costs = in_turn((DASK, OURS), width, rounds)
    facts = {"width": width, **{name: summary(c, width) for name, c in costs.items()}}
    made = []
    for figure in ("wall", "cpu"):
        per_round = ratios(costs, OURS, DASK, lambda cost, f=figure: float(getattr(cost, f)))
        what = f"{width:,} calls by submit, {figure}"
        bar = SUBMIT if figure == "wall" else None
        made.append(Row("functions", what, middle(per_round), "x raw Dask", bar, spread(per_round), facts))
    return made


def _called(width: int, rounds: int) -> list[Row]:
    calls: dict[str, Callable[[], object]] = {
        "bare": lambda: [increment(x) for x in range(width)],
        "called": lambda: call_in_turn(width),
    }
    taken = seconds_in_turn(calls, rounds)
    made = []
    for figure in ("wall", "cpu"):
        here, there = ([getattr(seconds, figure) / width * 1e6 for seconds in taken[arm]] for arm in ("called", "bare"))
        over = [a - b for a, b in zip(here, there, strict=True)]
        what = f"a call on threads over the bare call, {width:,} calls, {figure}"
        made.append(Row("functions", what, middle(over), "us a call", CALL, spread(over), {"width": width}))
    return made
