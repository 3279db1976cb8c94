"""Ask what 100 viewers of the page of a run cost: the server, and the client and the scheduler that they watch.

On a small machine viewers and server disturb what they watch as any other program does, so a pair of runs says little:
it takes many, in turn, and the median.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cluster import start_cluster
from benchmarks.measure import ROOT, SETTLE, cost_of, fresh, middle
from benchmarks.table import Row, spread
from benchmarks.workloads import mapped
from prefectish.executors import DaskExecutor

#: Most cores of the server, and processor time of client and scheduler with viewers against without.
CORES, WATCHED = 0.5, 1.02
VIEWERS = 100


def rows(quick: bool = False) -> list[Row]:
    """Return what the server takes, and what client and scheduler take beside the same run that nobody watches."""
    width, rounds = (500, 1) if quick else (10_000, 16)
    return rows_of(fresh("benchmarks.viewers", "viewers", str(width), str(rounds)), width)


def rows_of(found: dict[str, Any], width: int) -> list[Row]:
    """Return the rows of what was measured."""
    ratios = [watched / alone for watched, alone in found["cpu"]]
    what = f"{VIEWERS} viewers of a run of {width:,} children"
    return [
        Row("viewers", f"{what}, cpu of the server", middle(found["cores"]), "cores", CORES, spread(found["cores"])),
        Row("viewers", f"{what}, cpu beside it", middle(ratios), "x without", WATCHED, spread(ratios), found),
    ]


def viewers(width: int, rounds: int) -> dict[str, Any]:
    """Return the cores that the server takes, and pairs of processor seconds of client and scheduler."""
    with tempfile.TemporaryDirectory() as folder, start_cluster() as cluster:
        path = str(Path(folder, "history.db"))
        executor = DaskExecutor(client=cluster.client)
        time.sleep(SETTLE)
        _run(executor, 200, path)
        cpu, cores = [], []
        for n in range(rounds):
            costs = {}
            for watched in (True, False) if n % 2 else (False, True):
                with _watching(path, cores) if watched else _nobody():
                    cost = cost_of(cluster, partial(_run, executor, width, path))
                costs[watched] = cost.client + cost.scheduler
            cpu.append([costs[True], costs[False]])
        return {"cpu": cpu, "cores": cores}


def _run(executor: Any, width: int, path: str) -> None:
    flow, _ = mapped(width)
    state = flow.run(executor=executor, history=path, progress=False)
    if not state.is_successful():
        raise AssertionError(f"{flow.name} did not succeed: {state!r}")


@contextmanager
def _nobody() -> Iterator[None]:
    yield


@contextmanager
def _watching(path: str, cores: list[float]) -> Iterator[None]:
    """Serve the page to viewers of the newest run, from a process of their own; note the cores that the server took."""
    command = [sys.executable, "-m", "prefectish.cli", "ui", "--store", path, "--port", "0"]
    with tempfile.TemporaryDirectory() as home:
        server = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PREFECTISH_HOME": home}
        )
        assert server.stdout is not None
        found = re.search(r"http://[^:]+:(\d+)/\?token=(\S+)", server.stdout.readline())
        assert found is not None
        crowd = subprocess.Popen([sys.executable, "-m", "benchmarks.viewers", "crowd", found[1], found[2]], cwd=ROOT)
        time.sleep(SETTLE)
        process, began = psutil.Process(server.pid), time.perf_counter()
        before = sum(process.cpu_times()[:2])
        try:
            yield
        finally:
            cores.append((sum(process.cpu_times()[:2]) - before) / (time.perf_counter() - began))
            for each in (crowd, server):
                each.terminate()
                each.wait()


def _give_way() -> None:
    """Take the time that is left, whatever priority the benchmark was given."""
    if hasattr(os, "sched_setscheduler"):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.nice(19)


def crowd(port: int, token: str) -> None:
    """Follow the newest run, as many browsers do, until this is ended; the list of runs names it.

    They stand for other machines: here they take the time that is left.
    """
    _give_way()
    request = "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n"

    def ask(address: str) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", port))
        opened.sendall(request.format(address, token).encode())
        return opened

    def newest() -> tuple[str, bool]:
        with ask("/api/runs?size=1") as opened, opened.makefile("rb") as answer:
            run = json.loads(answer.read().partition(b"\r\n\r\n")[2])["runs"][0]
            return str(run["id"]), bool(run["is_live"])

    run = newest()
    while not run[1]:
        time.sleep(0.1)
        run = newest()

    def follow() -> None:
        """Read events, and what the page of a run then fetches: new lines of the log, at most twice a second."""
        with ask(f"/events/run/{run[0]}") as stream:
            due = 0.0
            while stream.recv(65536):
                if time.monotonic() >= due:
                    due = time.monotonic() + 0.5
                    with ask(f"/api/runs/{run[0]}/logs") as opened:
                        while opened.recv(65536):
                            pass

    threads = [threading.Thread(target=follow) for _ in range(VIEWERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    name, *given = sys.argv[1:]
    if name == "crowd":
        crowd(int(given[0]), given[1])
    else:
        print(json.dumps(viewers(*map(int, given))))
