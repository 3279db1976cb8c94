"""Limits that hold across runs of several processes, by the database of the history."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from real import until

from prefectish import Flow, flow, task
from prefectish.engine.state import Success
from prefectish.errors import PrefectishError
from prefectish.executors import LocalDaskExecutor
from prefectish.history import shared_limits
from prefectish.history.shared_limits import share

LIMIT = 60.0


class Room:
    """Knows how many are in it at once."""

    def __init__(self) -> None:
        self.inside = self.most = self.count = 0
        self.lock = threading.Lock()
        self.open = threading.Event()

    def __call__(self, value: Any) -> Any:
        with self.lock:
            self.inside += 1
            self.count += 1
            self.most = max(self.most, self.inside)
        self.open.wait(LIMIT)
        with self.lock:
            self.inside -= 1
        return value


def runs_of(front: str, room: Room, limit: dict[str, int], width: int) -> Any:
    @task(shared_limits=limit)
    def use(x: int) -> int:
        return int(room(x))

    if front == "flow":
        with Flow("limited", executor=LocalDaskExecutor(num_workers=8)) as made:
            use.map(list(range(width)))
        return made

    @flow(executor=LocalDaskExecutor(num_workers=8))
    def limited() -> list[int]:
        return use.map(range(width)).result()

    return limited


@pytest.mark.parametrize("front", ["flow", "function"])
def test_limit_holds_for_two_runs_together(front: str, tmp_path: Path) -> None:
    room, path = Room(), str(tmp_path / "history.db")
    first = runs_of(front, room, {"db": 3}, 6).start(history=path)
    second = runs_of(front, room, {"db": 3}, 6).start(history=path)
    until(lambda: room.inside == 3, LIMIT)
    room.open.set()
    assert isinstance(first.wait(LIMIT), Success)
    assert isinstance(second.wait(LIMIT), Success)
    assert (room.most, room.count) == (3, 12)
    assert [(found.name, found.held) for found in shared_limits.limits(path)] == [("db", 0)]


def test_limit_that_is_set_beats_that_of_the_task(tmp_path: Path) -> None:
    room, path = Room(), str(tmp_path / "history.db")
    shared_limits.set_limit("db", 1, path)
    run = runs_of("flow", room, {"db": 5}, 4).start(history=path)
    until(lambda: room.inside == 1, LIMIT)
    room.open.set()
    assert isinstance(run.wait(LIMIT), Success)
    assert room.most == 1
    assert shared_limits.remove_limit("db", path)
    assert not shared_limits.remove_limit("db", path)


def test_what_a_dead_client_held_is_free_again(tmp_path: Path) -> None:
    path = str(tmp_path / "history.db")
    code = """
import sys, threading
from prefectish import Flow, task
@task(shared_limits={"db": 1})
def use(x):
    print("holds", flush=True)
    threading.Event().wait(600)
with Flow("holder") as flow:
    use.map([1])
flow.run(history=sys.argv[1])
"""
    holder = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"holds\n"
    assert [found.held for found in shared_limits.limits(path)] == [1]
    room = Room()
    room.open.set()
    run = runs_of("flow", room, {"db": 1}, 2).start(history=path)
    holder.kill()
    holder.wait(LIMIT)
    holder.stdout.close()
    assert isinstance(run.wait(LIMIT), Success)


@pytest.mark.parametrize("front", ["flow", "function"])
def test_limit_across_runs_without_a_history_is_refused(front: str) -> None:
    room = Room()
    made = runs_of(front, room, {"db": 1}, 2)
    if front == "flow":
        with pytest.raises(PrefectishError, match="shared_limits must have a history"):
            made.run(history=False)
    else:
        with pytest.raises(PrefectishError, match="shared_limits must have a history"):
            made.run(history=False)
    assert room.count == 0


@pytest.mark.parametrize("limit", [{"db": 0}, {"": 3}, {"db": "3"}, ["db"], {"db": True}])
def test_impossible_limits_are_refused(limit: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="shared_limits"):
        task(shared_limits=limit)(lambda x: x)


@pytest.mark.parametrize(
    ("size", "wanted", "used", "others", "expected"),
    [
        (5, 5, 0, [], 5),
        (5, 2, 0, [], 2),
        (5, 5, 0, [(5, 5)], 0),
        (5, 5, 5, [(0, 5)], 5),
        (6, 6, 0, [(0, 6)], 3),
        (6, 6, 2, [(2, 2)], 4),
        (1, 1, 0, [(0, 1), (0, 1)], 1),
        (0, 3, 0, [], 0),
        (3, 5, 5, [], 5),
    ],
)
def test_share_of_a_limit(size: int, wanted: int, used: int, others: list[tuple[int, int]], expected: int) -> None:
    assert share(size, wanted, used, others) == expected
