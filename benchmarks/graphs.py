"""Ask what tasks cost that are no map, next to ``dask.delayed`` of the same calls.

Chains side by side, on threads and on a cluster, and tasks that are all different: to build, to plan and to run them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dask

from benchmarks.children import summary
from benchmarks.measure import in_turn, middle, ratios, seconds_in_turn
from benchmarks.table import Row, spread
from benchmarks.workloads import CHAIN, check, delayed_chains, increment, run_chains, succeed
from prefectish import Flow, task
from prefectish.executors import LocalDaskExecutor

#: Most time against ``dask.delayed``.
CHAINS, ON_A_CLUSTER, DIFFERENT = 0.8, 1.0, 1.0
#: Most time a task in the wider flow of different tasks, against the narrower one: it is linear.
LINEAR = 1.3
THREADS = 2


def rows(quick: bool = False) -> list[Row]:
    """Return the rows of chains, and of different tasks."""
    chains, narrow, wide, rounds = (10, 100, 200, 1) if quick else (300, 2_000, 10_000, 5)
    executor = LocalDaskExecutor(num_workers=THREADS)
    made = _beside(
        f"{chains} chains of {CHAIN} on threads",
        lambda: run_chains(executor, chains),
        lambda: _computed(delayed_chains(chains)),
        chains * CHAIN, rounds, CHAINS,
    )  # fmt: skip
    slim = _beside(
        f"{narrow:,} different tasks", lambda: _different(narrow), lambda: _delayed(narrow), narrow, rounds, None
    )
    broad = _beside(
        f"{wide:,} different tasks", lambda: _different(wide), lambda: _delayed(wide), wide, rounds, DIFFERENT
    )
    growth = broad[-1].facts["prefectish"] / slim[-1].facts["prefectish"]
    linear = Row("graphs", f"a task of {wide:,} against one of {narrow:,}, cpu", growth, "x", LINEAR)
    return [*made, *_on_a_cluster(chains, rounds), *slim, *broad, linear]


def _beside(
    what: str, ours: Callable[[], object], other: Callable[[], object], tasks: int, rounds: int, bar: float | None
) -> list[Row]:
    taken = seconds_in_turn({"prefectish": ours, "dask.delayed": other}, rounds)
    made = []
    for figure in ("wall", "cpu"):
        here, there = ([getattr(s, figure) for s in taken[arm]] for arm in ("prefectish", "dask.delayed"))
        each = [a / b for a, b in zip(here, there, strict=True)]
        facts = {arm: middle([getattr(s, figure) for s in taken[arm]]) / tasks * 1e6 for arm in taken}
        made.append(Row("graphs", f"{what}, {figure}", middle(each), "x dask.delayed", bar, spread(each), facts))
    return made


def _on_a_cluster(chains: int, rounds: int) -> list[Row]:
    ours, dask_ = "prefectish chains", "dask chains"
    costs = in_turn((dask_, ours), chains, rounds)
    facts = {name: summary(cost, chains * CHAIN) for name, cost in costs.items()}
    made = []
    for figure in ("wall", "cpu"):
        each = ratios(costs, ours, dask_, lambda cost, f=figure: float(getattr(cost, f)))
        what = f"{chains} chains of {CHAIN} on a cluster, {figure}"
        made.append(Row("graphs", what, middle(each), "x raw Dask", ON_A_CLUSTER, spread(each), facts))
    return made


def _different(count: int) -> None:
    with Flow("different") as flow:
        ends = [task(increment, name=f"task {x}")(x) for x in range(count)]
    state = succeed(flow, LocalDaskExecutor(num_workers=THREADS))
    check([state.result[end].result for end in ends], list(range(1, count + 1)))


def _delayed(count: int) -> None:
    call = dask.delayed(increment)
    check(_computed([call(x) for x in range(count)]), list(range(1, count + 1)))


def _computed(ends: Sequence[Any]) -> list[Any]:
    return list(dask.compute(*ends, scheduler="threads", num_workers=THREADS))
