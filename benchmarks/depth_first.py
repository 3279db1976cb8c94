"""Ask how much of the first step is done before the first child of the third step starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from benchmarks.cluster import start_cluster
from benchmarks.measure import middle
from benchmarks.table import Row, spread
from benchmarks.workloads import stamp, succeed
from prefectish import Flow, task
from prefectish.executors import DaskExecutor, LocalDaskExecutor

#: Most of the first step, in percent.
BAR = 5.0


def rows(quick: bool = False) -> list[Row]:
    """Return the share of the first step that is done by then, on a cluster and on threads."""
    width, rounds = (200, 1) if quick else (2_000, 3)
    with start_cluster() as cluster:
        dask = [_dask(cluster.client, width) for _ in range(rounds)]
        ours = [_prefectish(DaskExecutor(client=cluster.client), width) for _ in range(rounds)]
    threads = [_prefectish(LocalDaskExecutor(scheduler="threads", num_workers=2), width) for _ in range(rounds)]
    raw = f"raw Dask {middle(dask):.1f}"
    return [
        Row(
            "depth first", f"first step done, {width:,} branches, cluster, {raw}", middle(ours), "%", BAR, spread(ours)
        ),
        Row("depth first", f"first step done, {width:,} branches, threads", middle(threads), "%", BAR, spread(threads)),
    ]


def _prefectish(executor: Any, width: int) -> float:
    with Flow("depth") as flow:
        first = task(stamp, name="first").map(range(width))
        third = task(stamp, name="third").map(task(stamp, name="second").map(first))
    result = succeed(flow, executor).result
    return _share(result[first].result, result[third].result)


def _dask(client: Any, width: int) -> float:
    first = client.map(stamp, range(width), pure=False)
    third = client.map(stamp, client.map(stamp, first, pure=False), pure=False)
    shares = _share(client.gather(first), client.gather(third))
    del first, third
    time.sleep(0.2)
    return shares


def _share(first: Sequence[float], third: Sequence[float]) -> float:
    start = min(third)
    return 100 * sum(ended < start for ended in first) / len(first)
