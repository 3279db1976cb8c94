"""The plugin of the scheduler that finds workers for short children; without a scheduler."""

from __future__ import annotations

import asyncio
from collections import deque
from types import SimpleNamespace

import pytest
from distributed.batched import BatchedSend
from distributed.collections import HeapSet
from distributed.scheduler import Scheduler

from prefectish.executors.dask_api import MESSAGES_KEPT
from prefectish.executors.past_queue import AFTER_OTHERS, ANNOTATION, NO_WORKER, PastQueue, hold, release


class FakeTask:
    def __init__(self, key, order, run=None, ahead=64, user=0, **about):
        self.key = key
        self.priority = (user, 1, order)
        self.annotations = None if run is None else {ANNOTATION: [run, ahead]}
        self.dependencies = about.get("dependencies", ())
        self.dependents = about.get("dependents", ())
        self.worker_restrictions = self.host_restrictions = self.resource_restrictions = None
        self.loose_restrictions = False
        self.state = "released"


class FakeWorker:
    def __init__(self, address, given=0, executing=None):
        self.address = address
        self.nthreads = 1
        self.executing = executing or {}
        self.processing = {object() for _ in range(given)} | set(self.executing)


class FakeScheduler:
    def __init__(self, queued=(), workers=("a", "b"), extensions=("stealing",)):
        self.tasks = {}
        self.stream_comms = {}
        self.extensions = dict.fromkeys(extensions)
        self.queued = HeapSet(key=lambda task: task.priority)
        for task in queued:
            self.tasks[task.key] = task
            self.queued.add(task)
        self.running = {w if isinstance(w, FakeWorker) else FakeWorker(w) for w in workers}
        self.workers = {w.address: w for w in self.running}
        self.replanned = {}
        self.unrunnable = {}
        self.later = []
        self.loop = SimpleNamespace(call_later=lambda delay, *call: self.later.append(call))

    def transitions(self, recommendations, stimulus_id):
        self.replanned |= recommendations


def submit(scheduler, tasks, run="r", ahead=64):
    """Send a graph of a run; return where its tasks are placed, and where they may run in the end."""

    async def send():
        scheduler.tasks |= {task.key: task for task in tasks}
        told = {ANNOTATION: {task.key: [run, ahead] for task in tasks}}
        PastQueue().update_graph(scheduler, annotations=told, client="c", keys=[], tasks=[], priority={})
        return [task.worker_restrictions for task in tasks]

    placed = asyncio.run(send())
    return placed, [task.worker_restrictions for task in tasks]


def children(count, run="r", first=0):
    return [FakeTask(("load-1-r", i, 0), 1000 + i, run) for i in range(first, first + count)]


def test_short_children_are_placed_for_the_moment_of_their_submission_only():
    placed, afterwards = submit(FakeScheduler(), children(4))
    assert sorted(next(iter(where)) for where in placed) == ["a", "a", "b", "b"]
    assert afterwards == [None] * 4


def test_children_take_turns_with_tasks_of_others_that_wait():
    others = [FakeTask(f"f-{i}", i) for i in range(10)]
    ours = children(3)
    placed, _ = submit(FakeScheduler(others), ours)
    assert placed == [None] * 3
    assert [task.priority for task in ours] == [(0, 1, 2), (0, 1, 4), (0, 1, 6)]


def test_deeper_steps_come_before_others_of_their_run_in_their_turns_too():
    reader = FakeTask(("save-2-r", 0, 0), 50, "r")
    ours = [FakeTask(("load-1-r", i, 0), 1000 + i, "r", dependents=[reader] if i == 0 else ()) for i in range(2)]
    submit(FakeScheduler([FakeTask("f", 7)]), ours)
    assert reader.priority < ours[0].priority < ours[1].priority


@pytest.mark.parametrize("key", [7, 1.5, "", "f-r", ("g", 0)])
def test_keys_of_others_may_be_of_any_kind(key):
    ours = children(1)
    placed, _ = submit(FakeScheduler([FakeTask(key, 5)]), ours)
    assert placed == [None]
    assert ours[0].priority == (0, 1, 7)


def test_nothing_is_placed_on_a_scheduler_that_cannot_move_it_from_behind_a_long_body():
    placed, _ = submit(FakeScheduler(extensions=()), children(2))
    assert placed == [None] * 2


def test_key_of_the_run_itself_that_waits_is_not_taken_for_another_ones():
    ours = children(2)
    submit(FakeScheduler([FakeTask(("prefectish-steps-r", 1, 0), 0)]), ours)
    assert [task.priority for task in ours] == [(0, 1, 1000), (0, 1, 1001)]


def test_children_leave_what_the_user_said_of_priorities():
    ours = [FakeTask(("load-1-r", 0, 0), 1000, "r", user=-5)]
    submit(FakeScheduler([FakeTask("f", 0)]), ours)
    assert ours[0].priority == (-5, 1, 1000)


def test_children_that_waited_are_placed_before_new_ones_once_nobody_else_waits():
    waiting = children(2)
    scheduler = FakeScheduler(waiting)
    placed, _ = submit(scheduler, children(1, first=2))
    assert scheduler.replanned == dict.fromkeys([task.key for task in waiting], "released")
    assert placed != [None]


