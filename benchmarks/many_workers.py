"""Ask what a child costs on a cluster of 64 workers of one thread, next to ``client.map`` and ``gather``.

Where there are fewer processors than workers, what is compared is the cost of the client, the scheduler and 64
connections. Asked by name only: the workers take half a minute to start, and 8 GB.
"""

from __future__ import annotations

from benchmarks.children import DASK, OURS, summary
from benchmarks.measure import in_turn, middle, ratios
from benchmarks.table import Row, spread

WORKERS = 64
#: Most time and processor time against raw Dask.
BAR = 0.75


def rows(quick: bool = False) -> list[Row]:
    """Return wall and processor time of 10,000 children."""
    workers, width, rounds = (3, 300, 1) if quick else (WORKERS, 10_000, 3)
    costs = in_turn((DASK, OURS), width, rounds, workers)
    facts = {"width": width, "workers": workers, **{name: summary(cost, width) for name, cost in costs.items()}}
    made = []
    for figure in ("wall", "cpu"):
        per_round = ratios(costs, OURS, DASK, lambda cost, f=figure: float(getattr(cost, f)))
        what = f"{workers} workers, {width:,} children, {figure}"
        made.append(Row("many workers", what, middle(per_round), "x raw Dask", BAR, spread(per_round), facts))
    return made
