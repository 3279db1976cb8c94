"""The history: what it keeps, what it refuses, what it must never lose."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from real import until
from recorded_flows import example, load
from sqlalchemy import select

from prefectish import Flow, get_logger, history, task
from prefectish.engine.scheduling.causes import normalised
from prefectish.engine.state import Success
from prefectish.errors import HistoryCorrupt, HistoryWriteError
from prefectish.executors import LocalDaskExecutor
from prefectish.history.schema import steps
from prefectish.history.store import open_store


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "history.db")


def test_run_is_recorded_with_its_tasks_and_children(path: str) -> None:
    state = example().run(history=path)
    [run] = history.runs(store=path)
    assert run.id == state.context["flow_run_id"]
    assert (run.flow_name, run.state, run.exit_code) == ("example", "Failed", 1)
    assert run.ended is not None
    assert run.started <= run.ended
    counts = {t["slug"]: t["counts"] for t in run.tasks()}
    assert counts == {
        "load-1": {"Success": 17, "Failed": 3},
        "total-1": {"Success": 1},
        "flaky-1": {"Failed": 1},
    }


def test_children_come_in_map_order_with_their_facts(path: str) -> None:
    run_id = example().run(history=path).context["flow_run_id"]
    run = history.run(run_id, store=path)
    children = run.children("load")
    assert [child.index for child in children] == list(range(20))
    assert len({child.item_key for child in children}) == 20
    assert [child.index for child in run.children("load-1", state="Failed")] == [3, 10, 17]
    assert run.child(load, 3).error == "ValueError: no file 3"
    assert "in load" in str(run.child(load, 3).traceback)
    assert run.child("load", children[5].item_key or "").index == 5
    assert run.child("total", 0).index is None


def test_earlier_attempts_are_kept_and_one_final_state(path: str) -> None:
    run = history.run(example().run(history=path).context["flow_run_id"], store=path)
    [child] = run.children("flaky")
    assert (child.state, child.attempts) == ("Failed", 3)
    assert [(a.number, a.state, a.error) for a in child.earlier()] == [
        (1, "Retrying", "RuntimeError: never"),
        (2, "Retrying", "RuntimeError: never"),
    ]


def test_width_of_a_map_is_known_while_it_runs(path: str) -> None:
    go_on = threading.Event()

    @task
    def wait_for(n: int) -> int:
        assert go_on.wait(60)
        return n

    with Flow("wide") as flow:
        wait_for.map(wait_for.map([1, 2, 3]))
    handle = flow.start(history=path, executor=LocalDaskExecutor("threads", num_workers=2))

    def widths() -> list[int | None]:
        with open_store(path).reading() as connection:
            return list(connection.execute(select(steps.c.width).order_by(steps.c.step)).scalars())

    until(lambda: widths() == [3, 3])
    go_on.set()
    handle.wait()
    assert widths() == [3, 3]


def test_failures_are_grouped_by_cause(path: str) -> None:
    run = history.run(example(70).run(history=path).context["flow_run_id"], store=path)
    groups = run.failures()
    assert [(g.type, g.count) for g in groups] == [("ValueError", 10), ("RuntimeError", 1)]
    assert [child.index for child in groups[0].children] == list(range(3, 70, 7))


def test_what_only_follows_from_failures_comes_behind_their_causes(path: str) -> None:
    with Flow("chain") as flow:
        rows = load.map(list(range(5)))
        for _ in range(3):
            rows = load.map(rows)
    groups = history.run(flow.run(history=path).context["flow_run_id"], store=path).failures()
    assert [(g.type, g.count) for g in groups] == [("ValueError", 1), ("TriggerFailed", 3)]


def test_children_show_their_items_and_errors(path: str) -> None:
    @task(item_key=lambda x: f"file {x}")
    def keyed(x: int) -> int:
        return x // (x - 1)

    with Flow("keyed") as flow:
        keyed.map([1, 2])
        load.map([0])
    run = history.run(flow.run(history=path).context["flow_run_id"], store=path)
    assert [child.label for child in run.children("keyed")] == ["keyed[0] (file 1)", "keyed[1] (file 2)"]
    assert repr(run.child("keyed", "file 1")).startswith("<child keyed[0] (file 1): Failed, ZeroDivisionError: ")
    assert repr(run.child("load", 0)) == "<child load[0]: Success>"


def test_x8_no_name_acts_on_the_terminal_in_a_repr(path: str) -> None:
    evil = "\x1b[2J\u202e\nforged"

    @task(name=evil, item_key=lambda x: evil)
    def named(x: int) -> None:
        get_logger().warning(evil)
        raise ValueError(evil)

    with Flow(evil) as flow:
        children = named.map([1])
    state = flow.run(history=path)
    run = history.run(state.context["flow_run_id"], store=path)
    [child] = run.children(children)
    shown = [flow, children, state.result, state[children][0], run, child, run.failures()[0], run.logs()[0]]
    texts = [repr(each) for each in shown] + [str(run.logs()[0]).partition("\n")[0]]
    assert [text for text in texts if not text.isprintable()] == []
    assert sum(r"\x1b[2J\u202e\nforged" in text for text in texts) == len(texts)


def test_runs_come_newest_first_by_flow_and_by_number(path: str) -> None:
    flows = [Flow(name, tasks=[]) for name in ("a", "b", "a")]
    ids = [flow.run(history=path).context["flow_run_id"] for flow in flows]
    assert [run.id for run in history.runs(store=path)] == ids[::-1]
    assert [run.id for run in history.runs(flow="a", store=path)] == [ids[2], ids[0]]
    assert [run.id for run in history.runs(limit=1, store=path)] == [ids[2]]
    assert history.run("last", store=path).id == ids[2]


def test_there_is_no_last_run_before_the_first_one(path: str) -> None:
    with pytest.raises(KeyError, match=r"no runs are recorded yet in the history .*history\.db"):
        history.run("last", store=path)


def test_unknown_runs_and_tasks_are_named(path: str) -> None:
    run_id = example().run(history=path).context["flow_run_id"]
    with pytest.raises(KeyError, match="no run 'nothing'"):
        history.run("nothing", store=path)
    run = history.run(run_id, store=path)
    with pytest.raises(KeyError, match=r"no task is called 'lod' in run .*: 'load', .*; did you mean 'load'\?"):
        run.children("lod")
    with pytest.raises(KeyError, match="no child 99"):
        run.child("load", 99)


def test_history_false_records_nothing(path: str) -> None:
    open_store(path)
    example().run(history=False)
    assert history.runs(store=path) == []


def test_neither_arguments_nor_results_are_kept(path: str) -> None:
    secret = "canary-5f2b"

    @task
    def double(text: str) -> str:
        return text + text

    with Flow("canary") as flow:
        double.map([secret, secret])
        double(secret)
    assert type(flow.run(history=path)) is Success
    folder = Path(path).parent
    assert all(secret.encode() not in file.read_bytes() for file in folder.iterdir())


def test_x13_history_is_private(path: str) -> None:
    before = os.umask(0)
    try:
        example().run(history=path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_x10_names_are_bound_and_not_run(path: str) -> None:
    name = "x'); drop table runs; --"
    Flow(name, tasks=[]).run(history=path)
    assert [run.flow_name for run in history.runs(flow=name, store=path)] == [name]


def test_h4_garbage_is_not_overwritten(path: str) -> None:
    garbage = os.urandom(8192)
    Path(path).write_bytes(garbage)
    with pytest.raises(HistoryCorrupt, match=r"history.db is not a prefectish history") as caught:
        example().run(history=path)
    assert caught.value.exit_code == 4
    assert Path(path).read_bytes() == garbage


def test_h4_foreign_database_is_not_touched(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table theirs (x)")
    before = Path(path).read_bytes()
    with pytest.raises(HistoryCorrupt):
        example().run(history=path)
    assert Path(path).read_bytes() == before


def test_h6_missing_folder_stops_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(HistoryWriteError, match="does not exist"):
        example().run(history=str(tmp_path / "nowhere" / "history.db"))


def test_unwritable_home_warns_once_and_the_run_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PREFECTISH_HOME", str(tmp_path / "file" / "home"))
    with pytest.warns(UserWarning, match="this run is not recorded"):
        assert type(Flow("quiet", tasks=[]).run()) is Success
    assert type(Flow("quiet", tasks=[]).run()) is Success


def test_h2_two_processes_write_at_once(path: str) -> None:
    script = f"from prefectish import Flow\nfor n in range(10): Flow(str(n), tasks=[]).run(history={path!r})"
    writers = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    assert len(history.runs(limit=None, store=path)) == 20


def test_interrupted_run_is_recorded_as_such(path: str) -> None:
    class Broken:
        def start(self, plan: Any, run: Any) -> Any:
            raise ConnectionError("nobody there")

    with pytest.raises(ConnectionError):
        example().run(history=path, executor=Broken())
    [run] = history.runs(store=path)
    assert (run.state, run.message) == ("Failed", "ConnectionError: nobody there")
    assert run.holder is None


@pytest.mark.parametrize(
    ("one", "other"),
    [("no file 'a-17.png'", "no file 'b-9.png'"), ("at 0x7f31 after 3.5 s", "at 0xffff after 12 s")],
)
def test_messages_of_one_cause_are_alike(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


# -- each run has its own tracebacks ----------------------------------------------------------------------------------

VERSIONS = [
    "from prefectish import task\n\n\n@task\ndef parse(x):\n    raise ValueError('no such row')  # one\n",
    "from prefectish import task\n\n\n@task\ndef parse(x):\n    y = x\n    if y:\n"
    "        raise ValueError('no such row')  # two\n",
]


def failure_of(text: str, tmp_path: Path, name: str = "rows") -> str:
    file = tmp_path / "body.py"
    file.write_text(text)
    names: dict[str, Any] = {"__name__": "body"}
    exec(compile(text, str(file), "exec"), names)
    with Flow(name) as flow:
        names["parse"].map([1, 2])
    run_id = flow.run(history=tmp_path / "h.db").context["flow_run_id"]
    (group,) = history.run(run_id, store=tmp_path / "h.db").failures()
    assert group.count == 2
    assert history.run(run_id, store=tmp_path / "h.db").child("parse", 0).traceback == group.traceback
    return str(group.traceback)


def test_causes_of_flows_that_fail_alike_are_apart(tmp_path: Path) -> None:
    """Two flows in one history, whose functions have one name and one message: each run shows its own lines."""
    one, other = (failure_of(text, tmp_path, name) for text, name in zip(VERSIONS, ("rows", "columns"), strict=True))
    found = {run.flow_name: run.failures()[0].traceback or "" for run in history.runs(store=tmp_path / "h.db")}
    assert found == {"rows": one, "columns": other}
    assert "# one" in one
    assert "# two" not in one
    assert "# two" in other
    assert "# one" not in other


def test_traceback_is_that_of_this_run_after_an_edit(tmp_path: Path) -> None:
    assert "# one" in failure_of(VERSIONS[0], tmp_path)
    second = failure_of(VERSIONS[1], tmp_path)
    assert "# two" in second
    assert "line 8, in parse" in second
    assert "# one" in failure_of(VERSIONS[0], tmp_path, name="other")
