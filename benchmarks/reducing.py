"""Ask how many arrays are held while 2,000 of 8 MB are summed on two workers of 2 GB, and what a reduction costs."""

from __future__ import annotations

import threading
from typing import Any

import numpy

from benchmarks.cluster import start_cluster
from benchmarks.measure import middle, seconds_in_turn
from benchmarks.table import Row, spread
from benchmarks.workloads import check, increment, succeed
from prefectish import Flow, reduce, task
from prefectish.executors import DaskExecutor, LocalExecutor

#: Most arrays that may be held at a time.
BAR = 48
LARGE = 1 << 20


def rows(quick: bool = False) -> list[Row]:
    """Return the most arrays that were held, and the time of a reduction over that of a sum at the end."""
    count = 100 if quick else 2_000
    keys, copies = _held(count)
    what = f"{count:,} arrays of 8 MB, summed"
    width, rounds = (1_000, 1) if quick else (100_000, 3)
    taken = seconds_in_turn({"reduce": lambda: _reduced(width), "fan-in": lambda: _summed(width)}, rounds)
    here, there = ([seconds.wall for seconds in taken[arm]] for arm in ("reduce", "fan-in"))
    ratios = [a / b for a, b in zip(here, there, strict=True)]
    return [
        Row("reducing", f"{what}: held at a time", keys, "arrays", BAR, None, {"copies": copies}),
        Row("reducing", f"reduce of {width:,} numbers over a sum of all", middle(ratios), "x", None, spread(ratios)),
    ]


def make(index: int) -> Any:
    """Return an array of 8 MB."""
    return numpy.full(1_000_000, float(index))


def add(arrays: list[Any]) -> Any:
    """Return the sum of arrays."""
    total = arrays[0].copy()
    for array in arrays[1:]:
        total += array
    return total


def first(array: Any) -> float:
    """Return the first number."""
    return float(array[0])


def _held(count: int) -> tuple[int, int]:
    """Return how many arrays were on the cluster at most, and how many copies of them."""
    most = [0, 0]
    over = threading.Event()
    with start_cluster(2, "--memory-limit", "2GB") as cluster:

        def watch() -> None:
            while not over.wait(0.01):
                found = cluster.client.run_on_scheduler(_in_memory, nbytes=LARGE)
                most[:] = map(max, most, found)

        with Flow("sum of arrays") as flow:
            total = reduce(task(add), task(make).map(range(count)))
            number = task(first)(total)
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            state = succeed(flow, DaskExecutor(client=cluster.client))
        finally:
            over.set()
            watcher.join()
        check(state.result[number].result, float(sum(range(count))))
    return most[0], most[1]


def _in_memory(dask_scheduler: Any, nbytes: int) -> tuple[int, int]:
    held = [task for task in dask_scheduler.tasks.values() if task.state == "memory" and (task.nbytes or 0) > nbytes]
    return len(held), sum(len(task.who_has) for task in held)


def _reduced(width: int) -> None:
    with Flow("reduced") as flow:
        total = reduce(sum, task(increment).map(range(width)))
    check(succeed(flow, LocalExecutor()).result[total].result, sum(range(1, width + 1)))


def _summed(width: int) -> None:
    with Flow("summed") as flow:
        total = task(sum)(task(increment).map(range(width)))
    check(succeed(flow, LocalExecutor()).result[total].result, sum(range(1, width + 1)))
