"""Ask what it costs to measure each child: processor time of a recorded run with and without it, in turn.

Children that take less than a millisecond are not measured, so here they are made to be: what is added to a child that
returns at once is the whole price, and a child that takes a millisecond is the one whose share of it is largest.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time

from benchmarks.measure import fresh, middle
from benchmarks.table import Row, spread
from benchmarks.workloads import mapped
from prefectish.engine.jobs.protocol import Executor
from prefectish.engine.worker import cost
from prefectish.executors import LocalDaskExecutor, LocalExecutor

#: Largest share of the shortest child that is measured, in percent.
SHARE = 2.0


def rows(quick: bool = False) -> list[Row]:
    """Return a row for this process, and one for threads."""
    width, rounds = (500, 2) if quick else (10_000, 9)
    return [_row(where, width, rounds) for where in ("local", "threads")]


def _row(where: str, width: int, rounds: int) -> Row:
    found = fresh("benchmarks.measuring", where, str(width), str(rounds))
    shares = [100 * (measured - not_measured) / width / cost.WORTHWHILE for not_measured, measured in found]
    what = f"{where}, {width:,} children, cpu of measuring one, of a child of {1000 * cost.WORTHWHILE:g} ms"
    return Row("measuring", what, middle(shares), "%", SHARE, spread(shares), found)


def main(where: str, width: int, rounds: int) -> list[list[float]]:
    """Return the processor time of a run without and with measuring, in seconds, for each round."""
    executor = LocalExecutor() if where == "local" else LocalDaskExecutor("threads", num_workers=2)
    _spent(executor, width, measured=True)
    return [[_spent(executor, width, measured=False), _spent(executor, width, measured=True)] for _ in range(rounds)]


def _spent(executor: Executor, width: int, measured: bool) -> float:
    flow, _ = mapped(width)
    cost.WORTHWHILE = -1.0 if measured else float("inf")
    with tempfile.TemporaryDirectory() as folder:
        gc.collect()
        begun = time.process_time()
        flow.run(executor=executor, history=os.path.join(folder, "history.db"))
        return time.process_time() - begun


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
