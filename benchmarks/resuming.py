"""Ask how long a wide map that failed here and there takes to resume: to its first body, and what a child costs."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path

from benchmarks.table import Row
from prefectish import Flow, task
from prefectish.executors import LocalExecutor

#: One child in so many fails.
EVERY = 100
#: Most seconds to the first body, of a million children.
BAR, BAR_WIDTH = 5.0, 1_000_000

#: When bodies began since the list was emptied.
_began: list[float] = []
_is_repaired: list[bool] = []


def sometimes(x: int) -> int:
    """Fail now and then, until it is repaired."""
    _began.append(time.perf_counter())
    if not _is_repaired and x % EVERY == EVERY - 1:
        raise ValueError("not yet")
    return x


def rows(quick: bool = False) -> list[Row]:
    """Return the seconds to the first body, in this process."""
    width = 1_000 if quick else 100_000
    logging.disable()  # a thousand tracebacks are no part of the question
    try:
        first, whole = _resume(width)
    finally:
        logging.disable(logging.NOTSET)
    what = f"{width:,} children, one in {EVERY} failed"
    return [
        Row("resuming", f"{what}: first body", first, "s", None if quick else BAR * width / BAR_WIDTH),
        Row("resuming", f"{what}: a child that is kept", whole / width * 1e6, "us"),
    ]


def _resume(width: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        with Flow("resuming") as flow:  # no task reads the results, so that none need to be stored
            task(sometimes).map(range(width))
        store = str(Path(folder, "history.db"))
        _is_repaired.clear()
        failed = flow.run(executor=LocalExecutor(), history=store)
        _is_repaired.append(True)
        _began.clear()
        began = time.perf_counter()
        run_id = failed.context["flow_run_id"]
        state = flow.resume(run_id, retry_failed=True, executor=LocalExecutor(), history=store)
        if not state.is_successful() or len(_began) != width // EVERY:
            raise AssertionError(f"wrong children ran: {len(_began)}")
        return _began[0] - began, time.perf_counter() - began
