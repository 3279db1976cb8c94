"""Ask what the client takes while 100,000 children fail with messages of a megabyte, on every executor.

Each row is the largest resident size of a fresh process that records its run in a history of its own. That of a process
with one failed child is in the facts of the row.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import fresh, peak
from benchmarks.table import Row
from benchmarks.workloads import check
from prefectish import Flow, flow, task
from prefectish.executors import DaskExecutor, LocalDaskExecutor, LocalExecutor

#: Most that the client may take, in MB.
CLIENT = 500.0
#: Characters of a message.
MESSAGE = 1_000_000
EXECUTORS = {
    "local": LocalExecutor,
    "threads": lambda: LocalDaskExecutor("threads", num_workers=2),
    "processes": lambda: LocalDaskExecutor("processes", num_workers=2),
    "dask": lambda: DaskExecutor(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}),
}


def rows(quick: bool = False) -> list[Row]:
    """Return the peak of the client on each executor, with a graph and with a flow function."""
    width = 100 if quick else 100_000
    return [_row(width, name, front) for name in EXECUTORS for front in ("graph", "function")]


def _row(width: int, name: str, front: str) -> Row:
    small, large = (fresh("benchmarks.failing", name, front, str(number)) for number in (1, width))
    what = f"client, {width:,} children that fail with 1 MB each, {name}, {front}"
    return Row("failing", what, large["peak"], "MB", CLIENT, None, {"one": small, "all": large})


def _fail(number: int) -> None:
    raise ValueError(f"{number} " + chr(97 + number % 26) * MESSAGE)


def _run(name: str, front: str, width: int) -> dict[str, Any]:
    logging.getLogger("prefectish").setLevel(logging.CRITICAL)  # a line for each failure is not asked for
    load = task(_fail, name="load")

    def calls() -> Any:
        return load.map(range(width))

    if front == "graph":
        with Flow("failing") as made:
            calls()
    else:
        made = flow(calls, name="failing")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "history.db")
        state = made.run(executor=EXECUTORS[name](), history=str(path), progress=False)
        recorded = sum(file.stat().st_size for file in path.parent.iterdir()) / 1e6
    seconds = time.perf_counter() - began
    check(state.is_failed(), True)
    return {"width": width, "peak": peak(psutil.Process()), "seconds": round(seconds, 1), "history_mb": recorded}


if __name__ == "__main__":
    print(json.dumps(_run(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
