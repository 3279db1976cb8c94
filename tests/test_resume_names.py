"""Results under names that the user chose, in runs that are resumed: none is taken for that of another item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update
from test_contract_names import ends

import prefectish
from prefectish import Flow, flow, history, pause_task, task
from prefectish.engine.state import State, Success
from prefectish.errors import ResultReleased
from prefectish.history import schema
from prefectish.history.store import open_store
from prefectish.results import LocalResult


class Program:
    """A map over items, of which "bad" fails as long as nothing mends it; as a graph and as a flow function."""

    def __init__(self, front: str, executor: Any, folder: Path, target: str | None = None) -> None:
        self.front = front
        self.options = {"executor": executor, "history": str(folder / "history.db")}
        self.home = self.options["history"]
        self.store = LocalResult(folder / "results", location=None if target else "{map_index}.pkl")
        self.mended = str(folder / "mended")
        self.ran = str(folder / "ran")
        self.target = target

    def made(self) -> Any:
        mended, ran = self.mended, self.ran

        def load(x: str) -> str:
            with open(ran, "a") as file:
                file.write(f"{x} ")
            if x == "bad" and not Path(mended).exists():
                raise ValueError(x)
            return f"of {x}"

        return task(load, name="load", **({"target": self.target} if self.target else {}))

    def graph(self, items: list[str]) -> tuple[Flow, Any]:
        with Flow("names", result=self.store) as built:
            loaded = self.made().map(items)
        return built, loaded

    def function(self) -> Any:
        load = self.made()

        @flow(name="names", result=self.store, **self.options)
        def built(items: list[str]) -> Any:
            mapped = load.map(items)
            mapped.wait()
            return mapped.state.map_states

        return built

    def run(self, items: list[str]) -> list[State]:
        if self.front == "function":
            return list(self.function()(items))
        built, loaded = self.graph(items)
        return list(built.run(**self.options).result[loaded].map_states)

    def resume(self, run_id: str, items: list[str]) -> list[State]:
        Path(self.mended).touch()
        Path(self.ran).unlink(missing_ok=True)
        if self.front == "function":
            return list(self.function().resume(run_id, items=items, history=self.home, retry_failed=True).result)
        built, loaded = self.graph(items)
        state = built.resume(run_id, **self.options, retry_failed=True)
        return list(state.result[loaded].map_states)

    def last(self) -> str:
        return max(history.runs(store=self.home), key=lambda run: run.started).id


@pytest.fixture(params=["graph", "function"])
def front(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("target", [None, "{map_index}.pkl"], ids=["location", "target"])
def test_what_is_kept_is_not_replaced_by_what_has_its_place_now(
    executor: Any, tmp_path: Path, front: str, target: str | None
) -> None:
    program = Program(front, executor, tmp_path, target)
    assert [kind for kind, _ in ends(program.run(["a", "bad"]))] == ["Success", "Failed"]
    found = ends(program.resume(program.last(), ["new", "a", "bad"]))
    assert found[1:] == [("Success", "of a"), ("Success", "of bad")]
    assert found[0][0] == "Failed"
    assert "'0.pkl' is where the former load[0] keeps its result, not load[0]; put ${item_key}" in found[0][1]
    assert program.store.load("0.pkl") == "of a"
    assert Path(program.ran).read_text().split() == ["bad"]


def test_what_another_run_has_replaced_runs_again(executor: Any, tmp_path: Path, front: str) -> None:
    program = Program(front, executor, tmp_path)
    assert [kind for kind, _ in ends(program.run(["a", "bad"]))] == ["Success", "Failed"]
    run_id = program.last()
    assert ends(program.run(["b"])) == [("Success", "of b")]
    assert program.store.load("0.pkl") == "of b"
    states = program.resume(run_id, ["a", "bad"])
    assert (type(states[1]), states[1].result) == (Success, "of bad")
    if front == "function":  # it may read any result
        assert states[0].result == "of a"
    else:
        with pytest.raises(ResultReleased, match=r"load\[0\] is gone: another run has replaced '0.pkl'"):
            states[0].result  # noqa: B018


@pytest.mark.parametrize("known", ["step", "nothing"])
@pytest.mark.parametrize("shape", ["over a list", "over a call"])
def test_maps_whose_children_were_stored_and_not_recorded_are_kept(
    executor: Any, tmp_path: Path, shape: str, known: str
) -> None:
    """A client is killed after the children of maps have ended, and before it writes that."""
    ran, mended = tmp_path / "ran", tmp_path / "mended"
    home = str(tmp_path / "history.db")

    def counted(name: str, value: Any) -> Any:
        with open(ran, "a") as file:
            file.write(f"{name} ")
        return value

    numbers = task(lambda: counted("numbers", [1, 2]), name="numbers")
    first = task(lambda x: counted("first", x + 1), name="first")
    second = task(lambda x: counted("second", x * 10), name="second")

    @task
    def last(xs: list[int]) -> int:
        if not mended.exists():
            raise ValueError("not yet")
        return sum(xs)

    @flow(name="maps", result=LocalResult(tmp_path / "results"), executor=executor, history=home)
    def maps() -> Any:
        return last(second.map(first.map([1, 2] if shape == "over a list" else numbers.submit())).result())

    run_id = maps.run().context["flow_run_id"]
    with open_store(home).engine.begin() as connection:
        connection.execute(delete(schema.children))
        connection.execute(delete(schema.attempts))
        connection.execute(delete(schema.steps) if known == "nothing" else update(schema.steps).values(state=None))
    mended.touch()
    ran.unlink()
    assert maps.resume(run_id, history=home, retry_failed=True).result == 50
    assert not ran.exists()


@pytest.mark.parametrize("front", ["graph", "function"])
@pytest.mark.parametrize("waits", [[0], [0, 2], [1, 3]], ids=str)
def test_child_that_waits_is_told_from_those_of_its_key_that_have_ended(
    executor: Any, tmp_path: Path, front: str, waits: list[int]
) -> None:
    ran = tmp_path / "ran"
    home = str(tmp_path / "history.db")

    @task(name="ask")
    def ask(x: str) -> int:
        row = prefectish.context.map_index
        with open(ran, "a") as file:
            file.write(f"{row} ")
        if row in waits:
            pause_task(f"for row {row}?")
        return int(row)

    @flow(name="asks", result=LocalResult(tmp_path / "results"), executor=executor, history=home)
    def function() -> Any:
        return ask.map(["a"] * 4).result()

    with Flow("asks", result=LocalResult(tmp_path / "results")) as graph:
        ask.map(["a"] * 4)

    def paused(state: State) -> list[tuple[int | None, str | None, int]]:
        rows = history.run(state.context["flow_run_id"], home).paused()
        return [(row.index, row.message, row.attempt) for row in rows]

    state = function.run() if front == "function" else graph.run(executor=executor, history=home)
    run_id = state.context["flow_run_id"]
    assert paused(state) == [(row, f"for row {row}?", 1) for row in waits]
    ran.unlink()
    state = (function if front == "function" else graph).resume(run_id, executor=executor, history=home)
    assert not ran.exists()
    assert paused(state) == [(row, f"for row {row}?", 1) for row in waits]
    history.run(run_id, home).approve("ask", waits[-1], "go on")
    state = (function if front == "function" else graph).resume(run_id, executor=executor, history=home)
    assert ran.read_text().split() == [str(waits[-1])]
    assert [row for row, _, _ in paused(state)] == waits[:-1]
