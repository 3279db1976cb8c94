"""The history on PostgreSQL, on a server that is really there."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psycopg")

from postgres import Server, binaries, forget_histories, owner, server
from recorded_flows import example, total
from sqlalchemy import Engine, create_engine, text

from prefectish import Flow, history, pause_task, task, unmapped
from prefectish.engine.signals import PAUSE
from prefectish.engine.state import Success
from prefectish.errors import HistoryTooNew, HistoryWriteError, ResumeMismatch, RunLocked
from prefectish.executors import LocalDaskExecutor
from prefectish.history import schema
from prefectish.results import LocalResult

PROGRAMS = binaries()
pytestmark = [
    pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL is not installed here"),
    pytest.mark.skipif(__import__("os").geteuid() == 0 and owner() is None, reason="no user but root to run it as"),
]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    assert PROGRAMS is not None
    with server(PROGRAMS) as running:
        yield running


@pytest.fixture
def database(postgres: Server) -> Iterator[Engine]:
    """Yield a connection of the test's own; what is recorded goes with the test."""
    engine = create_engine(postgres.url)
    yield engine
    forget_histories(postgres.url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS prefectish CASCADE"))
    engine.dispose()


@pytest.fixture
def url(postgres: Server, database: Engine) -> str:
    return postgres.url


def test_run_is_recorded_and_read_back(url: str) -> None:
    run_id = example().run(history=url).context["flow_run_id"]
    [run] = history.runs(store=url)
    assert (run.id, run.flow_name, run.state, run.exit_code, run.holder) == (run_id, "example", "Failed", 1, None)
    assert {t["slug"]: t["counts"] for t in run.tasks()} == {
        "load-1": {"Success": 17, "Failed": 3},
        "total-1": {"Success": 1},
        "flaky-1": {"Failed": 1},
    }
    assert [child.index for child in run.children("load", state="Failed")] == [3, 10, 17]
    assert [(g.type, g.count) for g in run.failures()] == [("ValueError", 3), ("RuntimeError", 1)]
    assert [(a.number, a.state) for a in run.child("flaky", 0).earlier()] == [(1, "Retrying"), (2, "Retrying")]
    assert history.run(run_id[:20], store=url).id == run_id


def test_tables_are_in_a_namespace_of_their_own(url: str, database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE runs (theirs int)"))
    try:
        example(2).run(history=url)
        with database.begin() as connection:
            assert connection.execute(text("SELECT count(*) FROM runs")).scalar_one() == 0
            assert connection.execute(text("SELECT count(*) FROM prefectish.runs")).scalar_one() == 1
    finally:
        with database.begin() as connection:
            connection.execute(text("DROP TABLE runs"))


def test_resume_runs_what_is_new_and_what_failed(url: str, tmp_path: Any) -> None:
    def read(x: int, bad: int) -> int:
        ran.append(x)
        if x == bad:
            raise ValueError(x)
        return x

    def flow_of(items: list[int], bad: int) -> Flow:
        with Flow("grown", result=LocalResult(dir=tmp_path)) as flow:
            total(task(read, name="read").map(items, unmapped(bad)))
        return flow

    ran: list[int] = []
    run_id = flow_of([1, 2, 3], bad=0).run(history=url).context["flow_run_id"]
    ran.clear()
    assert type(flow_of([9, 3, 2, 1], bad=0).resume(run_id, history=url)) is Success
    assert ran == [9]
    run = history.run(run_id, store=url)
    assert (run.part, run.state) == (1, "Success")
    assert [child.state for child in run.children("read")] == ["Success"] * 4


def test_texts_that_no_server_takes_are_kept_as_escapes(url: str) -> None:
    @task(name="odd")
    def odd() -> None:
        raise ValueError("nul \0 and lone \ud800")

    with Flow("odd\0flow") as flow:
        odd()
    state = flow.run(history=url)
    assert state.exit_code == 1
    [group] = history.run(state.context["flow_run_id"], store=url).failures()
    assert "\\x00" in group.message
    assert "\\ud800" in group.message
    assert history.runs(store=url)[0].flow_name == "odd\\x00flow"


def test_c7_run_that_another_client_drives_is_locked(url: str) -> None:
    started, release = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        assert release.wait(60)

    flow = Flow("held", tasks=[task(hold)])
    run = flow.start(executor=LocalDaskExecutor(num_workers=1), history=url)
    assert started.wait(60)
    try:
        with pytest.raises(RunLocked, match="is held by"):
            flow.resume(run.id or "", history=url)
    finally:
        release.set()
    run.wait(60)


def test_h2_clients_that_begin_at_once_make_the_tables_once(url: str) -> None:
    script = f"from prefectish import Flow\nfor n in range(5): Flow(str(n), tasks=[]).run(history={url!r})"
    writers = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    assert len(history.runs(limit=None, store=url)) == 15


def test_h5_newer_tables_are_left_alone(url: str, database: Engine) -> None:
    example(2).run(history=url)
    with database.begin() as connection:
        connection.execute(text("UPDATE prefectish.about SET value = '7' WHERE name = 'version'"))
    forget_histories(url)
    with pytest.raises(HistoryTooNew, match=f"schema 7, this version knows {schema.VERSION}"):
        example(2).run(history=url)
    with database.begin() as connection:
        connection.execute(text(f"UPDATE prefectish.about SET value = '{schema.VERSION}' WHERE name = 'version'"))
        assert connection.execute(text("SELECT count(*) FROM prefectish.runs")).scalar_one() == 1


def test_h5_older_tables_are_brought_up_to_date(url: str, database: Engine) -> None:
    run_id = example(2).run(history=url).context["flow_run_id"]
    with database.begin() as connection:
        for statement in chain.from_iterable(schema.UPGRADES.values()):
            added = re.fullmatch(r"ALTER TABLE \{at\}(\w+) ADD COLUMN (\w+) .*", statement)
            assert added is not None
            table, column = added.groups()
            connection.execute(text(f"ALTER TABLE prefectish.{table} DROP COLUMN {column}"))
        connection.execute(text("DROP TABLE prefectish.requested, prefectish.deployments, prefectish.asks"))
        connection.execute(text("UPDATE prefectish.about SET value = '1' WHERE name = 'version'"))
    forget_histories(url)
    assert len(history.run(run_id, store=url).failures()) > 0
    assert len(history.runs(store=url)) == 1
    example(2).run(history=url)
    assert len(history.runs(store=url)) == 2


def test_paused_children_are_reported_and_stay_paused(url: str) -> None:
    def ask(x: int) -> int:
        if x == 1:
            raise PAUSE("shall I?", context={"who": "anna"})
        return x

    with Flow("asks") as flow:
        task(ask).map([0, 1, 2])
    run_id = flow.run(history=url).context["flow_run_id"]
    [waiting] = history.run(run_id, store=url).paused()
    assert (waiting.slug, waiting.index, waiting.message, waiting.context) == ("ask-1", 1, "shall I?", {"who": "anna"})
    assert flow.resume(run_id, history=url).exit_code == 5


def test_server_that_comes_back_loses_nothing(postgres: Server, url: str) -> None:
    first, down, up = threading.Event(), threading.Event(), threading.Event()

    def step(x: int) -> int:
        if x == 1:
            first.set()
            assert up.wait(120)
        return x

    with Flow("patient") as flow:
        task(step).map(list(range(40)))
    run = flow.start(executor=LocalDaskExecutor(num_workers=1), history=url)
    assert first.wait(60)
    postgres.stop()
    down.set()
    postgres.start()
    up.set()
    assert type(run.wait(120)) is Success
    recorded = history.run(run.id or "", store=url)
    assert (recorded.state, len(recorded.children("step"))) == ("Success", 40)


def test_server_that_is_gone_breaks_the_record_and_not_the_run(
    postgres: Server, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("prefectish.history.recorder.PATIENCE", 0.1)
    stopped = threading.Event()

    def stop(x: int) -> int:
        if x == 0 and not stopped.is_set():
            postgres.stop()
            stopped.set()
        return x

    with Flow("forlorn") as flow:
        task(stop).map(list(range(10)))
    try:
        state = flow.run(history=url)
    finally:
        postgres.start()
    assert type(state) is Success
    assert state.exit_code == 4
    assert sum("is no longer recorded" in record.message for record in caplog.records) == 1
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("wrong", ["postgresql+psycopg://x:s3cret@127.0.0.1:1/none", "postgresql+nodriver://x/y"])
def test_h6_server_that_cannot_be_reached_stops_before_anything_runs(wrong: str) -> None:
    with pytest.raises(HistoryWriteError) as caught:
        example(2).run(history=wrong)
    assert caught.value.exit_code == 4
    assert "s3cret" not in str(caught.value)


def test_foreign_flow_is_refused(url: str) -> None:
    run_id = example(2).run(history=url).context["flow_run_id"]
    with pytest.raises(ResumeMismatch, match="is of flow 'example'"):
        Flow("stranger", tasks=[task(lambda: 1, name="two")]).resume(run_id, history=url)


def test_approval_goes_through_the_server(url: str, tmp_path: Path) -> None:
    @task
    def ask() -> int:
        return pause_task("how many?", input=int)

    with Flow("asks", result=LocalResult(dir=str(tmp_path))) as flow:
        asked = ask()
    run = history.run(flow.run(history=url).context["flow_run_id"], store=url)
    assert [row.message for row in run.paused()] == ["how many?"]
    run.approve(input="many")
    state = run.approve(input=3, flow=flow)
    assert state is not None
    assert state.result[asked].result == 3
    assert run.paused() == []


def test_outcome_of_a_message_is_on_the_server(url: str) -> None:
    from prefectish.utilities.notifications import flush, slack_notifier

    with Flow("tells", state_handlers=[slack_notifier(only_states=[Success], webhook_secret="NO_SUCH_HOOK")]) as flow:
        task(lambda: 1)()
    state = flow.run(history=url)
    assert flush(60)
    (notice,) = history.run(state.context["flow_run_id"], store=url).notices()
    assert notice.error is not None
    assert "NO_SUCH_HOOK" in notice.error
