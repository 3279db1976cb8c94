"""What children cost, and how two runs differ."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from real import spend
from typer.testing import CliRunner

from prefectish import Flow, Parameter, history, task
from prefectish.cli.app import app


@task
def work(x: int, seconds: float) -> bytes:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    if x == 3:
        raise ValueError(f"bad {x}")
    return b"x" * (100_000 if seconds > 0.02 else 10)


@task
def grow(x: int) -> int:
    return len(bytearray(150_000_000)) + x


def test_children_have_their_cost(run: Any, tmp_path: Path) -> None:
    with Flow("costs") as flow:
        work.map([1, 2], seconds=[0.1, 0.0])
        grow(1)
    store = tmp_path / "h.db"
    recorded = history.run(run(flow, history=store).context["flow_run_id"], store=store)
    busy, idle = recorded.children("work")
    assert busy.cpu_time is not None
    assert idle.cpu_time is not None
    assert 0.05 < busy.cpu_time < busy.duration + 0.05
    assert idle.cpu_time < 0.05
    assert (busy.bytes_out or 0) >= 100_000
    assert 10 <= (idle.bytes_out or 0) < 1000
    (large,) = recorded.children("grow")
    assert large.peak_memory is None or large.peak_memory > 0


@task
def size(text: bytes) -> int:
    spend(0.01)
    return len(text)


def test_children_say_how_much_came_in(run: Any, tmp_path: Path) -> None:
    with Flow("costs") as flow:
        size.map([b"x" * 50_000, b"y" * 200_000])
        size(work(1, 0.03), task_args={"name": "of a result"})
    store = tmp_path / "h.db"
    recorded = history.run(run(flow, history=store).context["flow_run_id"], store=store)
    # the first child of a task on a worker is not measured: how long they take is not known there
    found = [child.bytes_in for child in (*recorded.children("size-1"), *recorded.children("of a result"))]
    assert any(found)
    for taken, least in zip(found, (50_000, 200_000, 100_000), strict=True):
        assert taken is None or least <= taken < least + 1000


def test_states_of_children_know_their_cost(run: Any, tmp_path: Path) -> None:
    with Flow("costs") as flow:
        worked = work.map([1, 3, 2], seconds=[0.1, 0.0, 0.1])
        grow(1)
    state = run(flow, history=tmp_path / "h.db")
    first, last = state.children(worked, failed=False).costs()
    assert 0.05 < first.cpu_time < first.seconds + 0.05
    assert 0.05 < last.cpu_time < last.seconds + 0.05
    assert first.bytes_out >= 100_000
    (failed,) = state.children("work", failed=True).costs()
    assert failed.seconds is not None
    assert len(state.children("grow").costs()) == 1
    with pytest.raises(RuntimeError, match="asked of the state of a run"):
        state["work"].children(failed=True).costs()
    with pytest.raises(RuntimeError, match="not recorded"):
        run(flow).children("work").costs()


def test_bodies_elsewhere_and_runs_without_a_history_are_not_measured(tmp_path: Path) -> None:
    with Flow("costs") as flow:
        work.copy(timeout=60)(1, 0.0)
    store = tmp_path / "h.db"
    recorded = history.run(flow.run(history=store).context["flow_run_id"], store=store)
    assert recorded.children("work")[0].cpu_time in (None, pytest.approx(0, abs=0.05))


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str, str]:
    with Flow("compared") as flow:
        work.map(Parameter("xs"), seconds=Parameter("seconds"))
    store = str(tmp_path / "h.db")
    first = flow.run(xs=[1, 2, 3], seconds=[0.0, 0.0, 0.0], history=store)
    second = flow.run(xs=[1, 2, 4], seconds=[0.0, 0.1, 0.0], history=store)
    return store, first.context["flow_run_id"], second.context["flow_run_id"]


def test_two_runs_are_compared(two: tuple[str, str, str]) -> None:
    store, first, second = two
    found = history.compare(first, second, store=store)
    (times,) = found.tasks
    assert times.name == "work"
    assert times.total_after > times.total_before
    assert found.new_causes == []
    assert [(group.type, group.count) for group in found.gone_causes] == [("ValueError", 1)]
    assert [child.label for child in found.slower] == ["work[1]"]
    assert [child.label for child in found.larger] == ["work[1]"]
    assert found.slower[0].factor > 2
    back = history.compare(second, first, store=store)
    assert (len(back.new_causes), len(back.slower)) == (1, 0)


def test_command_compares(two: tuple[str, str, str]) -> None:
    store, first, _ = two
    done = CliRunner().invoke(app, ["compare", first, "--history", store])
    assert done.exit_code == 0
    for words in (
        "work: median",
        "gone: 1 x ValueError: bad 3",
        "slower: work[1]: ",
        "larger: work[1]: 10 B -> 100.0 kB",
    ):
        assert words in done.output
    facts = json.loads(CliRunner().invoke(app, ["compare", first, "last", "--json", "--history", store]).output)
    assert [child["label"] for child in facts["slower"]] == ["work[1]"]
    assert CliRunner().invoke(app, ["compare", "zzz", "--history", store]).exit_code == 2


def test_children_as_a_table(two: tuple[str, str, str]) -> None:
    store, first, _ = two
    table = history.to_dataframe(first, "work", store=store)
    assert isinstance(table, pd.DataFrame)
    assert list(table["state"]) == ["Success", "Success", "Failed"]
    assert list(table["index"]) == [0, 1, 2]
    assert table["cpu_time"].notna().all()
    assert len(history.to_dataframe(history.run(first, store=store))) == 3


def test_children_that_did_not_run_before_are_none_that_became_slower(tmp_path: Path) -> None:
    broken = {2}

    def body(x: int) -> int:
        if x in broken:
            raise ValueError(x)
        return x

    def rest(x: int) -> None:
        spend(0.03)

    with Flow("kept") as flow:
        task(rest, name="end").map(task(body, name="load").map([1, 2, 3]))
    store = str(tmp_path / "h.db")
    ids = []
    for _ in range(2):
        ids.append(flow.run(history=store, progress=False).context["flow_run_id"])
        broken.clear()
    found = history.compare(*ids, store=store)
    assert [child.state for child in found.before.children("end")] == ["Success", "TriggerFailed", "Success"]
    assert "end[1]" not in [child.label for child in found.slower]
