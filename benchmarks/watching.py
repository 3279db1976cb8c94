"""Ask what watching a run in a terminal costs: wall and processor time beside the same run that nobody watches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks.cluster import start_cluster
from benchmarks.measure import ROOT, SETTLE, cost_of, middle, spent_here
from benchmarks.table import Row, spread
from benchmarks.workloads import mapped
from prefectish.executors import DaskExecutor, LocalExecutor

#: Most wall time against the same run without progress.
WALL = 1.02
#: What a terminal gets at least from a run that is watched, in bytes.
DRAWN = 200


def rows(quick: bool = False) -> list[Row]:
    """Return the rows of a cluster, and of this process, where drawing and bodies share one interpreter."""
    if quick:
        return [*_rows_of("cluster", 500, 1), *_rows_of("local", 1_000, 1)]
    return [*_rows_of("cluster", 10_000, 6), *_rows_of("local", 200_000, 6)]


def _rows_of(where: str, width: int, rounds: int) -> list[Row]:
    found = in_terminal("benchmarks.watching", where, str(width), str(rounds))
    what = f"{where}, {width:,} children with live progress"
    made = []
    for figure in ("wall", "cpu"):
        per_round = [watched / alone for watched, alone in found[figure]]
        bar = WALL if (where, figure) == ("cluster", "wall") else None
        made.append(Row("watching", f"{what}, {figure}", middle(per_round), "x without", bar, spread(per_round), found))
    return made


def in_terminal(module: str, *arguments: str) -> Any:
    """Return what a module prints as JSON when its error output is a terminal of 100 columns."""
    import pty
    from fcntl import ioctl
    from struct import pack
    from termios import TIOCSWINSZ

    near, far = pty.openpty()
    ioctl(far, TIOCSWINSZ, pack("HHHH", 40, 100, 0, 0))
    drawn: list[bytes] = []
    program = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=far, text=True, env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(far)
    reader = threading.Thread(target=_drain, args=(near, drawn))
    reader.start()
    printed, _ = program.communicate()
    reader.join()
    os.close(near)
    shown = b"".join(drawn)
    if program.returncode or len(shown) < DRAWN:
        raise RuntimeError(f"{module} ended with {program.returncode}, and drew {len(shown)} bytes:\n{shown.decode()}")
    return json.loads(printed.splitlines()[-1])


def _drain(terminal: int, drawn: list[bytes]) -> None:
    """Read what a program draws: a terminal that nobody reads from stops it."""
    try:
        while piece := os.read(terminal, 65536):
            drawn.append(piece)
    except OSError:  # its other side is closed
        return


def main(where: str, width: int, rounds: int) -> dict[str, list[list[float]]]:
    """Return pairs of seconds, watched and not, each first in every other round."""
    with ExitStack() as stack:
        if where == "cluster":
            cluster = stack.enter_context(start_cluster())
            executor, cost = DaskExecutor(client=cluster.client), partial(cost_of, cluster)
            time.sleep(SETTLE)
        else:
            executor, cost = LocalExecutor(), spent_here
        for watched in (True, False):
            _run(executor, min(width, 500), watched)
        pairs: dict[str, list[list[float]]] = {"wall": [], "cpu": []}
        for n in range(rounds):
            order = (True, False) if n % 2 else (False, True)
            costs = {watched: cost(partial(_run, executor, width, watched)) for watched in order}
            for figure, pair in pairs.items():
                pair.append([float(getattr(costs[watched], figure)) for watched in (True, False)])
        return pairs


def _run(executor: Any, width: int, watched: bool) -> None:
    flow, _ = mapped(width)
    state = flow.run(executor=executor, history=False, progress=watched)
    if not state.is_successful():
        raise AssertionError(f"{flow.name} did not succeed: {state!r}")


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
