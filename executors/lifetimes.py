"""Lifetimes of workers on a cluster: a worker refuses a body that it would not see the end of, the scheduler finds it a
place.

A worker announces its end to the scheduler when it opens a chain of a run (`announce_end`), and what it refuses
(`_refuse`); it then raises Dask's `Reschedule`. A plugin of the scheduler receives both, and says where the key may go
before Dask decides.
"""  # noqa: D205

from __future__ import annotations

import time
from typing import Any

import psutil
from distributed import Reschedule, SchedulerPlugin, get_worker

from prefectish.engine.scheduling.lifetimes import Living, places_for, room_for
from prefectish.engine.wire.execute import NotHere
from prefectish.engine.worker import lifetime
from prefectish.executors.past_queue import NO_WORKER, is_short

#: Name of the plugin, with the number of its messages.
NAME = "prefectish-lifetimes-1"
#: Topics of the events.
ENDS, REFUSED = "prefectish-ends", "prefectish-refused"
#: A key that waits for a new worker may go anywhere after so many seconds.
LONGEST_WAIT = 60.0


class TooShort(NotHere, Reschedule):  # type: ignore[misc]  # distributed has no types
    """Raised on a worker in the place of a body that would be cut by its end: Dask runs the key elsewhere."""


def announce_end() -> None:
    """Tell the scheduler, from a worker, when the worker ends; once in each process."""
    worker = get_worker()
    if lifetime.refuse is not None and getattr(worker, "prefectish_announced", False):
        return
    worker.prefectish_announced = True
    lived = time.time() - psutil.Process().create_time()
    of_dask = getattr(worker, "lifetime", None)
    lifetime.set_end(None if not of_dask else of_dask - lived, lived, _refuse)
    left = lifetime.seconds_left()
    if left is not None:
        worker.log_event(ENDS, {"worker": worker.address, "left": left, "span": lifetime.span()})


def _refuse(needed: float, left: float) -> BaseException:
    worker = get_worker()
    about = {"worker": worker.address, "left": left, "span": lifetime.span()}
    worker.log_event(REFUSED, {**about, "key": list(worker.get_current_task()), "needed": needed})
    return TooShort(f"{needed:.1f} s do not fit into the {left:.1f} s that {worker.address} lives")


class Lifetimes(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """Sends what a worker refused where it fits.

    Attributes
    ----------
    ends
        When workers end, by `time.monotonic`, by address.
    span
        Seconds that the last worker lived that reported its end.
    waiting
        Keys that wait for a new worker: the seconds that they need, and the workers that they may run on.
    """

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self.ends: dict[str, float] = {}
        self.span = 0.0
        self.waiting: dict[Any, tuple[float, Any]] = {}
        self._own: dict[Any, tuple[Any, bool]] = {}

    async def start(self, scheduler: Any) -> None:
        """Note the scheduler."""
        self.scheduler = scheduler

    def log_event(self, topic: str, msg: Any) -> None:
        """Hear what workers tell."""
        if topic in (ENDS, REFUSED):
            self.ends[msg["worker"]] = time.monotonic() + msg["left"]
            self.span = msg["span"]
        if topic == REFUSED:
            self._find_place(tuple(msg["key"]), msg["needed"])

    def remove_worker(self, scheduler: Any, worker: str, **about: Any) -> None:
        """Forget a worker; what was to run there alone may run anywhere."""
        self.ends.pop(worker, None)
        for task in list(scheduler.unrunnable):
            if task.key in self._own and task.key not in self.waiting:
                self._release(task)

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Give a new worker what waits for one, as much as it can be expected to see the end of."""
        room = None
        for key in list(self.waiting):
            needed, allowed = self.waiting[key]
            task = scheduler.tasks.get(key)
            if task is None:
                del self.waiting[key]
                continue
            if allowed and worker not in allowed:
                continue
            if room is None:
                room = max(1, room_for(needed, self.span, scheduler.workers[worker].nthreads))
            if not room:
                break
            room -= 1
            del self.waiting[key]
            task.worker_restrictions, task.loose_restrictions = {worker}, False

    def _find_place(self, key: Any, needed: float) -> None:
        task = self.scheduler.tasks.get(key)
        if task is None:
            return
        allowed, loose = self._own.setdefault(key, (task.worker_restrictions, task.loose_restrictions))
        while len(self._own) > 100_000:
            self._own.pop(next(iter(self._own)))
        now = time.monotonic()
        workers = [
            Living(w.address, self._left(w.address, now), w.nthreads, sum(not is_short(t) for t in w.processing))
            for w in self.scheduler.workers.values()
            if w.status.name == "running"
        ]
        places = places_for(needed, workers, allowed or None)
        if places is None:
            task.worker_restrictions, task.loose_restrictions = allowed, loose
        elif places:
            task.worker_restrictions, task.loose_restrictions = set(places), False  # an idle worker would steal it
        else:
            self.waiting[key] = needed, allowed
            task.worker_restrictions, task.loose_restrictions = {NO_WORKER}, False
            self.scheduler.loop.call_later(LONGEST_WAIT, self._wait_no_longer, key)

    def _left(self, address: str, now: float) -> float | None:
        end = self.ends.get(address)
        return None if end is None else end - now

    def _wait_no_longer(self, key: Any) -> None:
        task = self.scheduler.tasks.get(key)
        if self.waiting.pop(key, None) is not None and task is not None:
            self._release(task)

    def _release(self, task: Any) -> None:
        """Let a task run wherever its own restrictions allow it."""
        task.worker_restrictions, task.loose_restrictions = self._own[task.key]
        if task.state == "no-worker" and self.scheduler.running:
            self.scheduler.transitions({task.key: "processing"}, stimulus_id=f"prefectish-lifetimes-{time.time()}")
