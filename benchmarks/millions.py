"""Ask what a million children hold, one by one, and ten million in batches from an iterator.

Takes a quarter of an hour, and is therefore asked by name only.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import psutil

from benchmarks.cluster import start_cluster
from benchmarks.measure import fresh, peak
from benchmarks.table import Row
from benchmarks.workloads import check, increment, succeed, total
from prefectish import Flow, reduce, task
from prefectish.executors import DaskExecutor

#: Most that the scheduler's peak may grow from 10,000 children, and most that the client may take, in MB.
SCHEDULER, CLIENT, CLIENT_BATCHED = 150.0, 400.0, 600.0
#: Most time of a child beside that of a child among a tenth as many.
COST = 1.1


def rows(quick: bool = False) -> list[Row]:
    """Return the rows of both."""
    return [*_one_by_one(1_000 if quick else 1_000_000), *_batched(10_000 if quick else 10_000_000)]


def _one_by_one(width: int) -> list[Row]:
    few, tenth, all_of_them = (fresh("benchmarks.memory", str(n)) for n in (width // 100, width // 10, width))
    what = f"{width:,} children and their sum"
    facts = {"few": few, "tenth": tenth, "all": all_of_them}
    more = all_of_them["scheduler_peak"] - few["scheduler_peak"]
    dearer = all_of_them["seconds"] / tenth["seconds"] / 10
    worked = sum(all_of_them["cpu"].values()) / sum(tenth["cpu"].values()) / 10
    return [
        Row("millions", f"{what}: scheduler, beside {width // 100:,}", more, "MB more", SCHEDULER, None, facts),
        Row("millions", f"{what}: client", all_of_them["client_peak"], "MB", CLIENT),
        Row("millions", f"{what}: a child, beside one of {width // 10:,}", dearer, "x", COST),
        Row("millions", f"{what}: processor time of a child, beside one of {width // 10:,}", worked, "x"),
        Row("millions", f"{what}: time", all_of_them["seconds"], "s"),
    ]


def _batched(width: int) -> list[Row]:
    return _batched_rows(*(fresh("benchmarks.millions", str(n)) for n in (width // 1_000, width)))


def _batched_rows(few: dict[str, Any], all_of_them: dict[str, Any]) -> list[Row]:
    width = all_of_them["width"]
    what = f"{width:,} children in batches from an iterator, and their sum"
    facts = {"few": few, "all": all_of_them}
    more = all_of_them["scheduler_peak"] - few["scheduler_peak"]
    return [
        Row("ten millions", f"{what}: client", all_of_them["client_peak"], "MB", CLIENT_BATCHED, None, facts),
        Row("ten millions", f"{what}: scheduler, beside {width // 1_000:,}", more, "MB more", SCHEDULER),
        Row("ten millions", f"{what}: time", all_of_them["seconds"], "s"),
    ]


def _run_batched(width: int) -> dict[str, Any]:
    with start_cluster() as cluster:
        with Flow("streamed") as flow:
            numbers = task(increment, batch_size="auto").map(iter(range(width)))
            result = reduce(task(total, batch_size="auto"), numbers)
        began = time.perf_counter()
        state = succeed(flow, DaskExecutor(client=cluster.client), keep_results=False)
        seconds = time.perf_counter() - began
        check(state.result[result].result, width * (width + 1) // 2)
        return {
            "width": width,
            "seconds": round(seconds, 2),
            "client_peak": peak(psutil.Process()),
            "scheduler_peak": peak(cluster.scheduler),
        }


if __name__ == "__main__":
    print(json.dumps(_run_batched(int(sys.argv[1]))))
