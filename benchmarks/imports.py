"""Ask what ``import prefectish`` costs: the median of fresh processes, with compiled bytecode."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.measure import ROOT, middle
from benchmarks.table import Row, spread

#: Most milliseconds.
BAR = 100.0
PROGRAM = """
import sys, time
began = time.perf_counter()
import prefectish
taken = time.perf_counter() - began
import json
print(json.dumps([taken * 1e3, sorted({"dask", "distributed"} & sys.modules.keys())]))
"""


def rows(quick: bool = False) -> list[Row]:
    """Return the time in milliseconds, and how many of Dask's packages came along."""
    results = [_once() for _ in range(4 if quick else 22)][1:]  # the first compiles
    times = [milliseconds for milliseconds, _ in results]
    dask = {name for _, names in results for name in names}
    return [
        Row("imports", "import prefectish", middle(times), "ms", BAR, spread(times)),
        Row("imports", "Dask packages imported with it", float(len(dask)), "packages", 0.0),
    ]


def _once() -> tuple[float, list[str]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    milliseconds, names = json.loads(done.stdout)
    return milliseconds, names
