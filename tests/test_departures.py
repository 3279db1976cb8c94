"""What the plugin of the scheduler does with children whose worker has died; without a scheduler."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from prefectish.engine.worker import running
from prefectish.executors import departures
from prefectish.executors.departures import MOST_LOOKS, Departures
from prefectish.executors.past_queue import ANNOTATION, NO_WORKER


def child(row, slug="load-1", annotated=True):
    """Return a task of the run "r" whose worker has died: Dask has counted that."""
    return SimpleNamespace(
        key=(f"{slug}-r", row, 0),
        annotations={ANNOTATION: ["r", 64]} if annotated else None,
        suspicious=1,
        state="processing",
        worker_restrictions=None,
        loose_restrictions=False,
        dependencies=set(),
    )


def note_of(*bodies):
    return b"".join(running._SLOT.pack(1, running.number_of(slug), row, 0) for slug, row in bodies)


def plugin_with(tasks, no_workers_timeout=None):
    later = []
    plugin = Departures()
    plugin.scheduler = SimpleNamespace(
        tasks={task.key: task for task in tasks},
        running={"another"},
        no_workers_timeout=no_workers_timeout,
        loop=SimpleNamespace(call_later=lambda *call: later.append(call)),
        transitions=lambda found, stimulus_id: None,
    )
    return plugin, later


def die(monkeypatch, tasks, note, **about):
    monkeypatch.setattr(departures, "note_here", lambda worker: note)
    plugin, later = plugin_with(tasks, **about)
    plugin._find_suspects(SimpleNamespace(nanny=None), {task.key for task in tasks}, ())
    return later


def test_only_the_child_that_ran_is_blamed_and_waits_for_its_neighbours(monkeypatch):
    tasks = [child(0), child(1)]
    die(monkeypatch, tasks, note_of(("load-1", 0)))
    assert [task.suspicious for task in tasks] == [1, 0]
    assert [task.worker_restrictions for task in tasks] == [{NO_WORKER}, None]


def test_children_that_waited_are_not_blamed_for_what_another_task_of_the_run_did(monkeypatch):
    reader, waiting = child(0, "save-2", annotated=False), child(1)
    die(monkeypatch, [reader, waiting], note_of(("save-2", 0)))
    assert (reader.suspicious, waiting.suspicious) == (1, 0)
    assert waiting.worker_restrictions is None


@pytest.mark.parametrize("note", [None, b"", note_of(("load-1", 99))])
def test_all_are_blamed_if_none_is_known_to_have_run(monkeypatch, note):
    tasks = [child(0), child(1)]
    die(monkeypatch, tasks, note)
    assert [task.suspicious for task in tasks] == [1, 1]
    assert [task.worker_restrictions for task in tasks] == [None, None]


def test_suspect_does_not_wait_for_what_it_reads_itself(monkeypatch):
    first, source, suspect, other = child(0, "read-1"), child(0, "load-2"), child(0, "save-3"), child(1, "load-2")
    source.dependencies, suspect.dependencies = [first], [source]
    tasks = [first, source, suspect, other]
    ((_, _, suspects, neighbours, _),) = die(monkeypatch, tasks, note_of(("save-3", 0)))
    assert (suspects, neighbours) == ([suspect], {other.key})


@pytest.mark.parametrize(("timeout", "looks"), [(None, MOST_LOOKS), (5.0, 5), (600.0, MOST_LOOKS)])
def test_suspects_are_let_go_before_dask_gives_them_up(monkeypatch, timeout, looks):
    later = die(monkeypatch, [child(0)], note_of(("load-1", 0)), no_workers_timeout=timeout)
    assert later[0][-1] == looks


def test_children_are_let_go_whatever_goes_wrong_when_a_nanny_is_asked(monkeypatch):
    async def broken(scheduler, worker):
        raise RuntimeError("the pool of connections is closed")

    async def lose():
        asyncio.get_running_loop().set_exception_handler(lambda loop, about: None)
        plugin._find_suspects(SimpleNamespace(nanny="tcp://nanny:1"), {task.key for task in tasks}, ())
        assert [task.worker_restrictions for task in tasks] == [{NO_WORKER}] * 2
        assert len(plugin._asking) == 1, "the loop keeps no task that nobody else keeps"
        await asyncio.wait(plugin._asking)

    tasks = [child(0), child(1)]
    plugin, _ = plugin_with(tasks)
    monkeypatch.setattr(departures, "note_here", lambda worker: None)
    monkeypatch.setattr(departures, "note_at_nanny", broken)
    asyncio.run(lose())
    assert [task.worker_restrictions for task in tasks] == [None] * 2
    assert [task.suspicious for task in tasks] == [1, 1]


def test_note_of_a_dead_worker_is_removed_though_it_had_no_short_children(monkeypatch):
    read = []
    monkeypatch.setattr(departures, "note_here", read.append)
    worker = SimpleNamespace(nanny=None)
    plugin, _ = plugin_with([])
    plugin._find_suspects(worker, set(), ())
    assert read == [worker]
