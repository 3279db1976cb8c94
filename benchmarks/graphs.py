"""Ask what tasks cost that are no map, on threads, next to ``dask.delayed`` of the same calls.

Chains that follow one another, and tasks that are all different: to build, to plan and to run them.
"""

from __future__ import annotations

from collections.abc import Callable

import dask

from benchmarks.measure import middle, seconds_in_turn
from benchmarks.table import Row, spread
from benchmarks.workloads import check, increment, succeed
from prefectish import Flow, Task, task
from prefectish.executors import LocalDaskExecutor

#: Most processor time against ``dask.delayed``.
CHAINS, DIFFERENT = 0.8, 1.0
#: Most time a task in the wider flow of different tasks, against the narrower one: it is linear.
LINEAR = 1.3
THREADS, LENGTH = 2, 10


def rows(quick: bool = False) -> list[Row]:
    """Return the rows of chains, and of different tasks."""
    chains, narrow, wide, rounds = (10, 100, 200, 1) if quick else (300, 2_000, 10_000, 5)
    made = _beside(f"{chains} chains of {LENGTH}", _chains, chains, LENGTH, rounds, CHAINS)
    slim = _beside(f"{narrow:,} different tasks", _different, narrow, 1, rounds, None)
    broad = _beside(f"{wide:,} different tasks", _different, wide, 1, rounds, DIFFERENT)
    growth = broad[-1].facts["prefectish"] / slim[-1].facts["prefectish"]
    linear = Row("graphs", f"a task of {wide:,} against one of {narrow:,}, cpu", growth, "x", LINEAR)
    return [*made, *slim, *broad, linear]


def _beside(
    what: str, ours: Callable[[int], None], count: int, length: int, rounds: int, bar: float | None
) -> list[Row]:
    taken = seconds_in_turn(
        {"prefectish": lambda: ours(count), "dask.delayed": lambda: _delayed(count, length)}, rounds
    )
    made = []
    for figure in ("wall", "cpu"):
        here, there = ([getattr(s, figure) for s in taken[arm]] for arm in ("prefectish", "dask.delayed"))
        each = [a / b for a, b in zip(here, there, strict=True)]
        facts = {arm: middle([getattr(s, figure) for s in taken[arm]]) / (count * length) * 1e6 for arm in taken}
        made.append(Row("graphs", f"{what}, {figure}", middle(each), "x dask.delayed", bar, spread(each), facts))
    return made


def _chains(count: int) -> None:
    called = task(increment)
    with Flow("chains") as flow:
        ends = [_chain(called, x) for x in range(count)]
    state = succeed(flow, LocalDaskExecutor(num_workers=THREADS))
    check([state.result[end].result for end in ends], [x + LENGTH for x in range(count)])


def _chain(called: Task, x: int) -> Task:
    last = called(x)
    for _ in range(LENGTH - 1):
        last = called(last)
    return last


def _different(count: int) -> None:
    with Flow("different") as flow:
        ends = [task(increment, name=f"task {x}")(x) for x in range(count)]
    state = succeed(flow, LocalDaskExecutor(num_workers=THREADS))
    check([state.result[end].result for end in ends], list(range(1, count + 1)))


def _delayed(count: int, length: int) -> None:
    call, ends = dask.delayed(increment), []
    for x in range(count):
        last = x
        for _ in range(length):
            last = call(last)
        ends.append(last)
    check(list(dask.compute(*ends, scheduler="threads", num_workers=THREADS)), [x + length for x in range(count)])
