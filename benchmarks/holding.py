"""Ask what flow functions hold: arrays on the workers of a cluster, and what calls leave in the client."""

from __future__ import annotations

import gc
import json
import sys
from typing import Any

import psutil

from benchmarks.cluster import start_cluster
from benchmarks.measure import fresh, resident
from benchmarks.table import Row
from benchmarks.workloads import check, mean
from prefectish import flow, task, unmapped
from prefectish.executors import DaskExecutor, LocalDaskExecutor

#: Most arrays that a map over a map may hold, with as many branches open.
BRANCHES = 4
#: Most bytes that a call may leave behind, and those that a future keeps while it is there.
LEFT, LIVE = 100.0, 2_000.0
_PAUSE = 0.001


def rows(quick: bool = False) -> list[Row]:
    """Return the most arrays at once, and the bytes of calls that have ended and of futures that are kept."""
    arrays, megabytes = (10, 1) if quick else (40, 8)
    calls, warm_up = (4_000, 2_000) if quick else (100_000, 20_000)
    left, live = fresh("benchmarks.holding", str(calls), str(warm_up))
    name = f"{arrays} arrays of {megabytes} MB, mapped twice by @flow, max_branches={BRANCHES}: most held"
    return [
        Row("holding", name, _most_held(arrays, megabytes), "arrays", float(BRANCHES)),
        Row("holding", f"{calls:,} calls in a loop: left in the client by each", left, "bytes", LEFT),
        Row("holding", f"{calls // 10:,} futures that are kept: each", live, "bytes", LIVE),
    ]


def _array(n: int, megabytes: int) -> Any:
    """Make an array."""
    import numpy as np

    return np.full(megabytes * 125_000, float(n))


def _most_held(arrays: int, megabytes: int) -> float:
    made, read = task(_array, name="array"), task(mean)
    with start_cluster() as cluster:

        @flow(executor=DaskExecutor(client=cluster.client, max_branches=BRANCHES), history=False)
        def mapped() -> list[float]:
            return read.map(made.map(range(arrays), megabytes=unmapped(megabytes))).result()

        cluster.client.run_on_scheduler(_watch, nbytes=megabytes * 900_000)
        check(mapped(), [float(n) for n in range(arrays)])
        return float(cluster.client.run_on_scheduler(_seen))


def _watch(nbytes: int, dask_scheduler: Any = None) -> None:
    """Look all the time how many large values there are; runs on the scheduler."""
    import asyncio

    async def look() -> None:
        while True:
            keys = dask_scheduler.tasks.values()
            held = sum(t.state == "memory" and (t.nbytes or 0) > nbytes for t in keys)
            dask_scheduler.prefectish_most = max(held, getattr(dask_scheduler, "prefectish_most", 0))
            await asyncio.sleep(_PAUSE)

    dask_scheduler.prefectish_look = asyncio.ensure_future(look())


def _seen(dask_scheduler: Any = None) -> int:
    most: int = dask_scheduler.prefectish_most
    return most


def _left(calls: int, warm_up: int) -> tuple[float, float]:
    """Return the bytes that a call leaves, and those of a future, by the size of this process."""
    called, here = task(_numbers, name="numbers"), psutil.Process()

    @flow(executor=LocalDaskExecutor(num_workers=2), history=False)
    def looped() -> tuple[float, float]:
        before = 0.0
        for n in range(calls):
            if n == warm_up:
                gc.collect()
                before = resident(here)
            called(n)
        gc.collect()
        after = resident(here)
        futures = [called.submit(n) for n in range(calls // 10)]
        for future in futures:
            future.wait()
        gc.collect()
        kept = resident(here) - after
        return (after - before) * 1e6 / (calls - warm_up), kept * 1e6 / len(futures)

    return looped()


def _numbers(n: int) -> list[int]:
    """Return something of a few hundred bytes."""
    return [n] * 20


if __name__ == "__main__":
    print(json.dumps(_left(int(sys.argv[1]), int(sys.argv[2]))))
