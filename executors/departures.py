"""What the scheduler knew of a worker when it left: a plugin there writes it down, because it forgets workers at once.

Why a worker left is in the stimulus of its removal; what it was running, and how large it was, in its last heartbeat.
Which children it was running is in a note of its own: short ones come and go between two heartbeats. Dask blames the
death of a worker on all tasks that it had been given; those of which it is known that they did not run are cleared.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from distributed import SchedulerPlugin

from prefectish.engine.scheduling.deaths import blamed
from prefectish.executors.last_bodies import keys_in, note_at_nanny, note_here
from prefectish.executors.past_queue import hold, is_of, is_short, release, run_of

#: Name of the plugin on a scheduler; the number is that of its notes, for clusters that outlive this version.
NAME = "prefectish-departures-2"
#: Seconds between two looks whether a child that ran when its worker died can run again, and looks after which it can:
#: for short children, whose neighbours do not take long, and for others.
LOOK_INTERVAL = 0.5
MOST_LOOKS = 30
FEW_LOOKS = 6
#: Workers that are remembered.
_MOST_WORKERS = 2000
#: Keys whose workers retired under them that are remembered.
_MOST_KEYS = 100_000


class Departures(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """Remembers workers that have left.

    Attributes
    ----------
    workers
        The present workers, by address.
    departed
        What is known of those that have left, by address; an address is of one process only, as long as it is there.
    retired, begun_often
        How often a worker left on purpose while it ran a key, by key; and the same of keys of which two did.
    """

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self.workers: dict[str, Any] = {}
        self.departed: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.retired: OrderedDict[Any, int] = OrderedDict()
        self.begun_often: OrderedDict[Any, int] = OrderedDict()
        self._silent: dict[str, float] = {}
        self._asking: set[asyncio.Task[None]] = set()  # the loop itself keeps them from nothing

    async def start(self, scheduler: Any) -> None:
        """Note the scheduler and its present workers."""
        self.scheduler = scheduler
        self.workers.update(scheduler.workers)

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Note a worker that joins."""
        self.workers[worker] = scheduler.workers[worker]

    def log_event(self, topic: str, msg: Any) -> None:
        """Read what the scheduler says to itself."""
        if topic == "scheduler" and isinstance(msg, dict) and msg.get("action") == "worker-ttl-timed-out":
            self._silent.update(dict.fromkeys(msg["workers"], float(msg["ttl"])))
        elif topic == "all" and isinstance(msg, dict) and msg.get("action") == "remove-worker":
            self._leaves(msg)

    def _leaves(self, msg: dict[str, Any]) -> None:
        address = msg["worker"]
        worker = self.workers.pop(address, None)
        if worker is None:
            return
        processing = set(msg["processing-tasks"])
        executing = {task.key: seconds for task, seconds in worker.executing.items() if task.key in processing}
        self.departed[address] = {
            "stimulus": str(msg["stimulus_id"]),
            "expected": bool(msg["expected"]),
            "silent_seconds": self._silent.pop(address, None),
            "executing": executing,
            "processing": processing,
            "threads": worker.nthreads,
            "last_memory": int(worker.metrics.get("memory") or 0) or None,
            "memory_limit": worker.memory_limit or None,
            "pid": worker.pid or None,
        }
        while len(self.departed) > _MOST_WORKERS:
            self.departed.popitem(last=False)
        if not msg["expected"]:
            self._find_suspects(worker, processing, msg["lost-computed-tasks"])
        else:
            for key in executing:
                count = self.retired[key] = self.retired.pop(key, 0) + 1
                if count > 1:
                    self.begun_often[key] = count
            for counts in (self.retired, self.begun_often):
                while len(counts) > _MOST_KEYS:
                    counts.popitem(last=False)

    def _find_suspects(self, worker: Any, given: set[Any], lost: Iterable[Any]) -> None:
        """Take the death of a worker back from children that did not run, as soon as it is known which did.

        Parameters
        ----------
        given, lost
            Keys that it had not finished, and keys whose values went down with it.
        """
        tasks = [t for key in given if (t := self.scheduler.tasks.get(key)) is not None and run_of(t) is not None]
        note = note_here(worker)  # it is not to stay there, whatever it ran
        if not tasks:
            return
        for task in tasks:
            task.suspicious -= 1
            hold(task)
        neighbours = {*given, *lost}
        if note is not None or not worker.nanny:
            self._blame(tasks, neighbours, note)
        else:
            asking = asyncio.get_running_loop().create_task(self._ask_nanny(worker, tasks, neighbours))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)

    async def _ask_nanny(self, worker: Any, tasks: list[Any], neighbours: set[Any]) -> None:
        note = None
        try:
            note = await note_at_nanny(self.scheduler, worker)
        finally:  # whatever goes wrong with the question: they are held until it is answered
            self._blame(tasks, neighbours, note)

    def _blame(self, tasks: Sequence[Any], neighbours: set[Any], note: bytes | None) -> None:
        """Count a death of those tasks that ran when their worker died; of all of them if none did, as Dask does.

        Those of which it is known run again when their neighbours have, and were read: not to take them down once more.
        What they read themselves is there as long as they are.
        """
        runs = {run_of(task) for task in tasks}
        ran = keys_in(note or b"", {key: run for key in neighbours for run in runs if is_of(key, run)})
        guilty = set(blamed([task.key for task in tasks], ran))
        for task in tasks:
            if task.key in guilty:
                task.suspicious += 1
        release(self.scheduler, [task for task in tasks if task.key not in ran])
        suspects = [task for task in tasks if task.key in ran]
        if suspects:
            looks = MOST_LOOKS if any(map(is_short, suspects)) else FEW_LOOKS
            if self.scheduler.no_workers_timeout:  # Dask gives up what no worker may run for so long
                looks = min(looks, int(self.scheduler.no_workers_timeout))
            neighbours = neighbours - ran - sources_of(suspects)
            self.scheduler.loop.call_later(LOOK_INTERVAL, self._try_suspects, suspects, neighbours, looks)

    def _try_suspects(self, suspects: list[Any], neighbours: set[Any], looks: int) -> None:
        """Let suspects run again once there is a worker, and their neighbours need not run any more."""
        tasks = self.scheduler.tasks
        if self.scheduler.running and (looks <= 0 or not any(key in tasks for key in neighbours)):
            release(self.scheduler, suspects)
        elif any(task.key in tasks for task in suspects):
            self.scheduler.loop.call_later(LOOK_INTERVAL, self._try_suspects, suspects, neighbours, looks - 1)


def sources_of(tasks: Iterable[Any]) -> set[Any]:
    """Return the keys that tasks read, and those that these read, as far as the scheduler has them."""
    found: set[Any] = set()
    left = list(tasks)
    while left:
        new = [source for source in left.pop().dependencies if source.key not in found]
        found.update(source.key for source in new)
        left += new
    return found


def departure(scheduler: Any, address: str | None) -> dict[str, Any]:
    """Return what is known of a worker that has left; runs on the scheduler."""
    plugin = scheduler.plugins.get(NAME)
    found: dict[str, Any] = {} if plugin is None else plugin.departed.get(address, {})
    return found
