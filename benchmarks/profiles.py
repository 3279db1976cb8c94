"""Ask where a child's time goes: own time of functions in each process, next to raw Dask.

By cProfile, in processor time. One thread is profiled at a time, in a run of its own: the profiler costs more than many
a function. Figures are for comparing, they do not add up to what a child costs without a profiler.

``python -m benchmarks.profiles [width]`` writes ``results/<date>-profile.md``.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.cluster import Cluster, start_cluster
from benchmarks.workloads import ARMS

RESULTS = Path(__file__).parent / "results"
ARMS_SHOWN = ("dask", "prefectish")
#: Own time by (file, function), in seconds.
Times = dict[tuple[str, str], float]
SHOWN = 14

_profiler: cProfile.Profile | None = None


def begin() -> None:
    """Profile this thread."""
    global _profiler
    _profiler = cProfile.Profile(time.thread_time)
    _profiler.enable()


def finish() -> Times:
    """End the profile of this thread and return own times; of a built-in, its name stands without a file."""
    assert _profiler is not None
    _profiler.disable()
    times: Times = {}
    for (file, _, name), (_, _, own, *_) in pstats.Stats(_profiler).stats.items():  # type: ignore[attr-defined]
        key = (short(file), name)
        times[key] = times.get(key, 0.0) + own
    return times


def short(file: str) -> str:
    """Return the last two parts of a path: no machine's folders in the results."""
    return "" if file == "~" else "/".join(Path(file).parts[-2:])


@contextmanager
def _client_thread(cluster: Cluster, times: Times) -> Any:
    begin()
    yield
    times.update(finish())


@contextmanager
def _client_loop(cluster: Cluster, times: Times) -> Any:
    async def call(function: Callable[[], Any]) -> Any:
        return function()

    cluster.client.sync(call, begin)
    yield
    times.update(cluster.client.sync(call, finish))


@contextmanager
def _scheduler(cluster: Cluster, times: Times) -> Any:
    cluster.client.run_on_scheduler(begin)
    yield
    times.update(cluster.client.run_on_scheduler(finish))


@contextmanager
def _worker_loop(cluster: Cluster, times: Times) -> Any:
    cluster.client.run(begin)
    yield
    _add(times, cluster.client.run(finish).values())


@contextmanager
def _worker_thread(cluster: Cluster, times: Times) -> Any:
    def everywhere(function: Callable[[], Any]) -> list[Any]:
        workers = list(cluster.client.scheduler_info(n_workers=-1)["workers"])
        futures = [cluster.client.submit(function, workers=[w], pure=False) for w in workers]
        return list(cluster.client.gather(futures))

    everywhere(begin)
    yield
    _add(times, everywhere(finish))


def _add(times: Times, found: Any) -> None:
    for one in found:
        for key, own in one.items():
            times[key] = times.get(key, 0.0) + own


THREADS: dict[str, Callable[[Cluster, Times], AbstractContextManager[None]]] = {
    "client, calling thread": _client_thread,
    "client, event loop": _client_loop,
    "scheduler": _scheduler,
    "workers, event loops": _worker_loop,
    "workers, task threads": _worker_thread,
}
#: Waiting is not a cost.
WAITS = ("poll", "acquire", "sleep", "select", "get")


def profile(width: int) -> dict[str, dict[str, Times]]:
    """Return own times by thread and arm."""
    found: dict[str, dict[str, Times]] = {}
    with start_cluster() as cluster:
        for name in ARMS_SHOWN:
            ARMS[name](cluster.client, 500)
        for thread, watch in THREADS.items():
            found[thread] = {}
            for name in ARMS_SHOWN:
                times: Times = {}
                with watch(cluster, times):
                    ARMS[name](cluster.client, width)
                found[thread][name] = {key: own for key, own in times.items() if not _is_wait(*key)}
    return found


def _is_wait(file: str, name: str) -> bool:
    return not file and any(f"'{wait}'" in name or f".{wait}>" in name or f" {wait}>" in name for wait in WAITS)


def report(found: dict[str, dict[str, Times]], width: int) -> str:
    """Return the tables as Markdown."""
    lines = [f"Own time under cProfile, in microseconds a child, {width:,} children that add one.", ""]
    for thread, arms in found.items():
        sums = {name: sum(times.values()) / width * 1e6 for name, times in arms.items()}
        lines += [f"## {thread}", "", "| function | raw Dask | prefectish |", "| --- | ---: | ---: |"]
        lines.append(f"| all | {sums['dask']:.0f} | {sums['prefectish']:.0f} |")
        dask, ours = arms["dask"], arms["prefectish"]
        keys = sorted(dask.keys() | ours.keys(), key=lambda k: -max(dask.get(k, 0.0), ours.get(k, 0.0)))
        for file, name in keys[:SHOWN]:
            a, b = (times.get((file, name), 0.0) / width * 1e6 for times in (dask, ours))
            lines.append(f"| `{f'{file}: ' if file else ''}{name}` | {a:.1f} | {b:.1f} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    day = datetime.now(UTC).date().isoformat()
    # Under its own name, so that the functions sent to workers are found there.
    from benchmarks import profiles

    page = f"# Where a child's time goes, {day}\n\n" + profiles.report(profiles.profile(size), size)
    (RESULTS / f"{day}-profile.md").write_text(page)
    print(page)
