"""What a session reads of keys that are done, with the plugin of the scheduler and without it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("distributed")

from bodies import inc

from prefectish import Flow
from prefectish.executors import reading, session
from prefectish.executors.reading import QUESTION, Reading, Values, read

A, B, C = ("a-1-r", 0, 0), ("b-1-r", 0, 0), ("c-1-r", 0, 0)


class Scheduler:
    """Has tasks of some sizes, and the values of some of them; answers as one of distributed does."""

    def __init__(self, sizes: Mapping[Any, int], values: Mapping[Any, Any]) -> None:
        self.tasks = {key: SimpleNamespace(nbytes=size) for key, size in sizes.items()}
        self.values = values
        self.handlers: dict[str, Any] = {}
        self.asked: list[str] = []

    async def nbytes(self, keys: list[Any], summary: bool) -> dict[Any, int]:
        self.asked.append("nbytes")
        return {key: self.tasks[key].nbytes for key in keys}

    async def gather(self, keys: list[Any]) -> dict[str, Any]:
        self.asked.append("gather")
        if missing := [key for key in keys if key not in self.values]:
            return {"status": "error", "keys": missing}
        return {"status": "OK", "data": {key: self.values[key] for key in keys}}

    async def who_has(self, keys: list[Any]) -> dict[Any, list[str]]:
        return {key: ["tcp://there:1"] for key in keys}


@pytest.fixture(params=["at once", "size first"])
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Read of a scheduler; return what was read, and which keys are marked as pending."""
    pending: list[Any] = []
    monkeypatch.setattr(reading, "mark_pending", lambda client, keys: pending.extend(keys))

    async def asked(scheduler: Scheduler, limits: Mapping[Any, float]) -> tuple[Reading, list[Any]]:
        if request.param == "at once":
            await Values().start(scheduler)
        there = SimpleNamespace(**scheduler.handlers)
        for name in ("nbytes", "gather", "who_has"):
            setattr(there, name, getattr(scheduler, name))
        return await read(SimpleNamespace(scheduler=there), limits, request.param == "at once"), pending

    return lambda *given: asyncio.run(asked(*given))


def test_small_values_are_read_and_sizes_of_large_ones(ask):
    scheduler = Scheduler({A: 10, B: 11, C: 1000}, {A: "a", B: "b", C: "c"})
    assert ask(scheduler, {A: 10, B: 10, C: float("inf")}) == (Reading({A: "a", C: "c"}, {B: 11}, {}), [])
    assert scheduler.asked.count("gather") == 1


def test_key_that_the_scheduler_has_forgotten_is_pending_and_others_are_read(ask):
    scheduler = Scheduler({A: 1, B: -1}, {A: "a"})
    found, pending = ask(scheduler, {A: 10, B: 10, C: 10})
    assert (found, sorted(pending)) == (Reading({A: "a"}, {}, {}), [B, C])


def test_value_that_cannot_be_read_stays_open_and_its_workers_are_known(ask):
    scheduler = Scheduler({A: 1, B: 1}, {A: "a"})
    assert ask(scheduler, {A: 10, B: 10}) == (Reading({A: "a"}, {}, {B: ["tcp://there:1"]}), [B])


def test_nothing_is_asked_of_values_that_are_all_large(ask):
    scheduler = Scheduler({A: 100}, {A: "a"})
    assert ask(scheduler, {A: 10}) == (Reading({}, {A: 100}, {}), [])
    assert "gather" not in scheduler.asked


def test_run_on_a_cluster_that_had_one_before_reads_at_once(dask, monkeypatch):
    told = []
    monkeypatch.setattr(session, "read", lambda *given: told.append(given[-1]) or read(*given))
    while len(told) < 10 and True not in told:  # the scheduler is given the plugin beside the first run
        with Flow("once") as flow:
            inc(1)
        assert flow.run(executor=dask, history=False).is_successful()
    assert told[-1] is True
    assert len(told) < 10


def test_scheduler_has_what_the_plugin_uses():
    from distributed import Scheduler as Dask

    assert QUESTION.isidentifier()
    assert hasattr(Dask, "gather")
