"""What the scheduler knew of a worker when it left: a plugin there writes it down, because it forgets workers at once.

Why a worker left is in the stimulus of its removal; what it was running, and how large it was, in its last heartbeat.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from distributed import SchedulerPlugin

#: Name of the plugin on a scheduler; the number is that of its notes, for clusters that outlive this version.
NAME = "prefectish-departures-1"
#: Workers that are remembered.
_MOST_WORKERS = 2000
#: Keys whose workers retired under them that are remembered.
_MOST_KEYS = 100_000


class Departures(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """Remembers workers that have left.

    Attributes
    ----------
    workers
        Those that are there, by address.
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

    async def start(self, scheduler: Any) -> None:
        """Note the workers that are there."""
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
        if msg["expected"]:
            for key in executing:
                count = self.retired[key] = self.retired.pop(key, 0) + 1
                if count > 1:
                    self.begun_often[key] = count
            for counts in (self.retired, self.begun_often):
                while len(counts) > _MOST_KEYS:
                    counts.popitem(last=False)


def departure(scheduler: Any, address: str | None) -> dict[str, Any]:
    """Return what is known of a worker that has left; runs on the scheduler."""
    plugin = scheduler.plugins.get(NAME)
    found: dict[str, Any] = {} if plugin is None else plugin.departed.get(address, {})
    return found
