"""Before a large map: what no worker can load is told once, by name, and nothing of the map runs."""

from __future__ import annotations

import importlib
import re
import sys
from fractions import Fraction

import pytest
from real import kinds, note, notes

from prefectish import Flow, task
from prefectish.errors import EnvironmentMismatch
from prefectish.executors import DaskExecutor, session
from prefectish.executors.load_check import loaded_on

WIDE = 200


@pytest.fixture
def only_here(tmp_path, monkeypatch):
    """A module that this process can import, and workers that run already cannot."""
    (tmp_path / "only_here.py").write_text(
        "class Item:\n    def __init__(self, n):\n        self.n = n\n\ndef body(x):\n    return x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("only_here")
    yield module
    sys.modules.pop("only_here")


@pytest.fixture
def executor(dask_client):
    return DaskExecutor(client=dask_client)


def test_body_that_workers_cannot_load_is_refused_by_name(executor, only_here):
    with Flow("body") as flow:
        task(only_here.body).map(range(WIDE))
    with pytest.raises(EnvironmentMismatch) as caught:
        flow.run(executor=executor, history=False)
    text = str(caught.value)
    assert text.startswith("task body cannot be loaded on ")
    assert "ModuleNotFoundError: No module named 'only_here'; install there what it needs" in text
    assert caught.value.exit_code == 3


def test_without_a_load_check_every_child_says_so(executor, only_here, monkeypatch):
    monkeypatch.setattr(session, "check_chain", lambda *given: None)
    monkeypatch.setattr(session.SameModules, "check", lambda self, tasks: None)
    with Flow("body") as flow:
        children = task(only_here.body).map(range(WIDE))
    state = flow.run(executor=executor, history=False)
    assert kinds(state.result[children]) == {"Failed": WIDE}


def test_items_that_workers_cannot_load_are_refused_by_name(executor, only_here, tmp_path):
    @task
    def use(item):
        note(tmp_path / "notes", item.n)

    with Flow("items") as flow:
        use.map([only_here.Item(n) for n in range(WIDE)])
    with pytest.raises(EnvironmentMismatch) as caught:
        flow.run(executor=executor, history=False)
    text = str(caught.value)
    assert re.match(r"item use\[0\] and item use\[\d+\] cannot be loaded on ", text)
    assert "No module named 'only_here'" in text
    assert not notes(tmp_path / "notes")


@pytest.mark.parametrize("bad", [0, 17, WIDE - 1])
def test_p5_item_that_alone_cannot_be_loaded_fails_alone(executor, only_here, bad):
    @task
    def use(item):
        return 1

    items = [only_here.Item(n) if n == bad else [n] for n in range(WIDE)]
    with Flow("one item") as flow:
        children = use.map(items)
    state = flow.run(executor=executor, history=False)
    states = state.result[children].map_states
    assert kinds(state.result[children]) == {"Success": WIDE - 1, "Failed": 1}
    assert "could not be unpickled on the worker: ModuleNotFoundError" in states[bad].message


def test_small_map_is_not_tried(executor, only_here, monkeypatch):
    with Flow("small") as flow:
        children = task(only_here.body).map(range(3))
    with pytest.raises(EnvironmentMismatch, match=r"^task body cannot be loaded"):  # by its module alone
        flow.run(executor=executor, history=False)
    monkeypatch.setattr(session.SameModules, "check", lambda self, tasks: None)
    state = flow.run(executor=executor, history=False)
    assert kinds(state.result[children]) == {"Failed": 3}


def test_second_step_of_a_large_map_is_tried_too(executor, only_here):
    @task
    def make(n):
        return n

    with Flow("second") as flow:
        task(only_here.body, name="second").map(make.map(range(WIDE)))
    with pytest.raises(EnvironmentMismatch, match=r"^task second cannot be loaded"):
        flow.run(executor=executor, history=False)


def test_load_check_that_gets_no_worker_does_not_keep_the_map_from_running(executor, monkeypatch):
    monkeypatch.setattr(session, "IDLE_WAIT", 0.0)

    @task
    def work(x):
        return x

    with Flow("busy") as flow:
        children = work.map(range(WIDE))
    state = flow.run(executor=executor, history=False)
    assert state.result[children].result == list(range(WIDE))


@pytest.fixture
def checked(monkeypatch):
    """Return how many load checks were run so far."""
    asked, run = [], session.ClusterSession._run_load_check
    monkeypatch.setattr(
        session.ClusterSession, "_run_load_check", lambda self, *given: asked.append(given) or run(self, *given)
    )
    return lambda: len(asked)


def mapped(body, items):
    with Flow("again") as flow:
        children = task(body).map(items)
    return flow, children


def test_body_that_was_loaded_is_not_tried_again(executor, checked):
    flow, children = mapped(abs, range(WIDE))
    counts = []
    for _ in range(3):  # before the first run nobody has said which workers there are
        state = flow.run(executor=executor, history=False)
        assert state.result[children].result == list(range(WIDE))
        counts.append(checked())
    assert counts[-1] == counts[-2] <= 2


def test_items_are_tried_each_time(executor, checked):
    flow, _ = mapped(abs, [Fraction(n, 2) for n in range(WIDE)])
    for _ in range(3):
        flow.run(executor=executor, history=False)
    assert checked() == 3


def test_worker_that_joined_has_loaded_nothing(dask_client):
    loaded_on(dask_client, ["a", "b"]).add([b"body"])
    assert loaded_on(dask_client, ["a", "b"]).has([b"body"])
    assert loaded_on(dask_client, ["b"]).has([b"body"])
    assert not loaded_on(dask_client, ["b"]).has([b"body", b"other"])
    assert not loaded_on(dask_client, ["a", "c"]).has([b"body"])
    assert not loaded_on(dask_client, ["a", "b"]).has([b"body"])
