"""Short children go to workers past the queue of the scheduler, unless others wait there.

Dask keeps tasks of a large group in a queue, and sends a thread its next one when it has ended one: a message for each.
Tasks that are restricted to workers do not wait there. A client cannot know whether another one's tasks wait, nor which
worker has the least to do; so a session only says of its short children how many each thread may have
(:mod:`prefectish.engine.scheduling.ahead`), and a plugin of the scheduler finds them workers when they come. It
restricts them for that moment only: whatever becomes of them later, they have the freedom of any other task.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from distributed import SchedulerPlugin

from prefectish.engine.scheduling.ahead import Room, is_alone, is_held_up, spread
from prefectish.executors.dask_api import shorten_message_log

#: Annotation of short children: the name of their run, and how many of them each thread may have.
ANNOTATION = "prefectish-ahead"
#: Added to the order of all keys of a run: they come after those of others, unless they take turns with them.
AFTER_OTHERS = 1 << 54
#: Tasks in the queue that are sorted anew when others come; of more, the present ones stay first.
MOST_SORTED = 20_000
#: Seconds between two looks whether some wait behind long bodies; heartbeats tell of these, each second or so.
LOOK_INTERVAL = 0.5
#: A worker that no task can name.
NO_WORKER = "tcp://0.0.0.0:0"
#: Kind of the keys that hold the bytes of a chain; children that read nothing else run anywhere.
STEPS = "prefectish-steps"


class PastQueue(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """Sends short children past the queue, and has the others of a run take turns with what others have there."""

    name = f"{ANNOTATION}-1"
    idempotent = True

    def __init__(self) -> None:
        self._is_looking = False

    def update_graph(self, scheduler: Any, *, annotations: Any, **about: Any) -> None:
        """Find places for the children of a graph before Dask does, and for those that still wait."""
        told = annotations.get(ANNOTATION)
        if not told:
            if scheduler.queued and run_of(scheduler.queued.peek()) is not None:
                # After this call it is known which of the tasks wait.
                asyncio.get_running_loop().call_soon(give_way, scheduler, about.get("tasks", ()))
            return
        self._watch(scheduler)
        run, ahead = next(iter(told.values()))
        tasks = [task for key in told if (task := scheduler.tasks.get(key)) is not None and is_first(task)]
        tasks.sort(key=attrgetter("priority"))
        if not is_alone((run if is_of(task.key, run) else None for task in scheduler.queued), run):
            take_turns(tasks, scheduler.queued.peek().priority)
        elif ahead and "stealing" in scheduler.extensions:  # else they would wait behind a long body until its end
            self._place(scheduler, tasks, ahead)

    def _place(self, scheduler: Any, tasks: list[Any], ahead: int) -> None:
        waiting = [task for task in scheduler.queued if is_short(task)]
        if len(waiting) < len(scheduler.queued):
            return  # children of this run that take long, and come first
        waiting.sort(key=attrgetter("priority"))
        rooms = rooms_of(scheduler)
        placed = []
        for task, worker in zip([*waiting, *tasks], spread(len(waiting) + len(tasks), rooms, ahead), strict=False):
            if not (task.worker_restrictions or task.host_restrictions or task.resource_restrictions):
                task.worker_restrictions, task.loose_restrictions = {worker}, True
                placed.append(task)
        # After this call the scheduler gives the tasks to the workers, before it does anything else.
        asyncio.get_running_loop().call_soon(set_free, placed)
        if waiting:
            again = dict.fromkeys((task.key for task in waiting if task.worker_restrictions), "released")
            scheduler.transitions(again, stimulus_id=f"{self.name}-{time.time()}")

    def _watch(self, scheduler: Any) -> None:
        if not self._is_looking and "stealing" in scheduler.extensions:
            self._is_looking = True
            scheduler.loop.call_later(LOOK_INTERVAL, self._look, scheduler)

    def _look(self, scheduler: Any) -> None:
        """Move what waits behind long bodies, and on paused workers, as work stealing does, now and later.

        Dask gives a thread a task or two more than it runs, too, whatever they take, and leaves there what takes less
        time than the bytes that it reads: its function.
        """
        for connection in scheduler.stream_comms.values():
            shorten_message_log(connection)  # else the graphs of some ten thousand children stay in memory
        given = any(w.processing for w in scheduler.workers.values())
        self._is_looking = bool(given or scheduler.queued or scheduler.unrunnable)  # children may wait for any of them
        if not self._is_looking:
            return
        stealing = scheduler.extensions["stealing"]
        scheduler.loop.call_later(LOOK_INTERVAL, self._look, scheduler)
        held_up = [w for w in scheduler.workers.values() if w not in scheduler.running or is_worker_held_up(w)]
        stuck = [task for w in held_up for task in w.processing if task not in w.executing and is_movable(task)]
        thieves = spread(len(stuck), rooms_of(scheduler), max(map(ahead_of, stuck), default=0) or 1)
        for task, thief in zip(stuck, thieves, strict=False):
            stealing.move_task_request(task, task.processing_on, scheduler.workers[thief])


def rooms_of(scheduler: Any) -> list[Room]:
    """Return the workers that take tasks, without those all of whose threads run long bodies."""
    return [Room(w.address, w.nthreads, len(w.processing)) for w in scheduler.running if not is_worker_held_up(w)]


def is_worker_held_up(worker: Any) -> bool:
    """Whether a worker's threads all run long bodies, by its last heartbeat."""
    running = [seconds for task, seconds in worker.executing.items() if task in worker.processing]
    return is_held_up(running, worker.nthreads)


