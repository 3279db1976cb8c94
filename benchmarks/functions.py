"""Ask what flow functions cost: calls by `submit` and maps on a cluster, and a call on threads of this machine."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.children import summary
from benchmarks.measure import in_turn, middle, ratios, seconds_in_turn
from benchmarks.table import Row, spread
from benchmarks.workloads import call_in_turn, increment

#: What is compared: name, ours, what it is held against, width, quick width, most wall time against it.
COMPARED = (
    ("{:,} calls by submit", "prefectish submit", "dask submit", 10_000, 300, 1.0),
    ("a chain of {:,} calls by submit", "prefectish chain", "dask chain", 1_000, 50, 1.2),
    ("a tree of {:,} leaves by submit", "prefectish tree", "dask tree", 512, 32, 1.1),
    ("{:,} children by @flow", "prefectish @flow", "prefectish", 5_000, 200, 1.05),
    ("{:,} children by @flow, batched", "prefectish @flow, batched", "prefectish, batched", 5_000, 200, 1.05),
)
#: Rounds; those of batches take a tenth of a second each, in which anything else on the machine shows.
ROUNDS, ROUNDS_BATCHED = 3, 25
#: Most microseconds of a call over the bare call.
CALL = 60.0


def rows(quick: bool = False) -> list[Row]:
    """Return wall and processor time of submitted calls and of maps, and of calls that are waited for."""
    made = []
    for what, ours, other, width, quick_width, bar in COMPARED:
        rounds = ROUNDS_BATCHED if "batched" in other else ROUNDS
        made += _compared(what, ours, other, *((quick_width, 2) if quick else (width, rounds)), bar)
    return [*made, *_called(*((1_000, 3) if quick else (10_000, 9)))]


def _compared(what: str, ours: str, other: str, width: int, rounds: int, bar: float) -> list[Row]:
    costs = in_turn((other, ours), width, rounds)
    facts = {"width": width, **{name: summary(c, width) for name, c in costs.items()}}
    unit = "x raw Dask" if other.startswith("dask") else "x with Flow"
    made = []
    for figure in ("wall", "cpu"):
        per_round = ratios(costs, ours, other, lambda cost, f=figure: float(getattr(cost, f)))
        most = bar if figure == "wall" else None
        name = f"{what.format(width)}, {figure}"
        made.append(Row("functions", name, middle(per_round), unit, most, spread(per_round), facts))
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
