"""Ask what a flow of one task costs on a cluster, next to ``client.submit(...).result()``."""

from __future__ import annotations

from benchmarks.cluster import start_cluster
from benchmarks.measure import middle, seconds_in_turn
from benchmarks.table import Row, spread
from benchmarks.workloads import increment, succeed
from prefectish import Flow, task
from prefectish.executors import DaskExecutor

#: Most milliseconds over raw Dask.
BAR = 1.0


def rows(quick: bool = False) -> list[Row]:
    """Return the ratio of the two."""
    rounds = 5 if quick else 101
    with start_cluster() as cluster:
        executor = DaskExecutor(client=cluster.client)

        def ours() -> None:
            with Flow("one") as flow:
                task(increment)(1)
            succeed(flow, executor)

        taken = seconds_in_turn(
            {"prefectish": ours, "dask": lambda: cluster.client.submit(increment, 1, pure=False).result()}, rounds
        )
    walls = {name: [seconds.wall for seconds in times] for name, times in taken.items()}
    facts = {name: middle(t) * 1e3 for name, t in walls.items()}
    what = f"a flow of one task ({facts['prefectish']:.1f} ms, raw Dask {facts['dask']:.1f} ms)"
    each = [(a - b) * 1e3 for a, b in zip(walls["prefectish"], walls["dask"], strict=True)]
    return [Row("one task", what, middle(each), "ms over raw Dask", BAR, spread(each), facts)]
