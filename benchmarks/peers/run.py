"""Ask what a child costs in other tools: joblib, Ray, Parsl. Needs them, and nothing of ours."""

from __future__ import annotations

import importlib.util
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

WORKERS = 2
ROUNDS = 3
RESULTS = Path(__file__).parent.parent / "results"


def increment(x: int) -> int:
    """Take no time."""
    return x + 1


def joblib_batches() -> Callable[[int], list[int]]:
    """Return joblib with its automatic batches."""
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=WORKERS)
    return lambda width: pool(delayed(increment)(x) for x in range(width))


def joblib_single() -> Callable[[int], list[int]]:
    """Return joblib with one call a message."""
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=WORKERS, batch_size=1)
    return lambda width: pool(delayed(increment)(x) for x in range(width))


def ray_tasks() -> Callable[[int], list[int]]:
    """Return Ray's remote functions."""
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="error")
    remote = ray.remote(increment)
    return lambda width: ray.get([remote.remote(x) for x in range(width)])


def parsl_processes() -> Callable[[int], list[int]]:
    """Return Parsl's executor of processes on this machine."""
    from parsl.executors import HighThroughputExecutor

    return _parsl(HighThroughputExecutor(label="peers", max_workers_per_node=WORKERS, address="127.0.0.1"))


def parsl_threads() -> Callable[[int], list[int]]:
    """Return Parsl's executor of threads."""
    from parsl.executors import ThreadPoolExecutor

    return _parsl(ThreadPoolExecutor(label="peers", max_threads=WORKERS))


def _parsl(executor: object) -> Callable[[int], list[int]]:
    import parsl

    parsl.load(parsl.Config(executors=[executor], run_dir=os.environ["PEERS_FOLDER"]))
    app = parsl.python_app(increment)
    return lambda width: [future.result() for future in [app(x) for x in range(width)]]


TOOLS: dict[str, tuple[str, Callable[[], Callable[[int], list[int]]]]] = {
    "joblib, batches": ("joblib", joblib_batches),
    "joblib, batch_size=1": ("joblib", joblib_single),
    "ray": ("ray", ray_tasks),
    "parsl, processes": ("parsl", parsl_processes),
    "parsl, threads": ("parsl", parsl_threads),
}


def measure(name: str, width: int) -> float:
    """Return the median microseconds a child."""
    run = TOOLS[name][1]()
    run(100)
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        result = run(width)
        times.append((time.perf_counter() - began) / width * 1e6)
        assert result[-1] == width, result[-1]
    return median(times)


def in_fresh_process(name: str, width: int) -> str:
    """Return the figure that a tool prints; the processes that it leaves behind, which share its output, are ended."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as printed:
        program = subprocess.Popen(
            [sys.executable, __file__, str(width), name],
            env={**os.environ, "PEERS_FOLDER": folder},
            stdout=printed,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        code = program.wait()
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        printed.seek(0)
        return printed.read().splitlines()[-1] if code == 0 else f"failed with {code}"


def main(width: int) -> None:
    """Measure each tool in a fresh process, print the table and keep it."""
    lines = ["| tool | version | microseconds a child |", "| --- | --- | ---: |"]
    for name, (package, _) in TOOLS.items():
        if importlib.util.find_spec(package) is None:
            lines.append(f"| {name} | not installed | |")
            continue
        figure = in_fresh_process(name, width)
        lines.append(f"| {name} | {version(package)} | {figure} |")
        print(lines[-1], flush=True)
    day = datetime.now(UTC).date().isoformat()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    head = f"{width:,} children that add one, {WORKERS} workers, median of {ROUNDS} rounds; {os.cpu_count()} cores, "
    text = "\n".join([f"# Peers, {day}", "", f"{head}Python {platform.python_version()}{load}", "", *lines, ""])
    (RESULTS / f"{day}-peers.md").write_text(text)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(f"{measure(sys.argv[2], int(sys.argv[1])):.1f}")
        sys.stdout.flush()
        os._exit(0)  # some tools' threads outlive their use
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
