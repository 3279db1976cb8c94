"""Questions to the scheduler about a run: how its workers are, what runs, what waits for which data.

The functions run there. A key that is *processing* was given to a worker; whether its body runs is in the worker's last
heartbeat.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from prefectish.engine.scheduling.stalls import Fetching, Idle, Running, Stall, Unplaced
from prefectish.executors.dask_api import Key
from prefectish.executors.departures import NAME
from prefectish.executors.lifetimes import NAME as LIFETIMES

#: A worker that has not been heard of for so long, in seconds, takes nothing.
SILENT = 30.0
#: Tasks and workers that an answer names, at most.
_MOST = 200


class Summary(NamedTuple):
    """How a cluster is.

    Attributes
    ----------
    threads, taking
        Threads of all workers, and of those that take tasks.
    begun_often
        How often keys of the run were begun on workers that left on purpose while they ran them, from twice on.
    idle_timeout
        Seconds without a task after which the scheduler ends itself; None for never.
    """

    threads: int
    taking: int
    begun_often: dict[Any, int]
    idle_timeout: float | None


class Details(NamedTuple):
    """What a cluster does with the tasks of a run.

    Attributes
    ----------
    stall
        In words of labels.
    fetching
        Keys that wait for values: key, worker, and the values' keys.
    """

    stall: Stall
    fetching: list[tuple[Any, str, list[Any]]]


def summarize(run_id: str, dask_scheduler: Any = None) -> Summary:
    """Return how the cluster is; cheap enough to be asked each second."""
    plugin = dask_scheduler.plugins.get(NAME)
    often = {} if plugin is None else {k: n for k, n in plugin.begun_often.items() if is_of(k, run_id)}
    taking = sum(w.nthreads for w in dask_scheduler.workers.values() if idle_because(w) is None)
    return Summary(dask_scheduler.total_nthreads, taking, often, dask_scheduler.idle_timeout)


def look_at(run_id: str, labels: Mapping[str, str], dask_scheduler: Any = None) -> Details:
    """Return what the cluster does with the tasks of a run; `labels` has what steps are called, by slug."""
    running: list[Running] = []
    fetching: list[tuple[Any, str, list[Any]]] = []
    waiting: list[Fetching] = []
    idle: list[Idle] = []
    for worker in dask_scheduler.workers.values():
        why = idle_because(worker)
        if why is not None:
            idle.append(
                Idle(worker.address, why, int(worker.metrics.get("memory") or 0), int(worker.memory_limit or 0))
            )
        for task in worker.processing:
            if not is_of(task.key, run_id):
                continue
            if task in worker.executing:
                running.append(Running(label_of(task.key, run_id, labels), worker.address))
            elif why is None and (missing := [d for d in task.dependencies if d.who_has and worker not in d.who_has]):
                fetching.append((task.key, worker.address, [d.key for d in missing]))
                holders = [holder.address for holder in missing[0].who_has]
                value = label_of(missing[0].key, run_id, labels)
                waiting.append(Fetching(label_of(task.key, run_id, labels), worker.address, value, holders))
    all_idle = bool(idle) and len(idle) == len(dask_scheduler.workers)
    unplaced, is_empty = _unplaced(run_id, labels, dask_scheduler), not dask_scheduler.workers
    stall = Stall(running[:_MOST], waiting[:_MOST], idle[:_MOST], all_idle, unplaced[:_MOST], is_empty)
    return Details(stall, fetching[:_MOST])


def _unplaced(run_id: str, labels: Mapping[str, str], scheduler: Any) -> list[Unplaced]:
    """Return what no worker may run which is there."""
    lifetimes = scheduler.plugins.get(LIFETIMES)
    too_long = () if lifetimes is None else lifetimes.waiting
    keys = [task.key for task in scheduler.unrunnable if is_of(task.key, run_id)]
    return [Unplaced(label_of(key, run_id, labels), key in too_long) for key in keys]


def idle_because(worker: Any) -> str | None:
    """Return why a worker takes no task; None if it takes them."""
    if worker.status.name != "running":
        return str(worker.status.name)
    return "silent" if time.time() - worker.last_seen > SILENT else None


async def carry(keys: Sequence[Any], worker: str, dask_scheduler: Any = None) -> bool:
    """Bring values to a worker that cannot fetch them itself; return whether that was possible."""
    answer = await dask_scheduler.gather(keys=list(keys))
    if answer["status"] != "OK":
        return False
    await dask_scheduler.rpc(worker).update_data(data=answer["data"])
    return True


def is_of(key: Any, run_id: str) -> bool:
    """Whether a key is of a run."""
    return type(key) is tuple and len(key) == 3 and type(key[0]) is str and key[0].endswith(f"-{run_id}")


def label_of(key: Key, run_id: str, labels: Mapping[str, str]) -> str:
    """Return the label of the child, or the single task, that a key stands for.

    Examples
    --------
    >>> called = {"load-1": "load", "add-1": "add-1"}
    >>> label_of(("load-1-abc", 17, 0), "abc", called), label_of(("add-1-abc", -1, 0), "abc", called)
    ('load[17]', 'add-1')
    """
    if not is_of(key, run_id):
        return str(key)
    slug, index = key[0].removesuffix(f"-{run_id}"), key[1]
    label = labels.get(slug, slug)
    if isinstance(index, str):
        return f"{label} ({index})"
    return label if index < 0 else f"{label}[{index}]"
