"""Ask what a child costs in this process, over the bare call, and on threads, over ``dask.threaded.get``."""

from __future__ import annotations

from collections.abc import Callable

import dask.threaded

from benchmarks.measure import middle, seconds_in_turn
from benchmarks.table import Row, spread
from benchmarks.workloads import increment, mapped, succeed
from prefectish.executors import LocalDaskExecutor, LocalExecutor

#: Most over the bare call, and over ``dask.threaded.get``, in microseconds a child: less than that is below it.
BARS = {"local": 8.0, "threads": -10.0}
THREADS = 2


def rows(quick: bool = False) -> list[Row]:
    """Return the microseconds a child, by width."""
    widths = {1_000: 3} if quick else {100: 31, 1_000: 15, 10_000: 9, 100_000: 3}
    return [row for width, rounds in widths.items() for row in _rows_of(width, rounds)]


def _rows_of(width: int, rounds: int) -> list[Row]:
    threads = LocalDaskExecutor(scheduler="threads", num_workers=THREADS)
    calls: dict[str, Callable[[], object]] = {
        "bare call": lambda: [increment(x) for x in range(width)],
        "local": lambda: succeed(mapped(width)[0], LocalExecutor()),
        "dask.threaded": lambda: _threaded(width),
        "threads": lambda: succeed(mapped(width)[0], threads),
    }
    taken = seconds_in_turn(calls, rounds)
    made = []
    pairs = (("local", "bare call"), ("threads", "dask.threaded"))
    for (name, base), figure in ((pair, figure) for pair in pairs for figure in ("wall", "cpu")):
        here, there = ([getattr(seconds, figure) / width * 1e6 for seconds in taken[arm]] for arm in (name, base))
        over = [a - b for a, b in zip(here, there, strict=True)]
        facts = {"width": width, name: middle(here), base: middle(there)}
        made.append(Row("local", f"{name} over {base}, {width:,} children, {figure}", middle(over), "us a child",
                        BARS[name] if width >= 1_000 else None, spread(over), facts))  # fmt: skip
    return made


def _threaded(width: int) -> object:
    graph = {("increment", i): (increment, i) for i in range(width)}
    return dask.threaded.get(graph, list(graph), num_workers=THREADS)
