"""Wall time, processor time and memory of a call, over all processes that take part."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psutil

from benchmarks.cluster import Cluster, start_cluster
from benchmarks.workloads import ARMS

#: Seconds after a call in which the cluster forgets what it held: that is part of what the call cost.
SETTLE = 0.5
ROOT = Path(__file__).parent.parent


class Cost(NamedTuple):
    """What one call cost.

    Attributes
    ----------
    wall
        seconds.
    Client, scheduler, workers
        Processor seconds, user and system, of each kind of process.
    client_peak, scheduler_peak
        Largest resident size so far, in MB.
    """

    wall: float
    client: float
    scheduler: float
    workers: float
    client_peak: float
    scheduler_peak: float

    @property
    def cpu(self) -> float:
        """Return the processor seconds of all processes."""
        return self.client + self.scheduler + self.workers


def cost_of(cluster: Cluster, call: Callable[[], object]) -> Cost:
    """Call, and return what it cost on a cluster and here."""
    gc.collect()
    before = _cpu(cluster)
    began = time.perf_counter()
    call()
    wall = time.perf_counter() - began
    gc.collect()
    time.sleep(SETTLE)
    spent = [after - b for after, b in zip(_cpu(cluster), before, strict=True)]
    return Cost(wall, *spent, peak(psutil.Process()), peak(cluster.scheduler))


def _cpu(cluster: Cluster) -> tuple[float, float, float]:
    workers = [process for nanny in cluster.workers for process in (nanny, *nanny.children(recursive=True))]
    return time.process_time(), _seconds(cluster.scheduler), sum(map(_seconds, workers))


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def peak(process: psutil.Process) -> float:
    """Return the largest resident size that a process ever had, in MB; where nobody counts it, the size now."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return resident(process)
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) * 1024 / 1e6


def resident(process: psutil.Process) -> float:
    """Return the resident size of a process, in MB."""
    return float(process.memory_info().rss) / 1e6


def in_turn(names: Sequence[str], width: int, rounds: int, workers: int = 2) -> dict[str, list[Cost]]:
    """Run arms in turn on one cluster, A B A B, after a round to warm up; return the costs of each."""
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    with start_cluster(workers) as cluster:
        for name in names:
            ARMS[name](cluster.client, min(width, 500))
        time.sleep(SETTLE)
        for _ in range(rounds):
            for name in names:
                costs[name].append(cost_of(cluster, lambda run=ARMS[name]: run(cluster.client, width)))
    return costs


def in_turn_fresh(names: Sequence[str], width: int, rounds: int) -> dict[str, list[Cost]]:
    """Run arms in turn, each in a process and on a cluster of its own, so that its memory is its own, too."""
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            costs[name].append(Cost(*fresh("benchmarks.measure", name, str(width))))
    return costs


def fresh(module: str, *arguments: str) -> Any:
    """Return what a module prints as JSON when it runs as a program, in a fresh process."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


class Seconds(NamedTuple):
    """Wall time of a call, and processor time of all threads of this process."""

    wall: float
    cpu: float


def spent_here(call: Callable[[], object]) -> Seconds:
    """Call, and return what it cost in this process."""
    gc.collect()
    began, worked = time.perf_counter(), time.process_time()
    call()
    return Seconds(time.perf_counter() - began, time.process_time() - worked)


def seconds_in_turn(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[Seconds]]:
    """Call functions in turn, A B A B, after a call of each to warm up; return the times of each."""
    taken: dict[str, list[Seconds]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            taken[name].append(spent_here(call))
    return taken


def tree_seconds_in_turn(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[Seconds]]:
    """Do as :func:`seconds_in_turn`; processor time is that of the processes that this one started, too."""
    taken: dict[str, list[Seconds]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            gc.collect()
            began, worked = time.perf_counter(), _tree_seconds()
            call()
            taken[name].append(Seconds(time.perf_counter() - began, _tree_seconds() - worked))
    return taken


def _tree_seconds() -> float:
    here = psutil.Process()
    return time.process_time() + sum(map(_seconds, here.children(recursive=True)))


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return float(median(values))


def ratios(costs: Mapping[str, Sequence[Cost]], name: str, base: str, read: Callable[[Cost], float]) -> list[float]:
    """Return the ratio of one arm to another in each round: both met the same neighbours on the machine."""
    return [read(a) / read(b) for a, b in zip(costs[name], costs[base], strict=True)]


def _trial(name: str, width: int) -> Cost:
    with start_cluster() as cluster:
        ARMS[name](cluster.client, 500)
        time.sleep(SETTLE)
        return cost_of(cluster, lambda: ARMS[name](cluster.client, width))


if __name__ == "__main__":
    print(json.dumps(_trial(sys.argv[1], int(sys.argv[2]))))
