"""Ask what a run of short children leaves to others on its cluster: another client's map comes in the middle of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from distributed import Client

from benchmarks.cluster import start_cluster
from benchmarks.measure import middle
from benchmarks.table import Row, spread
from benchmarks.workloads import raw_mapped, run_mapped, stamp_after

#: Least part of its fair share, which is half of the cluster, that the other client gets; and most seconds that it
#: waits for its first task.
SHARE = 0.4
FIRST = 2.0
#: Children of the other client, and the seconds of each.
WIDTH, SECONDS = 200, 0.002


def rows(quick: bool = False) -> list[Row]:
    """Return the share that the other client gets, as what it takes too long, and when its first task begins."""
    width, rounds = (2_000, 1) if quick else (10_000, 3)
    with start_cluster() as cluster, Client(cluster.client.scheduler.address, set_as_default=False) as other:
        run_mapped(cluster.client, 500)
        _their_map(other)
        found = [_round(other, lambda: run_mapped(cluster.client, width)) for _ in range(rounds)]
        raw = [_round(other, lambda: raw_mapped(cluster.client, width)) for _ in range(rounds)]
    facts = {"width": width, "raw": raw, "prefectish": found}
    beside = f"beside {width:,} short children"
    shares = [1 / share for share, _ in found]
    firsts = [first for _, first in found]
    behind = middle([first for _, first in raw])
    return [
        Row("beside others", f"another client's map of {WIDTH} {beside}", middle(shares), "x of fair time", 1 / SHARE,
            spread(shares), facts),
        Row("beside others", f"its first task {beside} (beside raw Dask {behind:.1f})", middle(firsts), "s", FIRST,
            spread(firsts), facts),
    ]  # fmt: skip


def _round(other: Client, ours: Callable[[], None]) -> tuple[float, float]:
    """Return the part of its fair share that another client gets, and the seconds until its first task ends."""
    alone, _ = _their_map(other)
    running = threading.Thread(target=ours)
    running.start()
    time.sleep(1.0)  # it is in the middle
    took, first = _their_map(other)
    running.join()
    return 2 * alone / took, first


def _their_map(other: Client) -> tuple[float, float]:
    began = time.time()
    ends = other.gather(other.map(stamp_after, [SECONDS] * WIDTH, pure=False))
    return time.time() - began, min(ends) - began
