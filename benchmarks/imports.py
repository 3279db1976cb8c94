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
began, worked = time.perf_counter(), time.process_time()
import prefectish
taken = [time.perf_counter() - began, time.process_time() - worked]
import json
print(json.dumps([*taken, sorted({"dask", "distributed"} & sys.modules.keys())]))
"""


def rows(quick: bool = False) -> list[Row]:
    """Return the time in milliseconds, and how many of Dask's packages came along."""
    results = [_once() for _ in range(4 if quick else 22)][1:]  # the first compiles
    walls, cpus = ([1e3 * result[i] for result in results] for i in (0, 1))
    dask = {name for _, _, names in results for name in names}
    return [
        Row("imports", "import prefectish, wall", middle(walls), "ms", BAR, spread(walls)),
        Row("imports", "import prefectish, cpu", middle(cpus), "ms", BAR, spread(cpus)),
        Row("imports", "Dask packages imported with it", float(len(dask)), "packages", 0.0),
    ]


def _once() -> tuple[float, float, list[str]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    wall, cpu, names = json.loads(done.stdout)
    return wall, cpu, names
