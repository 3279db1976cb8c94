"""Ask whether data stays on the workers: 64 arrays of 8 MB, made by one task and mapped to their means."""

from __future__ import annotations

import gc
import json
import sys
from typing import Any

import psutil

from benchmarks.cluster import start_cluster
from benchmarks.measure import fresh, peak, resident
from benchmarks.table import Row
from benchmarks.workloads import check, make_arrays, mean, mean_of, succeed
from prefectish import Flow, task
from prefectish.executors import DaskExecutor

#: Most that the client's peak may grow, in MB.
BAR = 20.0


def rows(quick: bool = False) -> list[Row]:
    """Return how much the client's peak grows."""
    count, size = (4, 8) if quick else (64, 8)
    ours, dask = (fresh("benchmarks.arrays", arm, str(count), str(size)) for arm in ("prefectish", "dask"))
    what = f"client peak, {count} arrays of {size} MB to their means (raw Dask {dask['grown']:.1f})"
    return [Row("arrays", what, ours["grown"], "MB more", BAR, None, {"prefectish": ours, "dask": dask})]


def _prefectish(client: Any, count: int, size: int) -> list[float]:
    with Flow("arrays") as flow:
        means = task(mean).map(task(make_arrays)(count, size))
    result: list[float] = succeed(flow, DaskExecutor(client=client)).result[means].result
    return result


def _dask(client: Any, count: int, size: int) -> list[float]:
    arrays = client.submit(make_arrays, count, size, pure=False)
    futures = client.map(mean_of, [arrays] * count, range(count), pure=False)
    result: list[float] = client.gather(futures)
    return result


def _run(arm: str, count: int, size: int) -> dict[str, float]:
    call = _prefectish if arm == "prefectish" else _dask
    with start_cluster() as cluster:
        call(cluster.client, 2, 1)
        gc.collect()
        before = resident(psutil.Process())
        check(call(cluster.client, count, size), [float(i) for i in range(count)])
        return {"before": before, "grown": peak(psutil.Process()) - before, "scheduler_peak": peak(cluster.scheduler)}


if __name__ == "__main__":
    print(json.dumps(_run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