def is_of(key: Any, run: Any) -> bool:
    """Whether a key is of a run, of a short child or not; those of others are of any kind."""
    return isinstance(key, tuple) and str(key[0]).endswith(f"-{run}")


def run_of(task: Any) -> Any:
    """Return the run of a task that takes turns with those of others; None of any other."""
    annotation = task.annotations.get(ANNOTATION) if task.annotations else None
    return annotation[0] if annotation else None


def is_short(task: Any) -> bool:
    """Whether a task may be given to a worker ahead of its turn."""
    return run_of(task) is not None and ahead_of(task) > 0


def is_movable(task: Any) -> bool:
    """Whether a task may be moved to another worker: a short child, or one that takes no values along."""
    return is_short(task) or (run_of(task) is not None and is_first(task))


def ahead_of(task: Any) -> int:
    """Return how many tasks like this one each thread may be given ahead."""
    return int(task.annotations[ANNOTATION][1])


def take_turns(tasks: Iterable[Any], first: tuple[Any, ...]) -> None:
    """Let tasks take turns with those that wait: one for every two of a map, from the first one on.

    Parameters
    ----------
    first
        Priority of the task that is the next to leave the queue: the user's, its generation, its order.
    """
    user, generation, order = first
    for number, task in enumerate(tasks, 1):
        if task.priority[0] == user:
            task.priority = (user, generation, order + 2 * number)
            readers = list(task.dependents)
            while readers:  # what is deeper comes first
                reader = readers.pop()
                if reader.priority != first:  # many may have a reader in common
                    reader.priority = first
                    readers.extend(reader.dependents)


def is_first(task: Any) -> bool:
    """Whether a task reads nothing that is at one worker rather than at another."""
    return all(str(dependency.key[0]).startswith(STEPS) for dependency in task.dependencies)


def give_way(scheduler: Any, keys: Iterable[Any]) -> None:
    """Let children that wait take turns with tasks of others that have come."""
    others = [task for key in keys if (task := scheduler.tasks.get(key)) is not None and task.state == "queued"]
    if not others or len(scheduler.queued) > MOST_SORTED:
        return
    queued = list(scheduler.queued)
    waiting = [task for task in queued if run_of(task) is not None and task.priority[2] >= AFTER_OTHERS // 2]
    if not waiting:
        return
    waiting.sort(key=attrgetter("priority"))
    take_turns(waiting, min(task.priority for task in others))
    scheduler.queued.clear()  # it has its order by the priorities that tasks had when they came
    for task in queued:
        scheduler.queued.add(task)


def set_free(tasks: Iterable[Any]) -> None:
    """Let tasks run anywhere."""
    for task in tasks:
        task.worker_restrictions, task.loose_restrictions = None, False


def hold(task: Any) -> None:
    """Let a task run nowhere."""
    task.worker_restrictions, task.loose_restrictions = {NO_WORKER}, False


def release(scheduler: Any, tasks: Iterable[Any]) -> None:
    """Let tasks that were held run anywhere, now if they can."""
    held = [task for task in tasks if task.worker_restrictions == {NO_WORKER}]
    set_free(held)
    waiting = {task.key: "processing" for task in held if task.state == "no-worker" and scheduler.running}
    if waiting:
        scheduler.transitions(waiting, stimulus_id=f"{ANNOTATION}-{time.time()}")
