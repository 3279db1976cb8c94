"""A child is its item: names follow it through a chain of maps, through shuffles, retries and processes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefectish import Flow, flatten, history, task, unmapped
from prefectish.engine.jobs.protocol import Executor
from prefectish.engine.plan.item_key import numbered
from prefectish.engine.state import Cached, State, Success
from prefectish.errors import FlowDefinitionError
from prefectish.results import LocalResult

Run = Callable[..., State]


def places(folder: Path) -> list[str]:
    """Return the names that somebody chose; notes of attempts that failed lie deeper."""
    return sorted(str(path.relative_to(folder)) for path in folder.glob("*/*") if path.is_file())


@given(st.lists(st.sampled_from(["a", "a#2", "a#2#1", "a#1", "b", "#3", ""]), max_size=12))
def test_numbered_names_are_one_for_each_item(keys: list[str]) -> None:
    seen: dict[str, int] = {}
    names = []
    for key in keys:
        seen[key] = seen.get(key, 0) + 1
        names.append(numbered(key, seen[key]))
    assert len(set(names)) == len(names)


def chain(store: Any, items: list[str], bad: set[str] | None = None) -> tuple[Flow, Any]:
    def first(item: str) -> str:
        return item.upper()

    def second(word: str) -> str:
        return f"{word}!"

    with Flow("chain", result=store) as flow:
        loud = task(second).map(task(first, item_key=str).map(items))
    return flow, loud


def test_later_steps_of_a_chain_are_named_after_the_item_it_began_with(run: Run, tmp_path: Path) -> None:
    store = LocalResult(dir=tmp_path, location="${task_name}/${item_key}")
    flow, loud = chain(store, ["x", "y", "x"])
    assert run(flow).result[loud].result == ["X!", "Y!", "X!"]
    assert places(tmp_path) == [f"{name}/{key}" for name in ("first", "second") for key in ("x", "x#2", "y")]


def test_target_follows_the_item_when_the_list_is_shuffled(executor: Executor, tmp_path: Path) -> None:
    def first(item: str) -> str:
        return item.upper()

    def second(word: str) -> str:
        return f"{word}!"

    def flow_of(items: list[str]) -> tuple[Flow, Any]:
        with Flow("targets", result=LocalResult(dir=tmp_path)) as flow:
            loaded = task(first, item_key=str).map(items)
            loud = task(second, target="loud/${item_key}").map(loaded)
        return flow, loud

    flow, loud = flow_of(["x", "y"])
    assert flow.run(executor=executor, history=False).result[loud].result == ["X!", "Y!"]
    flow, loud = flow_of(["y", "z", "x"])
    children = flow.run(executor=executor, history=False).result[loud].map_states
    assert [child.result for child in children] == ["Y!", "Z!", "X!"]
    assert [type(child) for child in children] == [Cached, Success, Cached]


def test_name_survives_a_retry_of_a_later_step(run: Run, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    def second(word: str) -> str:
        mark = marks / word
        if not mark.exists():
            mark.write_text("")
            raise ValueError("once")
        return word

    store = LocalResult(dir=tmp_path / "store", location="${task_name}/${item_key}")
    with Flow("retries", result=store) as flow:
        loaded = task(lambda item: item.upper(), name="first", item_key=str).map(["x", "y"])
        again = task(second, max_retries=1, retry_delay=0).map(loaded)
    assert run(flow).result[again].result == ["X", "Y"]
    assert places(tmp_path / "store") == ["first/x", "first/y", "second/x", "second/y"]


def test_flattened_children_are_their_elements(run: Run, tmp_path: Path) -> None:
    def spread(n: int) -> list[str]:
        return [f"{n}{letter}" for letter in "ab"]

    store = LocalResult(dir=tmp_path, location="${task_name}/${item_key}")
    with Flow("flat", result=store) as flow:
        shout = task(lambda part: part.upper(), name="shout", item_key=lambda part: part).map(
            flatten(task(spread, item_key=str).map([1, 2]))
        )
    assert run(flow).result[shout].result == ["1A", "1B", "2A", "2B"]
    assert [place for place in places(tmp_path) if place.startswith("shout")] == [
        f"shout/{n}{letter}" for n in (1, 2) for letter in "ab"
    ]


def test_flattened_children_are_kept_by_element_whatever_their_order(tmp_path: Path) -> None:
    ran: list[str] = []
    path = str(tmp_path / "history.db")

    def part(x: str) -> str:
        ran.append(x)
        return x

    def spread(n: int) -> list[str]:
        return [f"{n}{letter}" for letter in "ab"]

    def flow_of(items: list[int]) -> tuple[Flow, Any]:
        with Flow("flat", result=LocalResult(dir=tmp_path / "results")) as flow:
            parts = task(part).map(flatten(task(spread).map(items)))
        return flow, parts

    flow, _ = flow_of([1, 2])
    run_id = flow.run(history=path).context["flow_run_id"]
    ran.clear()
    flow, parts = flow_of([3, 2, 1])
    state = flow.resume(run_id, history=path)
    assert ran == ["3a", "3b"]
    assert state.result[parts].result == ["3a", "3b", "2a", "2b", "1a", "1b"]


def test_names_of_runs_know_the_item_without_a_history() -> None:
    with Flow("named") as flow:
        twice = task(lambda x: x, name="twice", task_run_name="twice ${item_key}").map(
            task(lambda x: x, name="once", item_key=lambda x: f"item-{x}").map([7, 8])
        )
    children = flow.run(history=False).result[twice].map_states
    assert [child.context["task_run_name"] for child in children] == ["twice item-7", "twice item-8"]


def test_key_on_a_later_step_of_a_chain_is_refused() -> None:
    def build() -> Flow:
        with Flow("late") as flow:
            task(lambda x: x, name="second", item_key=str).map(task(lambda x: x, name="first").map([1]))
        return flow

    with pytest.raises(FlowDefinitionError, match=r"second: item_key=.*comes too late.*first task"):
        build().run(history=False)


def test_key_literal_that_looks_numbered_clashes_with_nothing(tmp_path: Path) -> None:
    ran: list[str] = []
    path = str(tmp_path / "history.db")

    def read(x: tuple[str, int]) -> int:
        ran.append(str(x))
        return x[1]

    def flow_of(items: list[tuple[str, int]]) -> tuple[Flow, Any]:
        with Flow("clash", result=LocalResult(dir=tmp_path / "results")) as flow:
            children = task(read, item_key=lambda x: x[0]).map(items)
        return flow, children

    items = [("a", 1), ("a", 2), ("a#2", 3)]
    flow, children = flow_of(items)
    run_id = flow.run(history=path).context["flow_run_id"]
    ran.clear()
    for order in itertools.permutations(items):
        if order.index(("a", 1)) < order.index(("a", 2)):  # which of two with one key is the first, is their order
            flow, children = flow_of(list(order))
            assert flow.resume(run_id, history=path).result[children].result == [x[1] for x in order]
    assert ran == []


def test_item_that_has_no_key_falls_back_to_its_position(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = LocalResult(dir=tmp_path, location="${task_name}/${item_key}")
    with Flow("odd", result=store) as flow:
        task(lambda x, y: y, name="odd").map([object(), object()], unmapped(1))
    flow.run(history=False)
    assert places(tmp_path) == ["odd/0", "odd/1"]
    assert sum("children are known by their position" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("key", [lambda n: 1 // 0, lambda n: None], ids=["raises", "none"])
def test_each_run_warns_once_of_items_that_have_no_key(
    key: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "history.db")
    for count in (1, 2):
        with Flow("odd") as flow:
            children = task(lambda n: n, name="odd", item_key=key).map([1, 2, 3])
        state = flow.run(history=path)
        kept = history.run(state.context["flow_run_id"], store=path).children(children)
        assert [child.item_key for child in kept] == [None, None, None]
        told = [r.message for r in caplog.records if "odd: children are known by their position" in r.message]
        assert len(told) == count
        assert "ZeroDivisionError" in told[0] or "item_key returned None" in told[0]
