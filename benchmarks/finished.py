"""Ask what a finished child holds in the client, beside its result, and what it takes while its map runs.

The end is counted by ``tracemalloc``, which sees each object; the peak is the largest resident size of a fresh process
on a cluster, with numbers as items and results.
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from typing import Any

import psutil

from benchmarks.cluster import start_cluster
from benchmarks.measure import fresh, peak
from benchmarks.table import Row
from benchmarks.workloads import check, mapped, succeed
from prefectish.executors import DaskExecutor, LocalExecutor

#: Most bytes a child at the end beside its result, and at the peak with it.
END, PEAK = 40.0, 200.0


def rows(quick: bool = False) -> list[Row]:
    """Return the bytes of a child."""
    narrow, wide = (500, 1_000) if quick else (20_000, 100_000)
    small, large = (fresh("benchmarks.finished", "peak", str(width)) for width in (narrow, wide))
    grown = (large["peak"] - small["peak"]) * 1e6 / (wide - narrow)
    end = fresh("benchmarks.finished", "end", str(narrow))
    what = f"{narrow:,} -> {wide:,} children"
    return [
        Row("finished", f"a child beside its result at the end, {narrow:,} children", end["bytes"], "bytes", END),
        Row(
            "finished",
            f"client, peak resident size, {what}",
            grown,
            "bytes a child",
            PEAK,
            None,
            {"peaks": [small, large]},
        ),
    ]


def _end(width: int) -> dict[str, Any]:
    flow, children = mapped(width)
    succeed(mapped(100)[0], LocalExecutor())
    gc.collect()
    tracemalloc.start()
    state = succeed(flow, LocalExecutor())
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    results = sum(map(sys.getsizeof, state.result[children].result))
    return {"bytes": (held - results) / width}


def _peak(width: int) -> dict[str, Any]:
    with start_cluster() as cluster:
        executor = DaskExecutor(client=cluster.client)
        succeed(mapped(500)[0], executor)
        flow, children = mapped(width)
        check(succeed(flow, executor).result[children].result[-1], width)
        return {"width": width, "peak": peak(psutil.Process())}


if __name__ == "__main__":
    print(json.dumps({"end": _end, "peak": _peak}[sys.argv[1]](int(sys.argv[2]))))
