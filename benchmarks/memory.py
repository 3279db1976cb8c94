"""Ask whether scheduler and client stay flat when a map grows forty times wider.

Each child adds one, then a sum over all; the sum has to be right. A thread notes the resident sizes every second; the
curves stand in the results, and :mod:`benchmarks.plot` draws them.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.cluster import Cluster, start_cluster
from benchmarks.measure import cost_of, fresh, peak, resident
from benchmarks.table import Row
from benchmarks.workloads import check, succeed, summed
from prefectish.executors import DaskExecutor

if TYPE_CHECKING:
    from prefectish.engine.state import State

#: Most that the scheduler's peak may grow from the narrow to the wide map, in MB.
SCHEDULER = 150.0
#: Most that the client may grow for each finished child beside its result, in bytes.
CLIENT = 400.0
NARROW, WIDE = 10_000, 400_000


def rows(quick: bool = False) -> list[Row]:
    """Return the growth of scheduler and client."""
    narrow, wide = (1_000, 4_000) if quick else (NARROW, WIDE)
    small, large = (fresh("benchmarks.memory", str(width)) for width in (narrow, wide))
    facts = {"narrow": small, "wide": large}
    what = f"{narrow:,} -> {wide:,} children"
    scheduler = large["scheduler_peak"] - small["scheduler_peak"]
    grown = (large["client_grown"] - small["client_grown"]) * 1e6 / (wide - narrow) - large["result_bytes"]
    return [
        Row("memory", f"scheduler peak, {what}", scheduler, "MB more", SCHEDULER, None, facts),
        Row("memory", f"client, {what}", grown, "bytes a child", CLIENT),
        Row("memory", f"time of {wide:,} children and their sum", large["seconds"], "s"),
    ]


def _run(width: int) -> dict[str, Any]:
    with start_cluster() as cluster:
        flow, _ = summed(500)
        succeed(flow, DaskExecutor(client=cluster.client))
        gc.collect()
        here = psutil.Process()
        before = resident(here)
        curve: list[tuple[float, float, float]] = []
        done = threading.Event()
        watch = threading.Thread(target=_watch, args=(cluster, curve, done), daemon=True)
        watch.start()
        flow, task = summed(width)
        states: list[State] = []  # held: it is part of what a finished child takes
        cost = cost_of(cluster, lambda: states.append(succeed(flow, DaskExecutor(client=cluster.client))))
        check(states[0].result[task].result, width * (width + 1) // 2)
        gc.collect()
        done.set()
        watch.join()
        return {
            "width": width,
            "seconds": round(cost.wall, 2),
            "cpu": {name: round(getattr(cost, name), 2) for name in ("client", "scheduler", "workers")},
            "client_grown": resident(here) - before,
            "client_peak": peak(here),
            "scheduler_peak": peak(cluster.scheduler),
            "result_bytes": sys.getsizeof(width),
            "curve": {"columns": ["seconds", "client_mb", "scheduler_mb"], "points": curve},
        }


def _watch(cluster: Cluster, curve: list[tuple[float, float, float]], done: threading.Event) -> None:
    began = time.monotonic()
    here = psutil.Process()
    while True:
        now = time.monotonic() - began
        curve.append((round(now, 1), round(resident(here), 1), round(resident(cluster.scheduler), 1)))
        if done.wait(1.0):
            return


if __name__ == "__main__":
    print(json.dumps(_run(int(sys.argv[1]))))
