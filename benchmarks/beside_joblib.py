"""Ask what a child costs next to joblib: on threads, and in batches on processes; without joblib there is no row."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from benchmarks.measure import middle, tree_seconds_in_turn
from benchmarks.table import Row, spread
from benchmarks.workloads import increment, mapped, succeed
from prefectish.executors import LocalDaskExecutor

#: Most against joblib, by the kind of workers.
BARS = {"threads": 1.3, "processes": 1.5}
WORKERS = 2


def rows(quick: bool = False) -> list[Row]:
    """Return the ratios to joblib, in wall and processor time of all processes."""
    if find_spec("joblib") is None:
        return []
    widths = {"threads": 500, "processes": 2_000} if quick else {"threads": 10_000, "processes": 100_000}
    return [row for kind, width in widths.items() for row in _rows_of(kind, width, 1 if quick else 5)]


def _rows_of(kind: str, width: int, rounds: int) -> list[Row]:
    executor = LocalDaskExecutor(kind, num_workers=WORKERS)
    options = {"batch_size": "auto"} if kind == "processes" else {}
    calls: dict[str, Callable[[], object]] = {
        "prefectish": lambda: succeed(mapped(width, **options)[0], executor),
        "joblib": lambda: _joblib(kind, width),
    }
    taken = tree_seconds_in_turn(calls, rounds)
    made = []
    for figure in ("wall", "cpu"):
        here, there = ([getattr(s, figure) for s in taken[arm]] for arm in ("prefectish", "joblib"))
        each = [a / b for a, b in zip(here, there, strict=True)]
        facts = {arm: middle([getattr(s, figure) for s in taken[arm]]) / width * 1e6 for arm in taken}
        what = f"{kind}{', batched' if options else ''}, {width:,} children, {figure}"
        made.append(Row("beside joblib", what, middle(each), "x joblib", BARS[kind], spread(each), facts))
    return made


def _joblib(kind: str, width: int) -> list[int]:
    from joblib import Parallel, delayed

    backend = "threading" if kind == "threads" else "loky"
    return Parallel(n_jobs=WORKERS, batch_size="auto", backend=backend)(delayed(increment)(x) for x in range(width))
