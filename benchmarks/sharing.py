"""Ask what async children cost that share slots: 1,000 of 1 s on 4 threads, next to asyncio alone."""

from __future__ import annotations

import asyncio

from benchmarks.measure import middle, seconds_in_turn
from benchmarks.table import Row, spread
from benchmarks.workloads import check, succeed
from prefectish import Flow, task
from prefectish.executors import LocalDaskExecutor

BAR = 1.3
THREADS = 4


async def nap(index: int) -> int:
    """Wait for a second."""
    await asyncio.sleep(1.0)
    return index


def rows(quick: bool = False) -> list[Row]:
    """Return the time over that of asyncio alone."""
    count, rounds = (100, 1) if quick else (1_000, 5)
    taken = seconds_in_turn({"prefectish": lambda: _shared(count), "asyncio": lambda: _alone(count)}, rounds)
    here, there = ([seconds.wall for seconds in taken[arm]] for arm in ("prefectish", "asyncio"))
    ratios = [a / b for a, b in zip(here, there, strict=True)]
    what = f"{count:,} async children of 1 s on {THREADS} threads"
    facts = {"prefectish": middle(here), "asyncio": middle(there)}
    return [Row("sharing", what, middle(ratios), "x asyncio", BAR, spread(ratios), facts)]


def _shared(count: int) -> None:
    with Flow("naps") as flow:
        naps = task(nap, async_concurrency=-(-count // THREADS)).map(range(count))
    state = succeed(flow, LocalDaskExecutor(scheduler="threads", num_workers=THREADS))
    check(state.result[naps].result, list(range(count)))


def _alone(count: int) -> None:
    async def all_of_them() -> list[int]:
        return await asyncio.gather(*map(nap, range(count)))

    check(asyncio.run(all_of_them()), list(range(count)))
