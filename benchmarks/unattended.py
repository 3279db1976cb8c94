"""Ask what runs without you cost: a limit across runs, by child, and how soon a detached run answers a request."""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import prefectish
from benchmarks.measure import middle, seconds_in_turn
from benchmarks.table import Row, spread
from benchmarks.workloads import increment
from prefectish import Flow, task
from prefectish.executors import LocalDaskExecutor

#: Most microseconds a child for a limit across runs, and seconds until a request is answered.
LIMIT, ANSWER = 50.0, 2.0
WORKERS = 4
#: How long a child of the detached run takes, in seconds.
BODY = 0.05


def rows(quick: bool = False) -> list[Row]:
    """Return the rows of limits across runs, one of which is always reached, and of requests."""
    width, rounds, requests = (1_000, 1, 3) if quick else (20_000, 5, 30)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("PREFECTISH_HOME", folder)
        limited = [row for size in (WORKERS, 1_000) for row in _limit_rows(folder, size, width, rounds)]
        answers = _answers(folder, requests)
    what = "a detached run answers a request"
    return [
        *limited,
        Row("unattended", what, middle(answers), "s", ANSWER, spread(answers)),
        Row("unattended", f"{what}, at most, of {requests}", max(answers), "s", ANSWER),
    ]


def _limit_rows(folder: str, size: int, width: int, rounds: int) -> list[Row]:
    """Return what a limit across runs costs over one of the same size that holds in one run."""
    path = str(Path(folder, "history.db"))
    limits: dict[str, dict[str, Any]] = {"across": {"shared_limits": {"db": size}}, "within": {"max_concurrency": size}}
    taken = seconds_in_turn({name: partial(_run, width, limit, path) for name, limit in limits.items()}, rounds)
    made = []
    for figure in ("wall", "cpu"):
        pairs = zip(taken["across"], taken["within"], strict=True)
        extra = [1e6 * (getattr(a, figure) - getattr(b, figure)) / width for a, b in pairs]
        what = f"{width:,} children, a limit of {size:,} across runs over one within, {figure}"
        made.append(Row("unattended", what, middle(extra), "us a child", LIMIT, spread(extra)))
    return made


def _run(width: int, limit: dict[str, Any], path: str) -> None:
    with Flow("limited") as flow:
        task(increment, name="increment", **limit).map(range(width))
    state = flow.run(executor=LocalDaskExecutor(num_workers=WORKERS), history=path, progress=False)
    if not state.is_successful():
        raise AssertionError(f"{flow.name} did not succeed: {state!r}")


def nap(index: int) -> int:
    """Take a moment."""
    time.sleep(BODY)
    return index


def _answers(folder: str, requests: int) -> list[float]:
    """Return how many seconds requests to a run took, which another process drives."""
    with Flow("detached", executor=LocalDaskExecutor(num_workers=WORKERS)) as flow:
        task(nap, name="nap").map(range(100_000))
    run = flow.start(detach=True, history=str(Path(folder, "detached.db")))
    taken = []
    try:
        for n in range(requests):
            began = time.perf_counter()
            run.set_limit("nap", 1 + n % WORKERS)
            taken.append(time.perf_counter() - began)
    finally:
        run.cancel()
        run.wait()
    if len(prefectish.history.run(run.id, store=str(Path(folder, "detached.db"))).asks()) != requests + 1:
        raise AssertionError("a request was not recorded")
    return taken
