"""Retries that wait are the owner's: they hold no thread and no slot, however many they are."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from real import kinds, note, notes

from prefectish import Flow, context, task
from prefectish.engine.scheduling.timers import Timers
from prefectish.executors import DaskExecutor

pytestmark = pytest.mark.time_limit(120)


def test_things_are_due_in_order_of_their_times_and_then_as_they_came():
    timers = Timers()
    for due, thing in ((3.0, "c"), (1.0, "a"), (1.0, "b")):
        timers.at(due, thing)
    assert timers.next_due == 1.0
    assert [timers.pop_due(2.0) for _ in range(3)] == ["a", "b", None]
    assert timers
    assert timers.pop_due(3.0) == "c"
    assert timers.next_due is None
    assert not timers


def test_stale_things_are_not_waited_for():
    timers = Timers()
    for due in range(5):
        timers.at(float(due), due)
    timers.drop(lambda thing: thing in (0, 1, 3))
    assert [timers.pop_due(9.0) for _ in range(3)] == [2, 3, 4]


class Look:
    """Look at client and cluster now and then while a run goes on."""

    def __init__(self, client):
        self.client = client
        self.threads_here, self.threads_there, self.on_workers = [], [], []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._end.set()
        self._thread.join()

    def _look(self):
        while not self._end.wait(0.1):
            self.threads_here.append(threading.active_count())
            self.threads_there.extend(self.client.run(threading.active_count).values())
            self.on_workers.append(self.client.run_on_scheduler(_on_workers))


def _on_workers(dask_scheduler):
    return sum(len(worker.processing) for worker in dask_scheduler.workers.values())


@pytest.mark.fault
def test_l2_ten_thousand_waiting_retries_hold_no_thread_and_no_slot(dask_client, tmp_path):
    """All fail once and wait; while they do the cluster has nothing of them, and other work runs."""
    number = 10_000

    @task(batch_size="auto", max_retries=1, retry_delay=15)
    def shaky(x):
        first = context.task_run_count == 1
        logging.getLogger("prefectish").disabled = first  # ten thousand tracebacks are of no use to anybody
        if first:
            raise KeyError
        return 1

    with Flow("waiting") as flow:
        children = shaky.map(range(number))
        total = task(sum, name="total")(children)
    before = dask_client.run(threading.active_count), threading.active_count()
    with Look(dask_client) as look:
        state = flow.run(executor=DaskExecutor(client=dask_client))
    assert kinds(state.result[children]) == {"Success": number}
    assert state.result[total].result == number
    assert 0 in look.on_workers[2:-2], "at no time did all of them only wait"
    assert max(look.threads_there) <= max(before[0].values()) + 4
    assert max(look.threads_here) <= before[1] + 4


def test_other_children_run_while_retries_wait(dask_client, tmp_path):
    """More children wait than the cluster has threads; the others do not wait for them."""
    path = tmp_path / "notes"

    @task(max_retries=1, retry_delay=2)
    def shaky(x):
        if context.task_run_count == 1:
            raise KeyError(x)
        note(path, f"again {time.monotonic()}")

    @task
    def plain(x):
        note(path, f"plain {time.monotonic()}")

    with Flow("others") as flow:
        waiting = shaky.map(range(40))
        plain.map(range(300))
    state = flow.run(executor=DaskExecutor(client=dask_client, max_branches=20))
    assert kinds(state.result[waiting]) == {"Success": 40}
    assert [line.split()[0] for line in notes(path)][:290] == ["plain"] * 290


def test_retry_is_not_early(dask_client, tmp_path):
    path = tmp_path / "notes"

    @task(max_retries=2, retry_delay=0.3)
    def shaky(x):
        note(path, time.monotonic())
        if context.task_run_count < 3:
            raise KeyError(x)

    with Flow("delays") as flow:
        shaky.map([1])
    assert flow.run(executor=DaskExecutor(client=dask_client)).is_successful()
    first, second, third = (float(line) for line in notes(path))
    assert second - first >= 0.3
    assert third - second >= 0.3
