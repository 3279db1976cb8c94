"""Ask what a child costs on a cluster, unbatched and batched, next to ``client.map`` and ``gather``.

Wall and processor time at 100 to 100,000 children, and the peak memory of client and scheduler. Up to 1,000 children
the arms take turns on one cluster; wider ones get a process and a cluster of their own each time, so that peaks are
their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.measure import Cost, in_turn, in_turn_fresh, middle, ratios
from benchmarks.table import Row, spread

DASK, OURS, BATCHED = "dask", "prefectish", "prefectish, batched"
#: Most wall time against raw Dask, by width.
WALL = {10_000: 0.65, 100_000: 0.65}
CPU = 0.85
BATCH = 0.02
#: Rounds by width: medians of few where one takes minutes.
ROUNDS = {100: 15, 1_000: 7, 10_000: 3, 100_000: 2}


def rows(quick: bool = False) -> list[Row]:
    """Return the rows of all widths."""
    widths = (100, 1_000) if quick else tuple(ROUNDS)
    return [row for width in widths for row in rows_of(width, 2 if quick else ROUNDS[width])]


def rows_of(width: int, rounds: int) -> list[Row]:
    """Return the rows of one width."""
    run = in_turn if width < 10_000 else in_turn_fresh
    costs = run((DASK, OURS, BATCHED), width, rounds)
    made = [
        _row(costs, width, OURS, "wall", WALL.get(width)),
        _row(costs, width, OURS, "cpu", CPU if width in WALL else None),
        _row(costs, width, BATCHED, "wall", BATCH if width in WALL else None),
        _row(costs, width, BATCHED, "cpu", BATCH if width in WALL else None),
    ]
    if width >= 10_000:
        made += [_peak(costs, width, who) for who in ("client_peak", "scheduler_peak")]
    return made


def _row(costs: Mapping[str, Sequence[Cost]], width: int, name: str, figure: str, bar: float | None) -> Row:
    per_round = ratios(costs, name, DASK, lambda cost: float(getattr(cost, figure)))
    facts = {"width": width, "arm": name, "figure": figure, **{arm: summary(c, width) for arm, c in costs.items()}}
    what = f"{name}, {width:,} children, {figure}"
    return Row("children", what, middle(per_round), "x raw Dask", bar, spread(per_round), facts)


def _peak(costs: Mapping[str, Sequence[Cost]], width: int, figure: str) -> Row:
    ours = [getattr(cost, figure) for cost in costs[OURS]]
    dask = middle([getattr(cost, figure) for cost in costs[DASK]])
    who = figure.replace("_", " ")
    return Row("children", f"{OURS}, {width:,} children, {who} (raw Dask {dask:.0f})", middle(ours), "MB", None,
               spread(ours), {"width": width, "figure": figure, "dask": dask})  # fmt: skip


def summary(costs: Sequence[Cost], width: int) -> dict[str, float]:
    """Return the medians of an arm: microseconds a child, and MB."""
    times = {f: middle([getattr(c, f) for c in costs]) / width * 1e6 for f in Cost._fields if not f.endswith("peak")}
    times["cpu"] = middle([c.cpu for c in costs]) / width * 1e6
    peaks = {f: middle([getattr(c, f) for c in costs]) for f in ("client_peak", "scheduler_peak")}
    return {key: round(value, 2) for key, value in {**times, **peaks}.items()}