def test_long_children_of_the_same_run_that_wait_come_first():
    scheduler = FakeScheduler([FakeTask(("save-2-r", 0, 0), 5, "r", ahead=0)])
    placed, _ = submit(scheduler, children(2))
    assert placed == [None] * 2
    assert not scheduler.replanned


def test_child_that_reads_what_is_on_a_worker_is_left_to_dask():
    value = SimpleNamespace(key=("load-1-r", 0, 0))
    steps = SimpleNamespace(key=("prefectish-steps-r", 1, 0))
    reader = FakeTask(("save-2-r", 0, 0), 1, "r", dependencies=[value])
    first = FakeTask(("load-1-r", 1, 0), 2, "r", dependencies=[steps])
    (of_reader, of_first), _ = submit(FakeScheduler(), [reader, first])
    assert of_reader is None
    assert of_first is not None


def test_worker_that_a_long_body_holds_up_gets_nothing():
    long = FakeTask("hours", 0)
    workers = [FakeWorker("held", executing={long: 99.0}), FakeWorker("free", 30)]
    placed, _ = submit(FakeScheduler(workers=workers), children(3))
    assert placed == [{"free"}] * 3


def test_what_others_submit_is_left_alone():
    task = FakeTask("f", 0)
    scheduler = FakeScheduler()
    scheduler.tasks["f"] = task
    PastQueue().update_graph(scheduler, annotations={"priority": {"f": 1}})
    assert task.worker_restrictions is None


def test_children_that_wait_take_turns_with_tasks_of_others_that_come():
    ours, theirs = children(3), [FakeTask(f"f-{i}", 5 + i) for i in range(4)]
    for task in ours:  # they came before
        task.priority = (0, 0, AFTER_OTHERS + task.priority[2])
    scheduler = FakeScheduler([*ours, *theirs])
    for task in theirs:
        task.state = "queued"

    async def send():
        PastQueue().update_graph(scheduler, annotations={}, tasks=[task.key for task in theirs])
        await asyncio.sleep(0)

    asyncio.run(send())
    order = [scheduler.queued.pop().key for _ in range(7)]
    assert order[:2] == ["f-0", "f-1"]
    assert set(order[2:4]) == {"f-2", ours[0].key}
    assert order[4:] == ["f-3", ours[1].key, ours[2].key]


def test_suspect_is_held_until_it_is_let_go():
    task = FakeTask("f", 0, "r")
    scheduler = FakeScheduler()
    hold(task)
    assert (task.worker_restrictions, task.loose_restrictions) == ({NO_WORKER}, False)
    task.state = "no-worker"
    release(scheduler, [task])
    assert task.worker_restrictions is None
    assert scheduler.replanned == {"f": "processing"}


def test_task_that_was_given_a_place_meanwhile_keeps_it():
    task = FakeTask("f", 0, "r")
    task.worker_restrictions = {"a"}
    release(FakeScheduler(), [task])
    assert task.worker_restrictions == {"a"}


@pytest.mark.parametrize("ahead", [64, 0])
def test_child_behind_a_long_body_is_moved_whatever_children_take(ahead):
    long, steps = FakeTask(("load-1-r", 0, 0), 0, "r", ahead), SimpleNamespace(key=("prefectish-steps-r", 1, 0))
    behind = FakeTask(("load-1-r", 1, 0), 1, "r", ahead, dependencies=[steps])
    reader = FakeTask(("save-2-r", 0, 0), 2, "r", 0, dependencies=[long])
    held = FakeWorker("held", executing={long: 99.0})
    held.processing |= {behind, reader, FakeTask("f", 3)}
    for task in held.processing:
        task.processing_on = held
    scheduler = FakeScheduler(workers=[held, FakeWorker("free")])
    moved = []
    stealing = SimpleNamespace(move_task_request=lambda task, victim, thief: moved.append((task, victim, thief)))
    scheduler.extensions = {"stealing": stealing}
    submit(scheduler, children(1, first=2), ahead=ahead)
    ((look, *arguments),) = scheduler.later
    look(*arguments)
    assert moved == [(behind, held, scheduler.workers["free"])]
    assert len(scheduler.later) == 2, "it looks again while there are any"


@pytest.mark.parametrize("waits", ["queued", "unrunnable", "processing"])
def test_workers_are_looked_at_until_nothing_is_left_that_may_come_to_them(waits):
    scheduler = FakeScheduler()
    submit(scheduler, children(1))
    holder = scheduler.workers["a"] if waits == "processing" else scheduler
    setattr(holder, waits, {FakeTask("f", 0)})
    look, *arguments = scheduler.later.pop()
    look(*arguments)
    assert len(scheduler.later) == 1
    setattr(holder, waits, {})
    look, *arguments = scheduler.later.pop()
    look(*arguments)
    assert not scheduler.later


def test_messages_with_many_children_are_not_kept():
    scheduler, log = FakeScheduler(), deque(range(1000))
    scheduler.stream_comms = {"a": SimpleNamespace(recent_message_log=log), "b": SimpleNamespace()}
    PastQueue()._look(scheduler)
    assert [*log] == [*range(1000 - MESSAGES_KEPT, 1000)]
    assert BatchedSend(interval=1).recent_message_log.maxlen > MESSAGES_KEPT, "what Dask keeps, under the name it has"


@pytest.mark.parametrize("name", ["transitions", "add_plugin"])
def test_scheduler_has_what_the_plugin_calls(name):
    assert hasattr(Scheduler, name)
