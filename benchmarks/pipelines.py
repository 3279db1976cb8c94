"""Ask what three maps and a sum over all cost, next to the same graph by ``client.map`` calls."""

from __future__ import annotations

from benchmarks.children import summary
from benchmarks.measure import in_turn, middle, ratios
from benchmarks.table import Row, spread

DASK, OURS, BATCHED = "dask pipeline", "prefectish pipeline", "prefectish pipeline, batched"
BAR = 0.65


def rows(quick: bool = False) -> list[Row]:
    """Return wall and processor time of 10,000 branches."""
    width, rounds = (300, 2) if quick else (10_000, 3)
    costs = in_turn((DASK, OURS, BATCHED), width, rounds)
    facts = {"width": width, **{name: summary(c, width) for name, c in costs.items()}}
    made = []
    for name in (OURS, BATCHED):
        for figure in ("wall", "cpu"):
            per_round = ratios(costs, name, DASK, lambda cost, f=figure: float(getattr(cost, f)))
            bar = BAR if (name, figure) == (OURS, "wall") else None
            what = f"{name}, {width:,} branches, {figure}"
            made.append(Row("pipelines", what, middle(per_round), "x raw Dask", bar, spread(per_round), facts))
    return made
