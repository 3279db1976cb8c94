"""Ask what the history costs: wall time beside the same run without one, bytes a child on disk, and reading it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cluster import start_cluster
from benchmarks.measure import SETTLE, Cost, Seconds, cost_of, fresh, middle, spent_here
from benchmarks.table import Row, spread
from benchmarks.workloads import increment
from prefectish import Flow, history, task
from prefectish.engine.jobs.protocol import Executor
from prefectish.executors import DaskExecutor, LocalExecutor

#: A run to be measured.
Run = Callable[[], object]
#: Most wall time against the same run without a history.
WALL = 1.15
#: Most bytes a child on disk, with its costs, and milliseconds for its failures, and for a list of runs.
DISK = 115.0
FAILURES, RUNS = 100.0, 50.0
#: Runs that ``history.runs`` lists.
MANY = 10_000
#: One child in so many fails, for one of three reasons.
EVERY = 100


def rows(quick: bool = False) -> list[Row]:
    """Return the rows of a cluster, and of this process, where a child costs next to nothing else."""
    width, rounds = (1_000, 1) if quick else (100_000, 3)
    return [row for where in ("cluster", "local") for row in _rows_of(where, width, rounds)]


def _rows_of(where: str, width: int, rounds: int) -> list[Row]:
    found = fresh("benchmarks.recording", where, str(width), str(rounds))
    walls, cpus = ([a / b for a, b in found[figure]] for figure in ("wall", "cpu"))
    extra = [(a - b) / width * 1e6 for a, b in found["cpu"]]
    what = f"{where}, {width:,} children"
    bar = WALL if where == "cluster" else None
    return [
        Row("recording", f"{what} with a history, wall", middle(walls), "x without", bar, spread(walls), found),
        Row("recording", f"{what} with a history, cpu", middle(cpus), "x without", None, spread(cpus)),
        Row("recording", f"{what}, cpu of the history", middle(extra), "us a child", None, spread(extra)),
        Row("recording", f"{what}, on disk", found["bytes"], "bytes a child", DISK),
        Row("recording", f"{what}, failures()", found["failures"], "ms", FAILURES),
        Row("recording", f"{where}, runs() of {MANY:,}", found["runs"], "ms", RUNS),
    ]


def check_number(x: int) -> int:
    """Fail now and then."""
    if x % EVERY == 0:
        raise (ValueError, KeyError, OSError)[x // EVERY % 3](f"number {x}")
    return increment(x)


def _run(flow: Flow, executor: Executor, where: Any) -> str:
    state = flow.run(executor=executor, history=where)
    run_id: str = state.context["flow_run_id"]
    return run_id


def _measure(executor: Executor, width: int, rounds: int, cost: Callable[[Run], Cost | Seconds]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "history.db"))
        with Flow("recording") as flow:
            task(check_number).map(range(width))
        with Flow("warm") as warm:
            task(check_number).map(range(200))
        for where in (False, path):
            _run(warm, executor, where)
        before = _size(folder)
        arms = [partial(_run, flow, executor, where) for where in (path, False)]
        pairs = [[cost(arm) for arm in arms] for _ in range(rounds)]
        newest = history.runs(limit=1, store=path)[0]
        began = time.perf_counter()
        groups = newest.failures()
        taken = time.perf_counter() - began
        if sum(group.count for group in groups) != -(-width // EVERY):
            raise AssertionError(f"wrong failures: {groups}")
        disk = _size(folder) - before
        return {
            "wall": [[on.wall, off.wall] for on, off in pairs],
            "cpu": [[on.cpu, off.cpu] for on, off in pairs],
            "bytes": disk / (rounds * width),
            "failures": 1e3 * taken,
            "runs": 1e3 * _listing(path),
        }


def _listing(path: str) -> float:
    """Return the seconds in which many runs are listed: copies of the last one, as if it had run so often."""
    import sqlite3

    with sqlite3.connect(path) as connection:
        names = [name for _, name, *_ in connection.execute("PRAGMA table_info(runs)") if name not in ("number", "id")]
        columns = ", ".join(names)
        copies = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY})"
        last = "(SELECT * FROM runs ORDER BY number DESC LIMIT 1)"
        connection.execute(f"{copies} INSERT INTO runs (id, {columns}) SELECT 'copy-' || i, {columns} FROM n, {last}")
    began = time.perf_counter()
    found = history.runs(limit=MANY, store=path)
    taken = time.perf_counter() - began
    if len(found) != MANY:
        raise AssertionError(f"wrong runs: {len(found)}")
    return taken


def _size(folder: str) -> int:
    """Return the size of the history once its log is written back, as it is after the last one closes it."""
    import sqlite3

    with sqlite3.connect(os.path.join(folder, "history.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(file.stat().st_size for file in Path(folder).iterdir())


def main(where: str, width: int, rounds: int) -> Any:
    """Measure in a fresh process."""
    import logging

    logging.disable()  # a thousand tracebacks are no part of the question
    if where == "local":
        return _measure(LocalExecutor(), width, rounds, spent_here)
    with start_cluster() as cluster:
        time.sleep(SETTLE)
        return _measure(DaskExecutor(client=cluster.client), width, rounds, partial(cost_of, cluster))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
