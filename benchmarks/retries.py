"""Ask whether waiting retries hold a slot: 64 children of 50 ms on 2 threads, 16 of which come back once after 1 s.

The ideal: threads are never idle while a child can run, and those that are new go first, so that the last one to fail
does so as early as can be.
"""

from __future__ import annotations

import heapq
import logging
import time
from typing import Any

from benchmarks.cluster import start_cluster
from benchmarks.measure import middle
from benchmarks.table import Row, spread
from benchmarks.workloads import pause, retried, succeed
from prefectish.executors import DaskExecutor, LocalDaskExecutor

BAR = 1.15
WIDTH, SECONDS, EVERY, DELAY, THREADS = 64, 0.05, 4, 1.0, 2


def rows(quick: bool = False) -> list[Row]:
    """Return the time of the run over that of the ideal schedule, on threads and on a cluster."""
    rounds = 1 if quick else 5
    ideal = ideal_seconds(WIDTH, SECONDS, EVERY, DELAY, THREADS)
    on_threads = _times(LocalDaskExecutor(scheduler="threads", num_workers=THREADS), rounds, ideal)
    with start_cluster(THREADS) as cluster:
        on_cluster = _times(DaskExecutor(client=cluster.client), rounds, ideal)
        plain = _plain(cluster.client, rounds)
    what = f"{WIDTH} x {SECONDS * 1e3:.0f} ms, {WIDTH // EVERY} retries of {DELAY:g} s"
    facts = {"ideal_seconds": ideal}
    return [
        Row("retries", f"{what}, threads", middle(on_threads), "x ideal", BAR, spread(on_threads), facts),
        Row("retries", f"{what}, cluster", middle(on_cluster), "x ideal", BAR, spread(on_cluster), facts),
        Row("retries", "as many sleeps by raw Dask, no delays", middle(plain), "x ideal", None, spread(plain)),
    ]


def _plain(client: Any, rounds: int) -> list[float]:
    """Return what the machine makes of as many sleeps without a retry: how much of the above is not ours."""
    count = WIDTH + WIDTH // EVERY
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        client.gather(client.map(pause, [SECONDS] * count, pure=False))
        times.append((time.perf_counter() - began) / (count * SECONDS / THREADS))
    return times


def _times(executor: Any, rounds: int, ideal: float) -> list[float]:
    logging.getLogger("prefectish").setLevel(logging.CRITICAL)  # the failures are meant
    succeed(retried(4, 0.0, 4, 0.0), executor)
    times = []
    for _ in range(rounds):
        flow = retried(WIDTH, SECONDS, EVERY, DELAY)
        began = time.perf_counter()
        succeed(flow, executor)
        times.append((time.perf_counter() - began) / ideal)
    return times


def ideal_seconds(width: int, seconds: float, every: int, delay: float, threads: int) -> float:
    """Return the time of the ideal schedule.

    Examples
    --------
    >>> ideal_seconds(4, 1.0, 4, 10.0, 1), ideal_seconds(4, 1.0, 4, 2.0, 1)
    (12.0, 5.0)
    """
    free = [0.0] * threads
    waiting: list[float] = []
    fresh = list(range(width))
    end = 0.0
    while fresh or waiting:
        now = heapq.heappop(free)
        if fresh:
            end = now + seconds
            if fresh.pop(0) % every == 0:
                heapq.heappush(waiting, end + delay)
        else:
            end = max(now, heapq.heappop(waiting)) + seconds
        heapq.heappush(free, end)
    return max(free)
