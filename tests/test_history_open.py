"""How many files a process has open that reads and writes many histories."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from prefectish import Flow, history, task
from prefectish.history import store as opened
from prefectish.history.store import MOST_CONNECTED, open_store

NUMBER = MOST_CONNECTED + 12


def open_files() -> list[str]:
    """Return the files that this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:  # that of the list itself
            continue
    return found


def flow_of_one() -> Flow:
    with Flow("one") as flow:
        task(lambda: 1, name="one")()
    return flow


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="files of a process are listed in /proc")
def test_files_of_histories_do_not_add_up(tmp_path):
    flow, paths = flow_of_one(), [str(tmp_path / f"{n}.db") for n in range(NUMBER)]
    ids = [flow.run(history=path).context["flow_run_id"] for path in paths]
    most = 3 * MOST_CONNECTED
    assert sum(str(tmp_path) in file for file in open_files()) <= most
    rows = [history.run(run_id, store=path) for run_id, path in zip(ids, paths, strict=True)]
    assert [row.children("one")[0].state for row in rows] == ["Success"] * NUMBER  # of histories that were let go, too
    assert [len(history.runs(store=path)) for path in paths] == [1] * NUMBER
    assert sum(str(tmp_path) in file for file in open_files()) <= most


def test_history_that_is_in_use_can_be_let_go(tmp_path):
    flow, path = flow_of_one(), str(tmp_path / "own.db")
    flow.run(history=path)
    store = open_store(path)
    with store.reading() as connection:
        for n in range(NUMBER):
            open_store(str(tmp_path / f"{n}.db"))
        assert not store.is_connected
        assert connection.exec_driver_sql("select count(*) from runs").scalar() == 1
    assert flow.run(history=path).is_successful()
    assert len(history.runs(store=path)) == 2
    assert store.is_connected


def test_history_that_another_process_opened_is_left_alone(tmp_path, monkeypatch):
    ours = open_store(str(tmp_path / "ours.db"))
    engine = ours.engine
    monkeypatch.setattr(ours, "process", -1)  # as after a fork
    for n in range(NUMBER):
        open_store(str(tmp_path / f"{n}.db"))
    assert ours not in opened._connected
    assert ours.engine is engine


def test_histories_are_used_by_several_threads_while_others_are_let_go(tmp_path):
    flow, told = flow_of_one(), []
    paths = [str(tmp_path / f"{n}.db") for n in range(3 * MOST_CONNECTED)]

    def use(mine):
        for path in mine:
            flow.run(history=path)
            told.append(len(history.runs(store=path)))

    threads = [threading.Thread(target=use, args=[paths[n::3]]) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [1] * len(paths)
